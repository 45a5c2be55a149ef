//! Applies the events of a primary's stream to a storage.
//!
//! No lock of this crate is held during a call of the storage. A storage may gather finished
//! transactions in a group; [`decide`] decides when the [`Applier`] makes the group visible.

use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;

use super::group_decision::{GroupDecision, decide};
use super::list_keeper::{ListKeeper, ListState, MAX_DROPPED};
use super::{Divergence, ReplicaStorage};
use crate::proto::{
    ControlMessage, Digest, DroppedOffer, DroppedTransactions, FailureReason, PeerError,
    PrimaryPosition, Record, SecondaryEvent, SecondaryPeer, TransactionBegin,
};
use zrs_ids::Tid;
use zrs_storage::format::TransactionStatus;

/// Why a stream was given up.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError<E: Display> {
    /// The primary is at fault.
    #[error("{0}")]
    Peer(#[from] PeerError),
    /// The storage is at fault.
    #[error("{0}")]
    Storage(E),
    /// Neither is at fault: the histories differ.
    #[error("{0}")]
    Diverged(Divergence),
}

/// A record whose blob is being received.
#[derive(Debug)]
struct ArrivingBlob {
    record: Record,
    blocks: u32,
}

/// The progress of an applier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The last transaction that can be read from the storage.
    pub tid: Tid,
    /// The number of transactions applied.
    pub transactions: u64,
    /// The number of blobs restored.
    pub blobs: u64,
    /// The position that the primary has reported.
    pub primary: PrimaryWord,
    /// The state of the list of dropped transactions.
    pub list: ListState,
}

/// The position of a primary, as its control messages report it on this connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrimaryWord {
    /// Its position when the connection began.
    pub first: Option<PrimaryPosition>,
    /// Its latest reported position.
    pub latest: Option<PrimaryPosition>,
    /// The number of transactions applied before that report.
    pub applied: u64,
    /// The interval between its heartbeats, if it sends any.
    pub heartbeat_interval: Option<Duration>,
}

/// Applies the events of one connection.
#[derive(Debug)]
pub struct Applier<S> {
    storage: S,
    blob: Option<ArrivingBlob>,
    in_transaction: bool,
    /// The blobs of the transaction begun.
    begun_blobs: u64,
    /// The progress, including transactions that are finished and not visible.
    finished: Applied,
    /// The visible progress.
    visible: Applied,
    start: Tid,
    /// Whether the primary reads control messages.
    primary_reads_messages: bool,
    /// The next control message for the primary.
    control_message: Option<ControlMessage>,
    /// The reason that the primary gave for ending the stream.
    primary_failure: Option<FailureReason>,
    /// Keeper of the list of dropped transactions, if the primary has offered the list.
    keeper: Option<ListKeeper>,
    /// The request for the list, to be sent to the primary.
    request: Option<ControlMessage>,
    /// The maximum number of dropped transactions accepted.
    dropped_limit: u64,
    /// Whether the transaction begun is marked as packed.
    is_packed: bool,
}

impl<S: ReplicaStorage> Applier<S> {
    /// An applier that starts after the storage's last transaction, and the peer whose
    /// events it applies.
    ///
    /// # Errors
    /// The storage's.
    pub fn new(mut storage: S, check_checksums: bool) -> Result<(Self, SecondaryPeer), S::Error> {
        let start = storage.last_transaction()?;
        let blobs = storage.stores_blobs()?;
        let peer = SecondaryPeer::new(start, check_checksums).with_blobs(blobs);
        let nothing = Applied {
            tid: start,
            transactions: 0,
            blobs: 0,
            primary: PrimaryWord::default(),
            list: ListState::default(),
        };
        let applier = Self {
            storage,
            blob: None,
            in_transaction: false,
            begun_blobs: 0,
            finished: nothing,
            visible: nothing,
            start,
            primary_reads_messages: false,
            control_message: None,
            primary_failure: None,
            keeper: None,
            request: None,
            dropped_limit: MAX_DROPPED,
            is_packed: false,
        };
        Ok((applier, peer))
    }

    /// Sets the maximum number of dropped transactions accepted.
    #[must_use]
    pub fn with_dropped_limit(mut self, limit: u64) -> Self {
        self.dropped_limit = limit;
        self
    }

    /// The progress that readers of the storage see.
    pub fn applied(&self) -> Applied {
        let list = self.keeper.as_ref().map(ListKeeper::state);
        Applied {
            list: list.unwrap_or_default(),
            ..self.visible
        }
    }

