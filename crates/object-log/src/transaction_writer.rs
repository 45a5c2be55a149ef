//! The bytes of a transaction that is being written.
//!
//! Records are collected in a buffer that is written when it is long. The record that ends
//! the transaction is prepared by [`TransactionWriter::prepare_end`], which leaves room for it
//! in the file, so that writing it needs no more space.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::error::{LogError, LogResult};
use super::payloads::{BLOCK_LEN, Begin, End, StreamExtent};
use super::record::{Head, Kind};
use super::scan::{RecordAt, ScannedTransaction};
use zrs_ids::Oid;
use zrs_vfs::VfsFile;

/// The buffer is written when it has this many bytes.
const BUFFER: usize = 4 << 20;

/// A transaction that is being written.
pub(super) struct TransactionWriter {
    file: Arc<dyn VfsFile>,
    start: u64,
    number: u64,
    begin: Begin,
    buffer: Vec<u8>,
    /// The position in the file of the buffer's first byte.
    at: u64,
    records: Vec<RecordAt>,
    entries: Vec<(Oid, u64)>,
    root: Option<Oid>,
    next_oid: u64,
    /// Objects and streams that are referred to and were not in the log before, each with the
    /// first object that refers to it (`None` for the root). The transaction must write them.
    unresolved: BTreeMap<Oid, Option<Oid>>,
    stream: Option<StreamBuffer>,
    end: Option<EndRecord>,
}

/// A stream that is being written, and those of its bytes that do not fill a block yet.
struct StreamBuffer {
    oid: Oid,
    extent: StreamExtent,
    rest: Vec<u8>,
}

/// The record that ends a transaction.
struct EndRecord {
    position: u64,
    bytes: Vec<u8>,
    payload: End,
}

/// A transaction whose end is prepared.
pub(super) struct Prepared {
    writer: TransactionWriter,
    end: EndRecord,
}

impl TransactionWriter {
    /// A transaction that begins at `start`.
    pub(super) fn new(file: Arc<dyn VfsFile>, start: u64, number: u64, begin: Begin) -> Self {
        let mut writer = Self {
            file,
            start,
            number,
            begin,
            buffer: Vec::with_capacity(1024),
            at: start,
            records: Vec::new(),
            entries: Vec::new(),
            root: None,
            next_oid: 1,
            unresolved: BTreeMap::new(),
            stream: None,
            end: None,
        };
        let payload = begin.to_bytes();
        let len = u32::try_from(payload.len()).unwrap_or(0);
        let head = Head::of(Kind::Begin, Oid::ZERO, number, &payload, len);
        writer.append(head, &payload);
        writer
    }

    /// The same transaction without any records.
    pub(super) fn emptied(&self) -> Self {
        Self::new(Arc::clone(&self.file), self.start, self.number, self.begin)
    }

    /// Set the root and the next object id of the state that the transaction changes.
    pub(super) fn continue_from(&mut self, root: Option<Oid>, next_oid: u64) {
        self.root = root;
        self.next_oid = self.next_oid.max(next_oid);
    }

    pub(super) fn file(&self) -> &Arc<dyn VfsFile> {
        &self.file
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The position of the next record.
    pub(super) fn position(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    pub(super) fn new_oid(&mut self) -> Oid {
        let oid = Oid::from_u64(self.next_oid);
        self.next_oid = self.next_oid.saturating_add(1);
        oid
    }

    pub(super) fn set_root(&mut self, oid: Oid) {
        self.root = Some(oid);
    }

    /// Note that the transaction has to write `target`, because `oid` or the root refers to it.
    pub(super) fn require(&mut self, target: Oid, oid: Option<Oid>) {
        self.unresolved.entry(target).or_insert(oid);
    }

    /// An object or stream that is referred to but neither was in the log before nor has been
    /// written since, and the object that refers to it.
    pub(super) fn first_unresolved(&mut self) -> Option<(Oid, Option<Oid>)> {
        if !self.unresolved.is_empty() {
            for (oid, _) in &self.entries {
                self.unresolved.remove(oid);
            }
        }
        let (target, oid) = self.unresolved.first_key_value()?;
        Some((*target, *oid))
    }

    /// Append a record; returns its position.
    pub(super) fn append(&mut self, head: Head, payload: &[u8]) -> u64 {
        let position = self.position();
        self.buffer.extend_from_slice(&head.to_bytes(position));
        self.buffer.extend_from_slice(payload);
        if matches!(head.kind, Kind::Full | Kind::Change | Kind::Stream) {
            self.records.push(RecordAt { position, head });
            self.entries.push((head.oid, position));
            self.next_oid = self.next_oid.max(head.oid.as_u64().saturating_add(1));
        }
        position
    }

    /// Begin a stream.
    pub(super) fn begin_stream(&mut self) -> Oid {
        let oid = self.new_oid();
        let extent = StreamExtent {
            first: self.position(),
            len: 0,
        };
        let rest = Vec::new();
        self.stream = Some(StreamBuffer { oid, extent, rest });
        oid
    }

    /// Append bytes to the stream; returns those that are left after a whole block was
    /// appended, or `None` if no stream was begun.
    pub(super) fn extend_stream<'a>(&mut self, data: &'a [u8]) -> Option<&'a [u8]> {
        let stream = self.stream.as_mut()?;
        let (now, later) = data.split_at(data.len().min(BLOCK_LEN - stream.rest.len()));
        stream.rest.extend_from_slice(now);
        if stream.rest.len() == BLOCK_LEN {
            self.append_block();
        }
        Some(later)
    }

