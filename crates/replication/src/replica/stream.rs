//! The bytes for one secondary: a file followed from its start tid on.
//!
//! A stream waits on its [`Feed`] and reads with a file handle of its own, on a thread that may
//! block. The driver takes its chunks as fast as the secondary reads them, so a slow secondary
//! costs one chunk of memory and never delays a commit.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::blobs::{BlobError, BlobReader};
use super::digest::transaction_digest;
use super::feed::{HEARTBEAT_INTERVAL, Published};
use super::listing::{Listing, Next};
use super::stream_handle::StreamHandle;
use super::stream_progress::{History, StreamProgress};
use super::{Divergence, Feed, log_messages};
use crate::proto::{
    Checksum, ControlMessage, DroppedOffer, FailureReason, Outgoing, OutgoingError,
    PrimaryPosition, RecordHeader, RefusalReason, TransactionBegin,
};
use zrs_ids::Tid;
use zrs_storage::error::StorageError;
use zrs_storage::format::TransactionStatus;
use zrs_storage::pickle::{Dialect, Extension};
use zrs_storage::{DataRecord, RecordCursor, RestOfData, StartPosition, Tail, TransactionRecord};
use zrs_vfs::Vfs;

/// A chunk is complete when it has this many bytes, or when no more data is there.
const CHUNK: usize = 1 << 15;
/// At most this much of a record's data is read, checked and sent at once.
const PIECE: usize = 1 << 14;
/// Heartbeats skipped while there is still data to send. The one after the last data tells the
/// secondary that it has everything.
const HEARTBEATS_SKIPPED: u64 = 1;
/// The pause before opening a file again that a pack is replacing.
const REPLACED_FILE_DELAY: Duration = Duration::from_millis(20);

/// The number of pauses, and the length of each, in which the stream waits for a secondary to
/// request the dropped transactions that it was offered.
const WAITS_FOR_QUESTION: u32 = 100;

/// Why a stream failed.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The file cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A blob cannot be sent.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A transaction cannot be expressed in the protocol.
    #[error("transaction {tid} at position {position}: {error}")]
    Outgoing {
        /// The transaction.
        tid: Tid,
        /// Its position in the file.
        position: u64,
        /// What is wrong with it.
        error: OutgoingError,
    },
}

/// The transaction that is being sent.
struct Sending {
    place: Place,
    records: RecordCursor,
    /// The rest of the last record's data, if they are long.
    rest: RestOfData,
    /// The blob of the last record, if blocks of it are left.
    blob: Option<BlobReader>,
}

/// The position of a transaction, for errors.
#[derive(Clone, Copy)]
struct Place {
    tid: Tid,
    position: u64,
}

impl Place {
    fn error(self) -> impl FnOnce(OutgoingError) -> StreamError {
        move |error| StreamError::Outgoing {
            tid: self.tid,
            position: self.position,
            error,
        }
    }
}

/// The stream for one secondary.
pub struct TransactionStream {
    handle: StreamHandle,
    peer: String,
    vfs: Arc<dyn Vfs>,
    start: Tid,
    tail: Option<Tail>,
    shipping: Option<Sending>,
    /// The transaction that is sent next.
    next: Option<TransactionRecord>,
    /// The list of dropped transactions, once the secondary has requested it.
    listing: Option<Listing>,
    outgoing: Outgoing,
    progress: StreamProgress,
    /// The greeting for a secondary that offers capabilities.
    greeting: Option<ControlMessage>,
    /// Whether the greeting offers the list of dropped transactions.
    offered: bool,
    /// The number of pauses left to wait for the request before anything is sent.
    request_waits: u32,
    /// The interval of the feed's heartbeats, if the driver sends any.
    heartbeat_interval: Option<Duration>,
    /// The last heartbeat of the feed that was sent; `None` before the greeting.
    heartbeat: Option<u64>,
    /// Why the secondary was refused.
    refusal: Option<Divergence>,
    /// The error after the last chunk.
    failure: Option<StreamError>,
    /// Whether the end was returned: nothing is encoded or logged after it.
    ended: bool,
}

impl TransactionStream {
    /// The stream of everything after `start`, for a secondary that the log shows as `peer`. The
    /// file is not opened yet.
    pub fn new(
        feed: Arc<Feed>,
        vfs: Arc<dyn Vfs>,
        peer: String,
        start: Tid,
        dialect: Dialect,
    ) -> Self {
        Self {
            handle: StreamHandle {
                feed,
                stopped: Arc::default(),
                capability_offered: Arc::default(),
                asked: Arc::default(),
            },
            peer,
            vfs,
            start,
            tail: None,
            shipping: None,
            next: None,
            listing: None,
            outgoing: Outgoing::new(start, dialect),
            progress: StreamProgress::new(start),
            greeting: None,
            offered: false,
            request_waits: WAITS_FOR_QUESTION,
            heartbeat_interval: None,
            heartbeat: None,
            refusal: None,
            failure: None,
            ended: false,
        }
    }