    /// Decides what to do next: see [`decide`].
    pub fn decide(&self, waited: Duration, idle: Option<Duration>) -> GroupDecision {
        decide(
            self.storage.pending(),
            self.storage.has_unsynced_status() || self.list_is_due(),
            waited,
            idle,
        )
    }

    /// Whether finished transactions are pending: not visible yet.
    pub fn has_pending(&self) -> bool {
        self.storage.pending() > 0
    }

    /// Applies an event.
    ///
    /// # Errors
    /// [`ApplyError`], which names the side at fault. Only [`Self::end`] may be called then.
    pub fn apply(&mut self, event: SecondaryEvent) -> Result<(), ApplyError<S::Error>> {
        match event {
            SecondaryEvent::ControlMessage(control_message) => {
                self.handle_control_message(&control_message)
            }
            event => self.apply_to_storage(event).map_err(ApplyError::Storage),
        }
    }

    /// The failure that the primary has reported as its reason for ending the stream.
    pub fn primary_failure(&self) -> Option<FailureReason> {
        self.primary_failure
    }

    /// Whether the primary has sent its greeting, and so reads control messages.
    pub fn primary_reads_messages(&self) -> bool {
        self.primary_reads_messages
    }

    /// The next message for a primary that reads control messages: the acknowledgement of what
    /// is durable, or, after an error, the report of a fork.
    pub fn take_control_message(&mut self) -> Option<Bytes> {
        let control_message = self.control_message.take()?;
        self.primary_reads_messages
            .then(|| SecondaryPeer::control_message(&control_message))
    }

    /// The request for the list of dropped transactions; returned once.
    pub fn take_request(&mut self) -> Option<Bytes> {
        let request = self.request.take()?;
        Some(SecondaryPeer::control_message(&request))
    }

    fn handle_control_message(
        &mut self,
        control_message: &ControlMessage,
    ) -> Result<(), ApplyError<S::Error>> {
        if let Some(keeper) = &mut self.keeper {
            keeper.go_on();
        }
        match *control_message {
            ControlMessage::Hello {
                start,
                digest,
                heartbeat_interval,
                position,
                dropped,
                ..
            } => {
                self.primary_reads_messages = true;
                self.primary_said(PrimaryWord {
                    first: position,
                    latest: position,
                    applied: self.finished.transactions,
                    heartbeat_interval,
                });
                self.compare_digest(start, digest)?;
                self.keep_list_of(start, dropped)
                    .map_err(ApplyError::Storage)
            }
            ControlMessage::Dropped(ref dropped) => Ok(self.receive_dropped(dropped)?),
            ControlMessage::Heartbeat { position, interval } => {
                self.primary_said(PrimaryWord {
                    latest: Some(position),
                    applied: self.finished.transactions,
                    heartbeat_interval: Some(interval),
                    ..self.visible.primary
                });
                Ok(())
            }
            ControlMessage::Refused {
                reason,
                start,
                last,
            } => Err(ApplyError::Diverged(Divergence::Fork {
                reason,
                start,
                last,
            })),
            ControlMessage::Failed(reason) => {
                self.primary_failure = Some(reason);
                Ok(())
            }
            // Sent by secondaries only.
            ControlMessage::At(_)
            | ControlMessage::Named(_)
            | ControlMessage::List(_)
            | ControlMessage::Diverged(_) => Ok(()),
        }
    }

    /// Compares the digests of the last transaction that both sides have.
    fn compare_digest(
        &mut self,
        start: Tid,
        digest: Option<Digest>,
    ) -> Result<(), ApplyError<S::Error>> {
        let Some(theirs) = digest.filter(|_| start == self.start) else {
            return Ok(());
        };
        let ours = self.storage.digest(start).map_err(ApplyError::Storage)?;
        if ours.is_none_or(|ours| ours == theirs) {
            return Ok(());
        }
        let divergence = Divergence::Content(start);
        self.control_message = Some(divergence.control_message());
        Err(ApplyError::Diverged(divergence))
    }

    /// Requests the list of dropped transactions, if the primary offers it and the storage can
    /// keep it.
    fn keep_list_of(&mut self, start: Tid, offer: Option<DroppedOffer>) -> Result<(), S::Error> {
        let Some(offer) = offer.filter(|_| start == self.start && self.keeper.is_none()) else {
            return Ok(());
        };
        let Some(place) = self.storage.list_place()? else {
            return Ok(());
        };
        let path = place.path.clone();
        match ListKeeper::new(place, start, offer) {
            Ok(keeper) => {
                let keeper = keeper.with_limit(self.dropped_limit);
                self.request = Some(keeper.request());
                self.keeper = Some(keeper);
            }
            Err(error) => super::log_messages::list_not_kept(&path, &error),
        }
        Ok(())
    }