    /// End the stream; `None` if no stream was begun.
    pub(super) fn end_stream(&mut self) -> Option<()> {
        self.append_block();
        let stream = self.stream.take()?;
        let payload = stream.extent.to_bytes();
        let head = Head::of(Kind::Stream, stream.oid, self.number, &payload, 16);
        self.append(head, &payload);
        Some(())
    }

    fn append_block(&mut self) {
        let Some(mut stream) = self.stream.take() else {
            return;
        };
        if let (Ok(len @ 1..), number) = (u32::try_from(stream.rest.len()), self.number) {
            let head = Head::of(Kind::Block, stream.oid, number, &stream.rest, len);
            self.append(head, &stream.rest);
            stream.extent.len += u64::from(len);
        }
        stream.rest.clear();
        self.stream = Some(stream);
    }

    /// Prepare the record that ends the transaction, and leave room for it.
    pub(super) fn prepare_end(&mut self, committed: bool) -> LogResult<()> {
        let end = End {
            committed,
            root: self.root,
            next_oid: self.next_oid,
            entries: std::mem::take(&mut self.entries),
        };
        let payload = end.to_bytes();
        let count = Oid::from_u64(end.entries.len() as u64);
        let too_long = |_error| LogError::TooLong(payload.len());
        let len = u32::try_from(payload.len()).map_err(too_long)?;
        let mut head = Head::of(Kind::End, count, self.number, &payload, len);
        head.previous = self.start;
        let position = self.position();
        let mut bytes = head.to_bytes(position).to_vec();
        bytes.extend_from_slice(&payload);
        self.buffer.resize(self.buffer.len() + bytes.len(), 0);
        self.end = Some(EndRecord {
            position,
            bytes,
            payload: end,
        });
        Ok(())
    }

    /// The transaction with its end, if that was prepared.
    pub(super) fn prepared(mut self) -> Option<Prepared> {
        let end = self.end.take()?;
        Some(Prepared { writer: self, end })
    }

    pub(super) fn flush_if_long(&mut self) -> io::Result<()> {
        if self.buffer.len() < BUFFER {
            return Ok(());
        }
        self.flush()
    }

    /// Write the buffer.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Cut the file at the beginning of the transaction.
    pub(super) fn cut(&self) -> io::Result<()> {
        self.file.set_len(self.start)
    }
}

impl Prepared {
    /// Write the end. Everything else has been written before.
    pub(super) fn write_end(&self) -> io::Result<()> {
        self.writer
            .file
            .write_all_at(&self.end.bytes, self.end.position)
    }

    /// Write the buffer and the end at once.
    pub(super) fn write_all(&mut self) -> io::Result<()> {
        let writer = &mut self.writer;
        let room = writer.buffer.len().saturating_sub(self.end.bytes.len());
        writer.buffer.truncate(room);
        writer.buffer.extend_from_slice(&self.end.bytes);
        writer.flush()
    }

    /// Cut off the transaction after its end could not be written; returns whether that was
    /// done. If not, it is unknown what the file holds.
    pub(super) fn undo(&self) -> bool {
        let mut found = vec![0; self.end.bytes.len()];
        let read = self.writer.file.read_full_at(&mut found, self.end.position);
        // If the end is in the file in spite of the error, others may have seen it.
        let unseen = read.is_ok() && found != self.end.bytes;
        unseen && self.writer.cut().is_ok()
    }

    /// The position at which the transaction ends.
    pub(super) fn end(&self) -> u64 {
        self.end.position + self.end.bytes.len() as u64
    }

    /// The transaction as a reader of the file would find it.
    pub(super) fn into_scanned(self) -> ScannedTransaction {
        ScannedTransaction {
            start: self.writer.start,
            end: Some(self.end()),
            number: Some(self.writer.number),
            begin: Some(self.writer.begin),
            last: self.end.position,
            finish: Some(self.end.payload),
            records: self.writer.records,
            damage: Vec::new(),
        }
    }
}