    /// Sends a heartbeat for each one of the feed; the driver triggers them every
    /// [`HEARTBEAT_INTERVAL`].
    #[must_use]
    pub fn with_heartbeat(mut self) -> Self {
        self.heartbeat_interval = Some(HEARTBEAT_INTERVAL);
        self
    }

    /// Does not wait for the secondary's request for dropped transactions, for drivers without a
    /// clock.
    #[must_use]
    pub fn without_waiting_for_requests(mut self) -> Self {
        self.request_waits = 0;
        self
    }

    /// A handle that ends the stream.
    pub fn handle(&self) -> StreamHandle {
        self.handle.clone()
    }

    /// Its progress.
    pub fn progress(&self) -> StreamProgress {
        self.progress
    }

    /// The fork because of which the secondary is refused, if any.
    pub fn refusal(&self) -> Option<Divergence> {
        self.refusal
    }

    /// Releases the memory that the last chunk required, while the secondary does not take it;
    /// the next chunk allocates it again.
    pub fn release_memory(&mut self) {
        self.outgoing.release_memory();
        if let Some(tail) = &mut self.tail {
            tail.release_memory();
        }
        if let Some(blob) = self.shipping.as_mut().and_then(|it| it.blob.as_mut()) {
            blob.release_memory();
        }
    }