    fn receive_dropped(&mut self, dropped: &DroppedTransactions) -> Result<(), PeerError> {
        if let Some(keeper) = &mut self.keeper {
            if let Err(error) = keeper.receive(dropped)? {
                keeper.give_up(&error);
                self.keeper = None;
            }
        }
        Ok(())
    }

    /// Whether the list should be written when the applier is idle.
    fn list_is_due(&self) -> bool {
        let position = self.visible.primary.latest;
        let is_level = position.is_none_or(|position| self.visible.tid >= position.last);
        let keeper = self.keeper.as_ref();
        keeper.is_some_and(|keeper| keeper.is_due(is_level))
    }

    /// Writes the list of dropped transactions. A failure does not end replication.
    fn write_list(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            if let Err(error) = keeper.write(self.finished.tid) {
                keeper.give_up(&error);
                self.keeper = None;
            }
        }
    }

    fn primary_said(&mut self, word: PrimaryWord) {
        self.finished.primary = word;
        self.visible.primary = word;
    }

    fn apply_to_storage(&mut self, event: SecondaryEvent) -> Result<(), S::Error> {
        match event {
            SecondaryEvent::Begin(meta) => {
                self.write_list_before(&meta)?;
                self.in_transaction = true;
                self.begun_blobs = 0;
                self.storage.begin(&meta)
            }
            SecondaryEvent::Record(record) => self.storage.restore(&record),
            SecondaryEvent::Blob(record, blocks) => {
                self.storage.begin_blob()?;
                self.restore_when_whole(ArrivingBlob { record, blocks })
            }
            SecondaryEvent::Block(block) => {
                self.storage.write_block(&block)?;
                match self.blob.take() {
                    Some(ArrivingBlob { record, blocks }) => {
                        let blocks = blocks.saturating_sub(1);
                        self.restore_when_whole(ArrivingBlob { record, blocks })
                    }
                    None => Ok(()),
                }
            }
            SecondaryEvent::Commit(tid) => {
                self.storage.finish()?;
                self.in_transaction = false;
                self.finished.tid = tid;
                self.finished.transactions += 1;
                self.finished.blobs += std::mem::take(&mut self.begun_blobs);
                if let Some(keeper) = &mut self.keeper {
                    keeper.finished(tid, self.is_packed);
                }
                if self.storage.pending() == 0 {
                    self.record_visible();
                }
                Ok(())
            }
            SecondaryEvent::ControlMessage(_) => Ok(()),
        }
    }

    /// Makes the list durable before a transaction, if only the list records what was dropped
    /// before it.
    fn write_list_before(&mut self, meta: &TransactionBegin) -> Result<(), S::Error> {
        self.is_packed = meta.status == TransactionStatus::Packed.as_byte();
        let keeper = self.keeper.as_ref();
        if keeper.is_some_and(|keeper| keeper.is_due_before(self.is_packed)) {
            self.flush()?;
            self.sync_storage_status()?;
            self.write_list();
        }
        Ok(())
    }

    fn restore_when_whole(&mut self, blob: ArrivingBlob) -> Result<(), S::Error> {
        if blob.blocks == 0 {
            self.storage.restore_blob(&blob.record)?;
            self.begun_blobs += 1;
            return Ok(());
        }
        self.blob = Some(blob);
        Ok(())
    }

    /// Makes the pending transactions visible.
    ///
    /// # Errors
    /// As for [`Self::apply`].
    pub fn flush(&mut self) -> Result<(), S::Error> {
        let flushed = self.storage.flush();
        if flushed.is_ok() {
            self.record_visible();
            if self.keeper.as_ref().is_some_and(ListKeeper::is_overdue) {
                self.write_list();
            }
        } else {
            // The storage has discarded the pending transactions.
            self.finished = self.visible;
        }
        flushed
    }

    /// Records that everything finished is visible, and acknowledges what is durable.
    fn record_visible(&mut self) {
        let before = std::mem::replace(&mut self.visible, self.finished);
        if !self.storage.has_unsynced_status() {
            self.acknowledge(self.finished);
        } else if before.transactions < self.finished.transactions {
            // The sync of the new group has made the transactions before it durable.
            self.acknowledge(before);
        }
    }

    fn acknowledge(&mut self, applied: Applied) {
        if applied.transactions > 0 {
            self.control_message = Some(ControlMessage::At(applied.tid));
        }
    }

    /// Makes everything visible durable.
    ///
    /// # Errors
    /// As for [`Self::apply`].
    pub fn sync_status(&mut self) -> Result<(), S::Error> {
        self.sync_storage_status()?;
        if self.list_is_due() {
            self.write_list();
        }
        Ok(())
    }

    fn sync_storage_status(&mut self) -> Result<(), S::Error> {
        self.storage.sync_status()?;
        self.acknowledge(self.visible);
        Ok(())
    }

    /// Aborts the transaction begun, and makes the finished ones visible and durable.
    pub fn end(&mut self) {
        let aborted = if std::mem::take(&mut self.in_transaction) {
            self.storage.abort()
        } else {
            Ok(())
        };
        let done = [
            ("tpc_abort", aborted),
            ("making transactions visible", self.flush()),
            ("making them durable", self.sync_storage_status()),
        ];
        for (what, done) in done {
            if let Err(error) = done {
                log::error!(target: super::log_messages::SECONDARY, "{what} failed: {error}");
            }
        }
        let finished = self.finished.transactions;
        let keeper = self.keeper.as_ref();
        if keeper.is_some_and(|keeper| keeper.is_due_at_end(finished)) {
            self.write_list();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Checksum;

    /// A storage on a disk whose writes or syncs fail. Transactions that cannot be written are
    /// forgotten; those that cannot be synced stay visible.
    #[derive(Default)]
    struct Failing {
        waiting: u64,
        takes_writes: bool,
        has_unsynced_status: bool,
    }

    impl ReplicaStorage for Failing {
        type Error = &'static str;

        fn stores_blobs(&mut self) -> Result<bool, Self::Error> {
            Ok(false)
        }

        fn last_transaction(&mut self) -> Result<Tid, Self::Error> {
            Ok(Tid::ZERO)
        }

        fn digest(&mut self, _: Tid) -> Result<Option<Digest>, Self::Error> {
            Ok(None)
        }

        fn begin(&mut self, _: &TransactionBegin) -> Result<(), Self::Error> {
            Ok(())
        }

        fn restore(&mut self, _: &Record) -> Result<(), Self::Error> {
            Ok(())
        }

        fn begin_blob(&mut self) -> Result<(), Self::Error> {
            Ok(())
        }

        fn write_block(&mut self, _: &[u8]) -> Result<(), Self::Error> {
            Ok(())
        }

        fn restore_blob(&mut self, _: &Record) -> Result<(), Self::Error> {
            Ok(())
        }

        fn finish(&mut self) -> Result<(), Self::Error> {
            self.waiting += 1;
            Ok(())
        }

        fn abort(&mut self) -> Result<(), Self::Error> {
            Ok(())
        }

        fn pending(&self) -> u64 {
            self.waiting
        }

        fn flush(&mut self) -> Result<(), Self::Error> {
            match std::mem::take(&mut self.waiting) {
                0 => Ok(()),
                _ if self.takes_writes => {
                    self.has_unsynced_status = true;
                    Ok(())
                }
                _ => Err("no space"),
            }
        }

        fn has_unsynced_status(&self) -> bool {
            self.has_unsynced_status
        }

        fn sync_status(&mut self) -> Result<(), Self::Error> {
            if self.has_unsynced_status {
                Err("no sync")
            } else {
                Ok(())
            }
        }
    }

    /// The end of a connection flushes again, with nothing to flush.
    #[test]
    fn what_a_failed_sync_left_is_not_acknowledged() {
        let storage = Failing {
            takes_writes: true,
            ..Failing::default()
        };
        let (mut applier, _) = Applier::new(storage, true).unwrap();
        let hello = ControlMessage::Hello {
            start: Tid::ZERO,
            digest: None,
            heartbeat_interval: None,
            position: None,
            dropped: None,
            checksum: Checksum::Md5,
        };
        applier
            .apply(SecondaryEvent::ControlMessage(hello))
            .unwrap();
        let commit = SecondaryEvent::Commit(Tid::from_u64(1));
        applier.apply(commit).unwrap();
        applier.flush().unwrap();
        assert!(applier.sync_status().is_err());
        applier.end();
        assert_eq!(applier.take_control_message(), None);
    }

    /// The status after such a connection must not name a transaction that does not exist.
    #[test]
    fn what_could_not_be_written_does_not_count_as_applied() {
        let (mut applier, _) = Applier::new(Failing::default(), true).unwrap();
        let before = applier.applied();
        for tid in 1..4 {
            let commit = SecondaryEvent::Commit(Tid::from_u64(tid));
            applier.apply(commit).unwrap();
        }
        assert!(applier.flush().is_err());
        applier.end();
        assert_eq!(applier.applied(), before);
    }
}
