//! A secondary's view of one connection.
//!
//! ```text
//!            T                   S, B                   data
//! Idle ───────────> Transaction ──────> Data ──────────────────────┐
//!  ^                 │        ^─────────────────────────── S ──────┤
//!  │                 │        ^── last block ── Blocks <── B ──────┘
//!  └───────── C ─────┘        anything else: Failed, for ever
//! ```
//!
//! In Idle a primary of our own kind may make remarks, which change no state.
//!
//! Events come in the order begin, (record | blob, block*)*, commit; a commit only after its
//! checksum agreed. What was begun and not committed is for the caller to abort.

use bytes::{Bytes, BytesMut};

use super::control_message::{KNOCK, REMARK_LIMIT, Remark};
use super::message::{Message, RecordHeader, TransactionMeta};
use super::sized::{LimitExceeded, SizedReader, write_sized};
use super::stream_digest::StreamDigest;
use super::{BLOCK_LENGTH, HEADER_LIMIT, PeerError, RECORD_LIMIT, ZRS_2_0, ZRS_2_1};
use zrs_ids::{Tid, python_bytes};

/// A data record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its header.
    pub header: RecordHeader,
    /// Its data; `None` is the undoing of an object's creation.
    pub data: Option<Bytes>,
}

/// What the primary sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecondaryEvent {
    /// A transaction begins.
    Begin(TransactionMeta),
    /// A record of it.
    Record(Record),
    /// A record of it with a blob, of which so many blocks follow.
    Blob(Record, u32),
    /// A block of the blob.
    Block(Bytes),
    /// It is whole, and its checksum agrees.
    Commit(Tid),
    /// A primary of our own kind says something, between transactions.
    Remark(Remark),
}

#[derive(Debug)]
enum State {
    Idle,
    Transaction(Tid),
    /// Data are due; of a blob's record with the number of blocks after them.
    Data(Tid, RecordHeader, Option<u32>),
    /// So many blocks are due.
    Blocks(Tid, u32),
    Failed(PeerError),
}

/// The machine.
#[derive(Debug)]
pub struct SecondaryPeer {
    reader: SizedReader,
    state: State,
    digest: StreamDigest,
    /// The transaction before the present one.
    last: Tid,
    check_checksums: bool,
    blobs: bool,
    record_limit: usize,
}

impl SecondaryPeer {
    /// A machine for a connection that starts after `start`.
    pub fn new(start: Tid, check_checksums: bool) -> Self {
        Self {
            reader: SizedReader::default(),
            state: State::Idle,
            digest: StreamDigest::new(start),
            last: start,
            check_checksums,
            blobs: false,
            record_limit: RECORD_LIMIT,
        }
    }

    /// Takes blobs too, if the storage does.
    #[must_use]
    pub fn with_blobs(mut self, blobs: bool) -> Self {
        self.blobs = blobs;
        self
    }

    /// Refuses records longer than this, in bytes.
    #[must_use]
    pub fn with_record_limit(mut self, limit: usize) -> Self {
        self.record_limit = limit;
        self
    }

    /// What this machine says first; with the knock if the primary may answer with remarks.
    pub fn greeting(&self, knock: bool) -> Bytes {
        Self::handshake(self.last, self.blobs, knock)
    }

    /// What a secondary says first: the protocol, which tells whether it takes blobs, its
    /// last transaction, and the knock if the primary may answer with remarks.
    pub fn handshake(start: Tid, blobs: bool, knock: bool) -> Bytes {
        let protocol = if blobs { ZRS_2_1 } else { ZRS_2_0 };
        let mut out = BytesMut::new();
        for message in [&protocol[..], &start.as_bytes()[..]] {
            // Messages of eight bytes and less always fit.
            let _ = write_sized(message, &mut out);
        }
        if knock {
            for _ in 0..KNOCK {
                out.extend_from_slice(&Self::keep_alive());
            }
        }
        out.freeze()
    }

    /// A remark to a primary, which has said hello.
    pub fn remark(remark: &Remark) -> Bytes {
        let mut out = BytesMut::new();
        // A remark always fits.
        let _ = write_sized(&remark.write(), &mut out);
        out.freeze()
    }

    /// What a secondary says when it has nothing to say.
    pub const fn keep_alive() -> [u8; 4] {
        [0; 4]
    }

    /// Takes in bytes from the primary. A failed machine ignores them.
    pub fn receive_data(&mut self, data: &[u8]) {
        self.receive_bytes(Bytes::copy_from_slice(data));
    }

    /// Takes them in without copying: records will be parts of them.
    pub fn receive_bytes(&mut self, data: Bytes) {
        if !matches!(self.state, State::Failed(_)) {
            self.reader.push(data);
        }
    }

    /// What came next, `None` until more arrives.
    ///
    /// # Errors
    /// [`PeerError`] when the primary broke the protocol or the stream was damaged, and
    /// again on every later call.
    pub fn next_event(&mut self) -> Result<Option<SecondaryEvent>, PeerError> {
        if let State::Failed(error) = &self.state {
            return Err(error.clone());
        }
        self.advance().inspect_err(|error| {
            self.reader = SizedReader::default();
            self.state = State::Failed(error.clone());
        })
    }

