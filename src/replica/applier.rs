//! From the events of a primary's stream to the calls of a storage.
//!
//! Each storage call happens outside any lock of ours. A storage may gather transactions
//! before they can be read; [`pace`] says when an [`Applier`] lets it show them.

use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;

use super::Divergence;
use crate::ids::Tid;
use crate::proto::{
    Digest, FailureReason, Goal, PeerError, Record, Remark, SecondaryEvent, SecondaryPeer,
    TransactionMeta,
};

/// What a secondary needs of the storage that it wraps; most calls are ZODB's
/// `IStorageRestoreable` in order.
pub trait ReplicaStorage {
    /// What goes wrong in it.
    type Error: Display;

    /// Whether it stores blobs.
    fn stores_blobs(&mut self) -> Result<bool, Self::Error>;
    /// The last transaction that it has.
    fn last_transaction(&mut self) -> Result<Tid, Self::Error>;
    /// The digest of this transaction, the last one that it had; `None` where there is no
    /// file to tell, or where a pack may have taken records from it.
    fn digest(&mut self, tid: Tid) -> Result<Option<Digest>, Self::Error>;
    /// `tpc_begin`.
    fn begin(&mut self, meta: &TransactionMeta) -> Result<(), Self::Error>;
    /// `restore`.
    fn restore(&mut self, record: &Record) -> Result<(), Self::Error>;
    /// Begins a temporary file for a blob. No committed file is touched before [`Self::finish`],
    /// which follows only a digest that agrees.
    fn begin_blob(&mut self) -> Result<(), Self::Error>;
    /// Adds to that file.
    fn write_block(&mut self, block: &[u8]) -> Result<(), Self::Error>;
    /// `restoreBlob` with that file.
    fn restore_blob(&mut self, record: &Record) -> Result<(), Self::Error>;
    /// `tpc_vote` and `tpc_finish`, after which the transaction may wait to be shown.
    fn finish(&mut self) -> Result<(), Self::Error>;
    /// `tpc_abort`.
    fn abort(&mut self) -> Result<(), Self::Error>;

    /// How many bytes of finished transactions wait to be shown.
    fn waiting(&self) -> u64 {
        0
    }

    /// Shows the transactions that wait.
    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Whether some transaction is shown that a power cut could take back.
    fn is_unsettled(&self) -> bool {
        false
    }

    /// Makes durable what is shown.
    fn settle(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

impl<E: Display> ReplicaStorage for Box<dyn ReplicaStorage<Error = E> + Send> {
    type Error = E;

    fn stores_blobs(&mut self) -> Result<bool, E> {
        (**self).stores_blobs()
    }

    fn last_transaction(&mut self) -> Result<Tid, E> {
        (**self).last_transaction()
    }

    fn digest(&mut self, tid: Tid) -> Result<Option<Digest>, E> {
        (**self).digest(tid)
    }

    fn begin(&mut self, meta: &TransactionMeta) -> Result<(), E> {
        (**self).begin(meta)
    }

    fn restore(&mut self, record: &Record) -> Result<(), E> {
        (**self).restore(record)
    }

    fn begin_blob(&mut self) -> Result<(), E> {
        (**self).begin_blob()
    }

    fn write_block(&mut self, block: &[u8]) -> Result<(), E> {
        (**self).write_block(block)
    }

    fn restore_blob(&mut self, record: &Record) -> Result<(), E> {
        (**self).restore_blob(record)
    }

    fn finish(&mut self) -> Result<(), E> {
        (**self).finish()
    }

    fn abort(&mut self) -> Result<(), E> {
        (**self).abort()
    }

    fn waiting(&self) -> u64 {
        (**self).waiting()
    }

    fn flush(&mut self) -> Result<(), E> {
        (**self).flush()
    }

    fn is_unsettled(&self) -> bool {
        (**self).is_unsettled()
    }

    fn settle(&mut self) -> Result<(), E> {
        (**self).settle()
    }
}

/// Why a stream was given up.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError<E: Display> {
    /// The primary is at fault.
    #[error("{0}")]
    Peer(#[from] PeerError),
    /// The storage is.
    #[error("{0}")]
    Storage(E),
    /// Neither is: the two histories differ.
    #[error("{0}")]
    Diverged(Divergence),
}

/// A record whose blob is on its way.
#[derive(Debug)]
struct ArrivingBlob {
    record: Record,
    blocks: u32,
}

/// What an applier has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The last transaction that can be read from the storage.
    pub tid: Tid,
    /// How many transactions it has committed.
    pub transactions: u64,
    /// How many blobs it has restored.
    pub blobs: u64,
    /// What the primary said that it has.
    pub primary: PrimaryWord,
}

/// What a primary of our own kind has said of itself on this connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrimaryWord {
    /// What it had, and was still to send, when the connection began.
    pub first: Option<Goal>,
    /// The same when it said so last.
    pub latest: Option<Goal>,
    /// How many transactions had been applied before that.
    pub applied: u64,
    /// The pause between its pulses, if there are any.
    pub pulse: Option<Duration>,
}

