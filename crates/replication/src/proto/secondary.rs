//! The secondary's side of one connection: parses and checks the stream of the primary.
//!
//! ```text
//!            T                   S, B                   data
//! Idle ───────────> Transaction ──────> Data ──────────────────────┐
//!  ^                 │        ^─────────────────────────── S ──────┤
//!  │                 │        ^── last block ── Blocks <── B ──────┘
//!  └───────── C ─────┘        anything else: Failed, permanently
//! ```
//!
//! In Idle a zrs primary may send control messages, which do not change the state.
//!
//! Events come in the order begin, (record | blob, block*)*, commit. A commit is reported only
//! if its checksum matches. The caller aborts a transaction that was begun and not committed.

use bytes::{Bytes, BytesMut};

use super::control_message::{CONTROL_MESSAGE_LIMIT, ControlMessage, OFFER_LENGTH, Parsed};
use super::message::{Message, RecordHeader, TransactionBegin};
use super::sized::{LimitExceeded, SizedReader, write_sized};
use super::stream_digest::StreamDigest;
use super::{BLOCK_LENGTH, HEADER_LIMIT, PeerError, RECORD_LIMIT, ZRS_2_0, ZRS_2_1};
use zrs_ids::{Tid, python_bytes};

/// A data record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its header.
    pub header: RecordHeader,
    /// Its data; `None` undoes the creation of the object.
    pub data: Option<Bytes>,
}

/// An event of the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecondaryEvent {
    /// A transaction begins.
    Begin(TransactionBegin),
    /// A record of the transaction.
    Record(Record),
    /// A record with a blob, followed by this many blocks.
    Blob(Record, u32),
    /// A block of the blob.
    Block(Bytes),
    /// The transaction is complete, and its checksum matches.
    Commit(Tid),
    /// A control message, between transactions.
    ControlMessage(ControlMessage),
}

#[derive(Debug)]
enum State {
    Idle,
    Transaction(Tid),
    /// Expecting the data of a record; with the number of blocks after it if it has a blob.
    Data(Tid, RecordHeader, Option<u32>),
    /// Expecting this many blocks.
    Blocks(Tid, u32),
    Failed(PeerError),
}

/// The state machine of a secondary's connection.
#[derive(Debug)]
pub struct SecondaryPeer {
    reader: SizedReader,
    state: State,
    digest: StreamDigest,
    /// The last complete transaction.
    last: Tid,
    check_checksums: bool,
    blobs: bool,
    record_limit: usize,
}

impl SecondaryPeer {
    /// A state machine for a connection that starts after `start`.
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

    /// Whether to accept blobs.
    #[must_use]
    pub fn with_blobs(mut self, blobs: bool) -> Self {
        self.blobs = blobs;
        self
    }

    /// Sets the maximum length of a record, in bytes. For tests.
    #[must_use]
    pub fn with_record_limit(mut self, limit: usize) -> Self {
        self.record_limit = limit;
        self
    }

    /// The handshake of this connection; with a capability offer if `offer` is set.
    pub fn greeting(&self, offer: bool) -> Bytes {
        Self::handshake(self.last, self.blobs, offer)
    }

    /// The first messages of a secondary: the protocol, which depends on whether it accepts
    /// blobs, its last transaction, and a capability offer if `offer` is set.
    pub fn handshake(start: Tid, blobs: bool, offer: bool) -> Bytes {
        let protocol = if blobs { ZRS_2_1 } else { ZRS_2_0 };
        let mut out = BytesMut::new();
        for message in [&protocol[..], &start.as_bytes()[..]] {
            // Messages of at most eight bytes always fit.
            let _ = write_sized(message, &mut out);
        }
        if offer {
            for _ in 0..OFFER_LENGTH {
                out.extend_from_slice(&Self::keep_alive());
            }
        }
        out.freeze()
    }

    /// Encodes a control message. Allowed only after the primary has sent a hello.
    pub fn control_message(control_message: &ControlMessage) -> Bytes {
        let mut out = BytesMut::new();
        // A control message always fits.
        let _ = write_sized(&control_message.write(), &mut out);
        out.freeze()
    }

    /// A keep-alive message.
    pub const fn keep_alive() -> [u8; 4] {
        [0; 4]
    }

    /// Adds bytes from the primary. Ignores them after an error.
    pub fn receive_data(&mut self, data: &[u8]) {
        self.receive_bytes(Bytes::copy_from_slice(data));
    }

    /// Like [`Self::receive_data`], without copying: records become slices of these bytes.
    pub fn receive_bytes(&mut self, data: Bytes) {
        if !matches!(self.state, State::Failed(_)) {
            self.reader.push(data);
        }
    }

    /// The next event; `None` until more bytes arrive.
    ///
    /// # Errors
    /// [`PeerError`] after a violation of the protocol or damage of the stream, and again on
    /// every later call.
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
                    // Computes the checksum while the message arrives, instead of all at its end.
                    self.digest.update(self.reader.unseen());
                }
                return Ok(None);
            };
            let event = match std::mem::replace(&mut self.state, State::Idle) {
                State::Failed(error) => return Err(error),
                State::Idle => match ControlMessage::read(&message) {
                    Parsed::NotControl => Some(self.begin(&message)?),
                    Parsed::Unknown => self.receive_control_message(None, &message)?,
                    Parsed::Known(known) => self.receive_control_message(Some(known), &message)?,
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

    /// Checks a control message; `None` if it is unknown.
    fn receive_control_message(
        &mut self,
        control_message: Option<ControlMessage>,
        message: &[u8],
    ) -> Result<Option<SecondaryEvent>, PeerError> {
        if message.len() > CONTROL_MESSAGE_LIMIT {
            return Err(PeerError::MessageTooLarge(LimitExceeded {
                limit: CONTROL_MESSAGE_LIMIT,
                length: message.len(),
            }));
        }
        self.digest.update(message);
        if let Some(control_message) = &control_message {
            self.digest.switch_to(control_message.checksum());
        }
        Ok(control_message.map(SecondaryEvent::ControlMessage))
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