    fn advance(&mut self) -> Result<Option<SecondaryEvent>, PeerError> {
        loop {
            let limit = match self.state {
                State::Data(..) => self.record_limit,
                State::Blocks(..) => BLOCK_LENGTH,
                _ => HEADER_LIMIT,
            };
            let seen = self.reader.seen();
            let message = self
                .reader
                .next(limit)
                .map_err(PeerError::MessageTooLarge)?;
            let Some(message) = message else {
                if matches!(self.state, State::Data(..)) {
                    // Whatever is to come of it, so much of the checksum is done.
                    self.digest.update(self.reader.unseen());
                }
                return Ok(None);
            };
            let event = match std::mem::replace(&mut self.state, State::Idle) {
                State::Failed(error) => return Err(error),
                State::Idle => match Remark::read(&message) {
                    Some(remark) => self.remark_heard(remark, &message)?,
                    None => Some(self.begin(&message)?),
                },
                State::Transaction(tid) => self.within(tid, &message)?,
                State::Data(tid, header, blocks) => {
                    self.digest.update(message.get(seen..).unwrap_or_default());
                    Some(self.data(tid, header, blocks, message))
                }
                State::Blocks(tid, due) => {
                    self.digest.update(&message);
                    self.state = blocks_due(tid, due.saturating_sub(1));
                    Some(SecondaryEvent::Block(message))
                }
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    fn remark_heard(
        &mut self,
        remark: Option<Remark>,
        message: &[u8],
    ) -> Result<Option<SecondaryEvent>, PeerError> {
        if message.len() > REMARK_LIMIT {
            return Err(PeerError::MessageTooLarge(LimitExceeded {
                limit: REMARK_LIMIT,
                length: message.len(),
            }));
        }
        self.digest.update(message);
        if let Some(remark) = &remark {
            self.digest.go_on_with(remark.checksum());
        }
        Ok(remark.map(SecondaryEvent::Remark))
    }

    fn data(
        &mut self,
        tid: Tid,
        header: RecordHeader,
        blocks: Option<u32>,
        message: Bytes,
    ) -> SecondaryEvent {
        self.state = blocks_due(tid, blocks.unwrap_or(0));
        let data = (!message.is_empty()).then_some(message);
        let record = Record { header, data };
        match blocks {
            Some(blocks) => SecondaryEvent::Blob(record, blocks),
            None => SecondaryEvent::Record(record),
        }
    }

    fn begin(&mut self, message: &[u8]) -> Result<SecondaryEvent, PeerError> {
        match Message::read(message)? {
            Message::Transaction(meta) if meta.tid <= self.last => {
                Err(PeerError::TidNotIncreasing {
                    tid: meta.tid,
                    last: self.last,
                })
            }
            Message::Transaction(meta) => {
                self.digest.update(message);
                self.state = State::Transaction(meta.tid);
                Ok(SecondaryEvent::Begin(meta))
            }
            other => Err(PeerError::UnexpectedMessage {
                found: other.kind(),
                during: "between transactions",
            }),
        }
    }

    fn within(&mut self, tid: Tid, message: &[u8]) -> Result<Option<SecondaryEvent>, PeerError> {
        match Message::read(message)? {
            Message::Store(header) => self.record(tid, header, None, message),
            Message::Blob(header, blocks) if self.blobs => {
                self.record(tid, header, Some(blocks), message)
            }
            Message::Commit(digest) => {
                self.check(tid, digest.as_deref())?;
                self.digest.update(message);
                self.last = tid;
                Ok(Some(SecondaryEvent::Commit(tid)))
            }
            other => Err(PeerError::UnexpectedMessage {
                found: other.kind(),
                during: "within a transaction",
            }),
        }
    }

    fn record(
        &mut self,
        tid: Tid,
        header: RecordHeader,
        blocks: Option<u32>,
        message: &[u8],
    ) -> Result<Option<SecondaryEvent>, PeerError> {
        if header.tid > tid {
            let record = header.tid;
            return Err(PeerError::RecordTidTooHigh { tid, record });
        }
        if blocks.is_some() && header.tid != tid {
            let record = header.tid;
            return Err(PeerError::BlobTidDiffers { tid, record });
        }
        self.digest.update(message);
        self.state = State::Data(tid, header, blocks);
        Ok(None)
    }

    fn check(&self, tid: Tid, got: Option<&[u8]>) -> Result<(), PeerError> {
        let expected = self.digest.digest();
        if !self.check_checksums || got == Some(&expected.as_bytes()[..]) {
            return Ok(());
        }
        let got = python_bytes(got.unwrap_or_default());
        Err(PeerError::BadChecksum { tid, expected, got })
    }
}

fn blocks_due(tid: Tid, due: u32) -> State {
    if due == 0 {
        State::Transaction(tid)
    } else {
        State::Blocks(tid, due)
    }
}
