//! Scanning a file for transactions and damage.
//!
//! Whether a damaged transaction is an unfinished one is decided by [`super::view`].

use std::io;
use std::sync::Arc;

use super::error::Damage;
use super::payloads::{Begin, End};
use super::reader::Reader;
use super::record::{HEAD_LEN, Head, Kind};
use zrs_ids::Oid;
use zrs_vfs::VfsFile;

/// A record of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordAt {
    pub(super) position: u64,
    pub(super) head: Head,
}

/// A transaction, or the readable part of one.
#[derive(Clone, Debug, Default)]
pub(super) struct ScannedTransaction {
    pub(super) start: u64,
    /// The position at which the next one begins; `None` if nothing after it is readable.
    pub(super) end: Option<u64>,
    pub(super) number: Option<u64>,
    pub(super) begin: Option<Begin>,
    pub(super) finish: Option<End>,
    /// The position of the record that ends it; 0 without one.
    pub(super) last: u64,
    /// The records with sound heads, including blocks of streams.
    pub(super) records: Vec<RecordAt>,
    /// The damage, with positions.
    pub(super) damage: Vec<(u64, Damage)>,
}

impl ScannedTransaction {
    /// Whether it is complete and has no damage.
    pub(super) fn is_whole(&self) -> bool {
        self.damage.is_empty() && self.begin.is_some() && self.finish.is_some()
    }

    /// Whether its end marks it as committed.
    pub(super) fn is_committed(&self) -> bool {
        self.finish.as_ref().is_some_and(|end| end.committed)
    }
}

/// Reads transactions one after the other.
pub(super) struct Scanner {
    reader: Reader,
}

impl Scanner {
    /// A scanner of the first `len` bytes of a file.
    pub(super) fn new(file: Arc<dyn VfsFile>, len: u64) -> Self {
        Self {
            reader: Reader::new(file, len),
        }
    }

    /// The transaction that begins at `start`; `None` at the end of the file.
    pub(super) fn transaction(&mut self, start: u64) -> io::Result<Option<ScannedTransaction>> {
        if start >= self.reader.limit() {
            return Ok(None);
        }
        let mut item = ScannedTransaction {
            start,
            ..ScannedTransaction::default()
        };
        let mut at = start;
        loop {
            let head = match self.head(at)? {
                Ok(head) => head,
                Err(damage) => {
                    item.damage.push((at, damage));
                    match self.next_head(at + 1)? {
                        Some(next) => {
                            at = next;
                            continue;
                        }
                        None => return Ok(Some(item)),
                    }
                }
            };
            match head.kind {
                Kind::Begin if at == start => self.begin(&mut item, &head)?,
                Kind::Begin => {
                    item.damage.push((at, Damage::NoEnd));
                    item.end = Some(at);
                    return Ok(Some(item));
                }
                Kind::End => {
                    self.finish(&mut item, at, &head)?;
                    return Ok(Some(item));
                }
                _ => self.record(&mut item, at, &head)?,
            }
            at = head.end(at);
        }
    }

    fn head(&mut self, at: u64) -> io::Result<Result<Head, Damage>> {
        let limit = self.reader.limit();
        let bytes = self.reader.bytes(at, HEAD_LEN)?;
        let Some(bytes) = bytes.and_then(<[u8]>::first_chunk) else {
            return Ok(Err(Damage::Cut));
        };
        Ok(match Head::parse(bytes, at) {
            Ok(head) if head.end(at) > limit => Err(Damage::Cut),
            parsed => parsed,
        })
    }

    /// The position of the next sound head.
    fn next_head(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut at = from;
        while let Some(bytes) = self.reader.bytes(at, HEAD_LEN)? {
            if bytes.first().copied().and_then(Kind::of).is_some() && self.head(at)?.is_ok() {
                return Ok(Some(at));
            }
            at += 1;
        }
        Ok(None)
    }

    fn payload(&mut self, at: u64, head: &Head) -> io::Result<Option<&[u8]>> {
        let len = usize::try_from(head.len).unwrap_or(usize::MAX);
        let payload = self.reader.bytes(Head::payload(at), len)?;
        Ok(payload.filter(|payload| head.matches(payload)))
    }

    fn begin(&mut self, item: &mut ScannedTransaction, head: &Head) -> io::Result<()> {
        item.number = Some(head.transaction);
        item.begin = self.payload(item.start, head)?.and_then(Begin::parse);
        if item.begin.is_none() {
            item.damage.push((item.start, Damage::Payload));
        }
        Ok(())
    }

    fn finish(&mut self, item: &mut ScannedTransaction, at: u64, head: &Head) -> io::Result<()> {
        item.end = Some(head.end(at));
        item.last = at;
        item.finish = self.payload(at, head)?.and_then(End::parse);
        let number = *item.number.get_or_insert(head.transaction);
        if item.finish.is_none() {
            item.damage.push((at, Damage::Payload));
        } else if head.previous != item.start || number != head.transaction {
            item.damage.push((at, Damage::Unexpected));
        }
        Ok(())
    }

    fn record(&mut self, item: &mut ScannedTransaction, at: u64, head: &Head) -> io::Result<()> {
        if self.payload(at, head)?.is_none() {
            item.damage.push((at, Damage::Payload));
        } else if item.number.is_some_and(|number| head.transaction > number)
            || head.oid == Oid::ZERO
        {
            item.damage.push((at, Damage::Unexpected));
        }
        item.records.push(RecordAt {
            position: at,
            head: *head,
        });
        Ok(())
    }
}
