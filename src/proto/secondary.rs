//! A secondary's view of one connection.
//!
//! ```text
//!            T                    S                     data
//! Idle ───────────> Transaction ─────> Data ─────────────────┐
//!  ^                 │        ^──────────────────────────────┘
//!  └───────── C ─────┘        anything else: Failed, for ever
//! ```
//!
//! Events come in the order begin, record*, commit; a commit only after its checksum
//! agreed. What was begun and not committed is for the caller to abort.

use bytes::{Bytes, BytesMut};

use super::message::{Message, RecordHeader, TransactionMeta};
use super::sized::{SizedReader, write_sized};
use super::stream_md5::StreamMd5;
use super::{HEADER_LIMIT, PeerError, RECORD_LIMIT, ZRS_2_0};
use crate::ids::{Tid, python_bytes};

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
    /// It is whole, and its checksum agrees.
    Commit(Tid),
}

#[derive(Debug)]
enum State {
    Idle,
    Transaction(Tid),
    Data(Tid, RecordHeader),
    Failed(PeerError),
}

/// The machine.
#[derive(Debug)]
pub struct SecondaryPeer {
    reader: SizedReader,
    state: State,
    md5: StreamMd5,
    /// The transaction before the present one.
    last: Tid,
    check_checksums: bool,
    record_limit: usize,
}

impl SecondaryPeer {
    /// A machine for a connection that starts after `start`.
    pub fn new(start: Tid, check_checksums: bool) -> Self {
        Self {
            reader: SizedReader::default(),
            state: State::Idle,
            md5: StreamMd5::new(start),
            last: start,
            check_checksums,
            record_limit: RECORD_LIMIT,
        }
    }

    /// Refuses records longer than this, in bytes.
    #[must_use]
    pub fn with_record_limit(mut self, limit: usize) -> Self {
        self.record_limit = limit;
        self
    }

    /// What a secondary says first: the protocol and its last transaction.
    pub fn handshake(start: Tid) -> Bytes {
        let mut out = BytesMut::new();
        for message in [&ZRS_2_0[..], &start.as_bytes()[..]] {
            // Messages of eight bytes and less always fit.
            let _ = write_sized(message, &mut out);
        }
        out.freeze()
    }

    /// What a secondary says when it has nothing to say.
    pub const fn keep_alive() -> [u8; 4] {
        [0; 4]
    }

    /// Takes in bytes from the primary. A failed machine ignores them.
    pub fn receive_data(&mut self, data: &[u8]) {
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
                _ => HEADER_LIMIT,
            };
            let message = self
                .reader
                .next(limit)
                .map_err(PeerError::MessageTooLarge)?;
            let Some(message) = message else {
                return Ok(None);
            };
            let event = match std::mem::replace(&mut self.state, State::Idle) {
                State::Failed(error) => return Err(error),
                State::Idle => Some(self.begin(&message)?),
                State::Transaction(tid) => self.within(tid, &message)?,
                State::Data(tid, header) => {
                    self.state = State::Transaction(tid);
                    self.md5.update(&message);
                    let data = (!message.is_empty()).then_some(message);
                    Some(SecondaryEvent::Record(Record { header, data }))
                }
            };
            if event.is_some() {
                return Ok(event);
            }
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
                self.md5.update(message);
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
            Message::Store(header) if header.tid > tid => Err(PeerError::RecordTidTooHigh {
                tid,
                record: header.tid,
            }),
            Message::Store(header) => {
                self.md5.update(message);
                self.state = State::Data(tid, header);
                Ok(None)
            }
            Message::Commit(digest) => {
                self.check(tid, digest.as_deref())?;
                self.md5.update(message);
                self.last = tid;
                Ok(Some(SecondaryEvent::Commit(tid)))
            }
            other => Err(PeerError::UnexpectedMessage {
                found: other.kind(),
                during: "within a transaction",
            }),
        }
    }

    fn check(&self, tid: Tid, got: Option<&[u8]>) -> Result<(), PeerError> {
        let expected = self.md5.digest();
        if !self.check_checksums || got == Some(&expected.as_bytes()[..]) {
            return Ok(());
        }
        let got = python_bytes(got.unwrap_or_default());
        Err(PeerError::BadChecksum { tid, expected, got })
    }
}