/// Applies the events of one connection.
#[derive(Debug)]
pub struct Applier<S> {
    storage: S,
    blob: Option<ArrivingBlob>,
    in_transaction: bool,
    /// The blobs of the transaction begun.
    begun_blobs: u64,
    /// What is finished.
    finished: Applied,
    /// What is shown.
    shown: Applied,
    start: Tid,
    /// Whether the primary is of our own kind, so that it hears remarks.
    primary_listens: bool,
    /// What to tell the primary next.
    remark: Option<Remark>,
    /// Why the primary ends the stream, if it has said so.
    primary_failure: Option<FailureReason>,
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
        };
        let applier = Self {
            storage,
            blob: None,
            in_transaction: false,
            begun_blobs: 0,
            finished: nothing,
            shown: nothing,
            start,
            primary_listens: false,
            remark: None,
            primary_failure: None,
        };
        Ok((applier, peer))
    }

    /// What can be read of what it has done.
    pub fn applied(&self) -> Applied {
        self.shown
    }

    /// What to do when nothing more is there to be applied, or even so: see [`pace`].
    pub fn pace(&self, waited: Duration, idle: Option<Duration>) -> Pace {
        pace(
            self.storage.waiting(),
            self.storage.is_unsettled(),
            waited,
            idle,
        )
    }

    /// Whether transactions wait to be shown.
    pub fn has_waiting(&self) -> bool {
        self.storage.waiting() > 0
    }

    /// Applies an event.
    ///
    /// # Errors
    /// [`ApplyError`], naming the side at fault; [`Self::end`] is all that can be done then.
    pub fn apply(&mut self, event: SecondaryEvent) -> Result<(), ApplyError<S::Error>> {
        match event {
            SecondaryEvent::Remark(remark) => self.hear(&remark),
            event => self.apply_to_storage(event).map_err(ApplyError::Storage),
        }
    }

    /// Why the primary ends the stream, if it has reported a failure.
    pub fn primary_failure(&self) -> Option<FailureReason> {
        self.primary_failure
    }

    /// Whether the primary has said hello, so that it takes remarks.
    pub fn primary_listens(&self) -> bool {
        self.primary_listens
    }

    /// What to tell the primary, if it listens: how far the storage has got, or, after an
    /// error, of a fork.
    pub fn take_remark(&mut self) -> Option<Bytes> {
        let remark = self.remark.take()?;
        self.primary_listens.then(|| SecondaryPeer::remark(&remark))
    }

    fn hear(&mut self, remark: &Remark) -> Result<(), ApplyError<S::Error>> {
        match *remark {
            Remark::Hello {
                start,
                digest,
                pulse,
                goal,
                ..
            } => {
                self.primary_listens = true;
                self.primary_said(PrimaryWord {
                    first: goal,
                    latest: goal,
                    applied: self.finished.transactions,
                    pulse,
                });
                let Some(theirs) = digest.filter(|_| start == self.start) else {
                    return Ok(());
                };
                let ours = self.storage.digest(start).map_err(ApplyError::Storage)?;
                if ours.is_none_or(|ours| ours == theirs) {
                    return Ok(());
                }
                let divergence = Divergence::Content(start);
                self.remark = Some(divergence.remark());
                Err(ApplyError::Diverged(divergence))
            }
            Remark::Pulse { goal, every } => {
                self.primary_said(PrimaryWord {
                    latest: Some(goal),
                    applied: self.finished.transactions,
                    pulse: Some(every),
                    ..self.shown.primary
                });
                Ok(())
            }
            Remark::Refused {
                reason,
                start,
                last,
            } => Err(ApplyError::Diverged(Divergence::Fork {
                reason,
                start,
                last,
            })),
            Remark::Failed(reason) => {
                self.primary_failure = Some(reason);
                Ok(())
            }
            // A secondary's own.
            Remark::At(_) | Remark::Named(_) | Remark::Diverged(_) => Ok(()),
        }
    }

    fn primary_said(&mut self, word: PrimaryWord) {
        self.finished.primary = word;
        self.shown.primary = word;
    }

    fn apply_to_storage(&mut self, event: SecondaryEvent) -> Result<(), S::Error> {
        match event {
            SecondaryEvent::Begin(meta) => {
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
                if self.storage.waiting() == 0 {
                    self.show();
                }
                Ok(())
            }
            SecondaryEvent::Remark(_) => Ok(()),
        }
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

    /// Shows the transactions that wait.
    ///
    /// # Errors
    /// As for [`Self::apply`].
    pub fn flush(&mut self) -> Result<(), S::Error> {
        let flushed = self.storage.flush();
        if flushed.is_ok() {
            self.show();
        } else {
            // The storage has forgotten what waited.
            self.finished = self.shown;
        }
        flushed
    }

    /// All that is finished is shown; the primary hears of what will stay.
    fn show(&mut self) {
        let before = std::mem::replace(&mut self.shown, self.finished);
        if self.storage.is_unsettled() {
            // A group was made durable behind those shown before, and they with it.
            self.say_at(before);
        } else {
            self.say_at(self.finished);
        }
    }

    fn say_at(&mut self, applied: Applied) {
        if applied.transactions > 0 {
            self.remark = Some(Remark::At(applied.tid));
        }
    }

    /// Makes durable what is shown.
    ///
    /// # Errors
    /// As for [`Self::apply`].
    pub fn settle(&mut self) -> Result<(), S::Error> {
        self.storage.settle()?;
        self.say_at(self.shown);
        Ok(())
    }

    /// Aborts what was begun and not finished; shows the rest, and makes it durable.
    pub fn end(&mut self) {
        let aborted = if std::mem::take(&mut self.in_transaction) {
            self.storage.abort()
        } else {
            Ok(())
        };
        let done = [
            ("tpc_abort", aborted),
            ("showing transactions", self.flush()),
            ("making them durable", self.settle()),
        ];
        for (what, done) in done {
            if let Err(error) = done {
                log::error!(target: super::journal::SECONDARY, "{what} failed: {error}");
            }
        }
    }
}