    /// Waits for bytes to send; `None` when the stream was stopped, the secondary was refused
    /// because of a fork, or the feed is finished and all of it was sent.
    ///
    /// # Errors
    /// [`StreamError`], after everything before it was returned. Further calls return `None`, as
    /// after any other end.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        if self.ended {
            return Ok(None);
        }
        let chunk = self.wait_for_chunk();
        self.ended = !matches!(chunk, Ok(Some(_)));
        chunk
    }

    fn wait_for_chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        loop {
            // Read before everything that a change of the feed announces.
            let published = self.handle.feed.published();
            if self.handle.is_stopped() {
                return Ok(None);
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            // A refusal was encoded with the previous chunk, if at all.
            if self.refusal.is_some() {
                return Ok(None);
            }
            let filled = self.fill(published);
            if let Err(error) = &filled {
                self.report_failure(error);
            }
            if !self.outgoing.is_empty() {
                self.failure = filled.err();
                return Ok(Some(self.outgoing.take()));
            }
            let more_must_come = filled?;
            if self.refusal.is_some() {
                return Ok(None);
            }
            if more_must_come {
                self.handle.feed.wait_for(published, REPLACED_FILE_DELAY);
            } else if published.finished {
                return Ok(None);
            } else {
                self.handle.feed.wait(published);
            }
        }
    }

    /// Encodes until a chunk is complete, or no more data is there. Returns whether the file is
    /// being replaced, so that the rest is available only a moment later.
    fn fill(&mut self, published: Published) -> Result<bool, StreamError> {
        let (limit, end) = (published.tid, published.end);
        while self.outgoing.len() < CHUNK && self.refusal.is_none() && !self.handle.is_stopped() {
            if self.shipping.is_some() {
                self.ship()?;
                continue;
            }
            let Some(tail) = &mut self.tail else {
                match self.open(end)? {
                    Some(tail) => self.begin_after(tail, limit, end)?,
                    None => return Ok(true),
                }
                continue;
            };
            if self.handle.is_capability_offered() {
                if let Some(greeting) = self.greeting.take() {
                    self.outgoing.control_message(&greeting);
                    self.heartbeat = Some(published.heartbeats);
                }
            }
            let has_greeted = self.heartbeat.is_some() && self.greeting.is_none();
            if has_greeted && self.request_waits > 0 && self.handle.asked().is_none() {
                self.request_waits -= 1;
                return Ok(true);
            }
            if let Some(end) = end {
                tail.set_known_end(end);
            }
            if self.next.is_none() {
                self.next = tail.next(Some(limit))?;
            }
            if self.next.as_ref().is_some_and(is_undone) {
                self.next = None;
                continue;
            }
            let file_missing = self.next.is_none() && tail.is_file_missing();
            if !file_missing && self.say_dropped(published)? {
                continue;
            }
            if let Some(record) = self.next.take() {
                self.send_heartbeat(published, HEARTBEATS_SKIPPED);
                if let Some(listing) = &mut self.listing {
                    listing.sent(&record)?;
                }
                self.begin(&record)?;
                continue;
            }
            if !file_missing && self.progress.has() < limit && self.is_at_end()? {
                self.progress.complete_to = limit;
            }
            self.send_heartbeat(published, 0);
            return Ok(file_missing);
        }
        Ok(false)
    }

    fn is_at_end(&self) -> Result<bool, StreamError> {
        match &self.tail {
            Some(tail) => Ok(tail.is_at_end()?),
            None => Ok(false),
        }
    }

    /// Encodes what was dropped before the next transaction, if the secondary has requested the
    /// list. Returns whether there may be more.
    fn say_dropped(&mut self, published: Published) -> Result<bool, StreamError> {
        let Some(tail) = &self.tail else {
            return Ok(false);
        };
        let listing = match (&mut self.listing, self.handle.asked()) {
            (Some(listing), _) => listing,
            (None, Some(after)) if self.offered && self.heartbeat.is_some() => {
                let listing = Listing::new(tail, self.start, after, published.lists)?;
                self.listing.insert(listing)
            }
            _ => return Ok(false),
        };
        match listing.next(tail, self.next.as_ref(), published.lists)? {
            Next::Say(control_message) => self.outgoing.control_message(&control_message),
            Next::Again => {}
            Next::Nothing => return Ok(false),
        }
        Ok(true)
    }

    /// The offer of the list of dropped transactions; `None` if it is unknown whether the
    /// secondary has the same history.
    fn offer(&self, tail: &Tail) -> Result<Option<DroppedOffer>, StreamError> {
        if self.progress.history != Some(History::Verified) {
            return Ok(None);
        }
        let list = tail.dropped_after(Tid::MAX)?;
        Ok(match list.complete_after() {
            Some(tid) => Some(DroppedOffer::CompleteAfter(tid)),
            // There may be one later: the secondary of a cascade receives it.
            None => Some(DroppedOffer::NoList),
        })
    }

    /// Begins to send what follows the start tid, if that is in the history.
    fn begin_after(
        &mut self,
        mut tail: Tail,
        last: Tid,
        end: Option<u64>,
    ) -> Result<(), StreamError> {
        let start_position = tail.start_position()?;
        let start = self.start;
        if start > last && !matches!(start_position, StartPosition::Packed) {
            self.refuse(RefusalReason::Ahead, last);
            return Ok(());
        }
        self.progress.history = Some(History::Verified);
        let digest = match start_position {
            StartPosition::Unknown(_) => {
                self.refuse(RefusalReason::Unknown, last);
                return Ok(());
            }
            StartPosition::Unverified if self.handle.feed.refuses_unverified() => {
                self.refuse(RefusalReason::Unverified, last);
                return Ok(());
            }
            StartPosition::Unverified => {
                self.progress.history = Some(History::Unverified);
                log_messages::unverified(self.handle.feed.findings(), &self.peer, start);
                None
            }
            StartPosition::Here(transaction) => transaction_digest(&mut tail, &transaction)?,
            StartPosition::Packed => {
                log_messages::explained_by_pack(self.handle.feed.findings(), &self.peer, start);
                None
            }
            StartPosition::Beginning => None,
        };
        let dropped = self.offer(&tail)?;
        self.offered = dropped.is_some();
        // Transactions sent before the secondary has the list can look like a fork to it.
        if !self.offered || !tail.dropped_after(start)?.has_before(Tid::MAX)? {
            self.request_waits = 0;
        }
        self.greeting = Some(ControlMessage::Hello {
            start,
            digest,
            checksum: Checksum::Xxh3,
            heartbeat_interval: self.heartbeat_interval,
            position: Some(PrimaryPosition {
                last,
                bytes: end.map(|end| end.saturating_sub(tail.position())),
                transactions: self.handle.feed.lag(start, None).transactions,
            }),
            dropped,
        });
        self.progress.position = Some(tail.position());
        self.tail = Some(tail);
        Ok(())
    }

    /// Encodes a heartbeat with the primary's position, if the feed has had more than `left_out`
    /// heartbeats since the last one sent.
    fn send_heartbeat(&mut self, published: Published, left_out: u64) {
        let Some(interval) = self.heartbeat_interval else {
            return;
        };
        if self
            .heartbeat
            .is_none_or(|said| published.heartbeats <= said + left_out)
        {
            return;
        }
        let StreamProgress { tid, position, .. } = self.progress;
        let complete = self.progress.complete_to >= published.tid;
        let lag = self.handle.feed.lag(self.progress.has(), position);
        self.outgoing.control_message(&ControlMessage::Heartbeat {
            position: PrimaryPosition {
                // A pack may have dropped the last transactions; they will not be sent.
                last: if complete { tid } else { published.tid },
                bytes: lag.bytes,
                transactions: lag.transactions,
            },
            interval,
        });
        self.heartbeat = Some(published.heartbeats);
    }

    fn refuse(&mut self, reason: RefusalReason, last: Tid) {
        let start = self.start;
        let divergence = Divergence::Fork {
            reason,
            start,
            last,
        };
        log_messages::fork(self.handle.feed.findings(), &self.peer, divergence);
        if self.handle.is_capability_offered() {
            self.outgoing.control_message(&divergence.control_message());
        }
        self.refusal = Some(divergence);
    }

    /// Encodes the report that the file cannot be read, if a control message may stand here.
    fn report_failure(&mut self, error: &StreamError) {
        let between_transactions = self.shipping.is_none();
        if let StreamError::Storage(error) = error {
            if between_transactions && self.handle.is_capability_offered() {
                let reason = if error.is_damage() {
                    FailureReason::Damaged
                } else {
                    FailureReason::Unreadable
                };
                self.outgoing
                    .control_message(&ControlMessage::Failed(reason));
            }
        }
    }

    /// Opens the file after the start tid; `None` if a pack is replacing it, or the search was
    /// stopped.
    fn open(&self, end: Option<u64>) -> Result<Option<Tail>, StreamError> {
        let stop = Arc::clone(&self.handle.stopped);
        let feed = &self.handle.feed;
        let (vfs, seek_hints) = (Arc::clone(&self.vfs), feed.seek_hints().cloned());
        match Tail::open_stoppable(vfs, feed.path(), self.start, end, seek_hints, stop) {
            Err(StorageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            opened => self.keep_to_storage(opened?),
        }
    }

    /// Ends a stream of a file other than the storage's; `None` if a pack has just replaced it.
    fn keep_to_storage(&self, tail: Option<Tail>) -> Result<Option<Tail>, StreamError> {
        let feed = &self.handle.feed;
        let Some(open_file) = feed.open_file().cloned() else {
            return Ok(tail);
        };
        let Some(mut tail) = tail else {
            return Ok(None);
        };
        feed.check_place(&*self.vfs);
        Ok(tail.keep_to(open_file)?.then_some(tail))
    }

    fn begin(&mut self, record: &TransactionRecord) -> Result<(), StreamError> {
        let place = Place {
            tid: record.tid,
            position: record.position,
        };
        let meta = TransactionBegin {
            tid: record.tid,
            status: record.status.as_byte(),
            user: record.user.clone(),
            description: record.description.clone(),
            extension: Extension::new(record.extension.clone()),
        };
        if let Err(error) = self.outgoing.transaction(meta.clone()) {
            let at = (place.tid, place.position);
            log_messages::extension_left_out(self.handle.feed.findings(), &self.peer, at, error);
            let meta = TransactionBegin {
                extension: Extension::default(),
                ..meta
            };
            self.outgoing.transaction(meta).map_err(place.error())?;
        }
        self.shipping = Some(Sending {
            place,
            records: record.cursor(),
            rest: RestOfData::default(),
            blob: None,
        });
        Ok(())
    }

    /// Encodes the next block or record of the transaction, or its end.
    fn ship(&mut self) -> Result<(), StreamError> {
        let (Some(shipping), Some(tail)) = (&mut self.shipping, &mut self.tail) else {
            return Ok(());
        };
        let place = shipping.place;
        if let Some(piece) = tail.more_data(&mut shipping.rest, PIECE)? {
            self.outgoing.piece(&piece);
            return Ok(());
        }
        if let Some(blob) = &mut shipping.blob {
            match blob.next_block()? {
                Some(block) => self.outgoing.block(block).map_err(place.error())?,
                None => shipping.blob = None,
            }
            return Ok(());
        }
        let sent = if let Some((record, rest)) = tail.record(&mut shipping.records, PIECE)? {
            shipping.rest = rest;
            let feed = &self.handle.feed;
            shipping.blob = feed.open_blob(&*self.vfs, &record, &self.peer)?;
            write_record(&mut self.outgoing, &record, shipping)
        } else {
            self.shipping = None;
            self.progress = StreamProgress {
                tid: place.tid,
                position: Some(tail.position()),
                transactions: self.progress.transactions + 1,
                ..self.progress
            };
            self.outgoing.commit()
        };
        sent.map_err(place.error())
    }
}

fn is_undone(record: &TransactionRecord) -> bool {
    record.status == TransactionStatus::Undone
}

/// Encodes a record with an open blob, or the beginning of a long record.
fn write_record(
    outgoing: &mut Outgoing,
    record: &DataRecord,
    shipping: &Sending,
) -> Result<(), OutgoingError> {
    let header = RecordHeader {
        oid: record.oid,
        tid: record.tid,
        data_txn: record.data_txn,
    };
    let blocks = shipping.blob.as_ref().map(BlobReader::blocks);
    match (record.data.as_deref(), blocks) {
        (Some(data), _) if !shipping.rest.is_empty() => {
            let length = shipping.rest.len().saturating_add(data.len() as u64);
            outgoing.long_record(header, length, blocks)?;
            outgoing.piece(data);
            Ok(())
        }
        (Some(data), Some(blocks)) => outgoing.blob(header, data, blocks),
        (data, _) => outgoing.record(header, data),
    }
}