/// What an applier should do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Show what waits.
    Flush,
    /// Make durable what is shown.
    Settle,
    /// Apply what comes, and ask again when nothing has come for so long.
    Wait(Option<Duration>),
}

/// So much is shown at once at most, in bytes.
const GROUP: u64 = 8 << 20;
/// So long a transaction waits at most while others come.
const GROUP_TIME: Duration = Duration::from_millis(50);
/// Less than this is no catching up: it is shown as soon as nothing more is there.
const SMALL: u64 = 64 << 10;
/// More is likely to come within this time.
const GAP: Duration = Duration::from_millis(2);

/// When to show transactions that are finished, and when to make the end durable.
///
/// `waiting` bytes wait, the first of them for as long as `waited`; for `idle` nothing has
/// come, `None` if something more is there already.
fn pace(waiting: u64, unsettled: bool, waited: Duration, idle: Option<Duration>) -> Pace {
    match idle {
        _ if waiting >= GROUP => Pace::Flush,
        _ if waiting > 0 && waited >= GROUP_TIME => Pace::Flush,
        Some(idle) if waiting >= SMALL && idle < GAP => Pace::Wait(Some(GAP.saturating_sub(idle))),
        Some(_) if waiting > 0 => Pace::Flush,
        Some(idle) if unsettled && idle < GAP => Pace::Wait(Some(GAP.saturating_sub(idle))),
        Some(_) if unsettled => Pace::Settle,
        _ => Pace::Wait(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Option<Duration> = Some(Duration::ZERO);

    fn after(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_small_transaction_is_shown_at_once_and_settled_soon() {
        assert_eq!(pace(700, false, after(0), NOW), Pace::Flush);
        assert_eq!(pace(0, true, after(0), NOW), Pace::Wait(Some(GAP)));
        assert_eq!(pace(0, true, after(0), Some(GAP)), Pace::Settle);
        assert_eq!(pace(0, false, after(0), Some(GAP)), Pace::Wait(None));
    }

    #[test]
    fn many_transactions_are_shown_together() {
        assert_eq!(pace(700, false, after(1), None), Pace::Wait(None));
        assert_eq!(pace(1 << 20, false, after(49), None), Pace::Wait(None));
        assert_eq!(pace(1 << 20, false, after(1), NOW), Pace::Wait(Some(GAP)));
        assert_eq!(pace(1 << 20, true, after(3), Some(GAP)), Pace::Flush);
    }

    #[test]
    fn a_group_has_its_bounds() {
        assert_eq!(pace(8 << 20, false, after(0), None), Pace::Flush);
        assert_eq!(pace(1, false, after(50), None), Pace::Flush);
        assert_eq!(pace(0, false, after(50), None), Pace::Wait(None));
    }

    /// A storage on a full disk: what waits is forgotten when it cannot be written.
    #[derive(Default)]
    struct Full {
        waiting: u64,
    }

    impl ReplicaStorage for Full {
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

        fn begin(&mut self, _: &TransactionMeta) -> Result<(), Self::Error> {
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

        fn waiting(&self) -> u64 {
            self.waiting
        }

        fn flush(&mut self) -> Result<(), Self::Error> {
            match std::mem::take(&mut self.waiting) {
                0 => Ok(()),
                _ => Err("no space"),
            }
        }
    }

    /// At the end of such a connection its status named a transaction that was not there.
    #[test]
    fn what_could_not_be_written_does_not_count_as_applied() {
        let (mut applier, _) = Applier::new(Full::default(), true).unwrap();
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
