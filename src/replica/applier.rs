//! From the bytes of a primary to the calls of a storage.
//!
//! Each storage call happens outside any lock of ours. After a failure the unfinished
//! transaction is aborted and the applier refuses more: a new connection gets a new one.

use std::fmt::Display;

use bytes::Bytes;

use super::Divergence;
use crate::ids::Tid;
use crate::proto::{
    Digest, PeerError, Record, Remark, SecondaryEvent, SecondaryPeer, TransactionMeta,
};

/// What a secondary needs of the storage that it wraps; the calls are ZODB's
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
    /// Begins a temporary file for a blob.
    fn begin_blob(&mut self) -> Result<(), Self::Error>;
    /// Adds to that file.
    fn write_block(&mut self, block: &[u8]) -> Result<(), Self::Error>;
    /// `restoreBlob` with that file.
    fn restore_blob(&mut self, record: &Record) -> Result<(), Self::Error>;
    /// `tpc_vote` and `tpc_finish`.
    fn finish(&mut self) -> Result<(), Self::Error>;
    /// `tpc_abort`.
    fn abort(&mut self) -> Result<(), Self::Error>;
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
    /// The last transaction that is in the storage.
    pub tid: Tid,
    /// How many transactions it has committed.
    pub transactions: u64,
    /// How many blobs it has restored.
    pub blobs: u64,
}

/// The applying side of one connection.
#[derive(Debug)]
pub struct Applier<S> {
    peer: SecondaryPeer,
    storage: S,
    blob: Option<ArrivingBlob>,
    in_transaction: bool,
    failed: bool,
    applied: Applied,
    start: Tid,
    /// Whether the primary is of our own kind, so that it hears remarks.
    primary_listens: bool,
    /// What to tell the primary next.
    remark: Option<Remark>,
}

impl<S: ReplicaStorage> Applier<S> {
    /// An applier that starts after the storage's last transaction, and the handshake that
    /// says so. With `knock` a primary of our own kind will make remarks, and what
    /// [`Self::take_remark`] returns is to be sent to it.
    ///
    /// # Errors
    /// The storage's.
    pub fn new(
        mut storage: S,
        check_checksums: bool,
        knock: bool,
    ) -> Result<(Self, Bytes), S::Error> {
        let start = storage.last_transaction()?;
        let blobs = storage.stores_blobs()?;
        let applier = Self {
            peer: SecondaryPeer::new(start, check_checksums).with_blobs(blobs),
            storage,
            blob: None,
            in_transaction: false,
            failed: false,
            applied: Applied {
                tid: start,
                transactions: 0,
                blobs: 0,
            },
            start,
            primary_listens: false,
            remark: None,
        };
        Ok((applier, SecondaryPeer::handshake(start, blobs, knock)))
    }

    /// Applies what these bytes complete. After an error the transaction is aborted, and
    /// later bytes are ignored.
    ///
    /// # Errors
    /// [`ApplyError`], naming the side at fault.
    pub fn receive_data(&mut self, data: &[u8]) -> Result<(), ApplyError<S::Error>> {
        if self.failed {
            return Ok(());
        }
        self.peer.receive_data(data);
        let applied = self.apply_events();
        if applied.is_err() {
            self.failed = true;
            self.abort();
        }
        applied
    }

    /// What it has done so far.
    pub fn applied(&self) -> Applied {
        self.applied
    }

    /// What to tell the primary, if it listens: how far the storage has got, or, after an
    /// error, of a fork.
    pub fn take_remark(&mut self) -> Option<Bytes> {
        let remark = self.remark.take()?;
        self.primary_listens.then(|| SecondaryPeer::remark(&remark))
    }

    /// Aborts what was begun and not committed.
    pub fn abort(&mut self) {
        if std::mem::take(&mut self.in_transaction) {
            if let Err(error) = self.storage.abort() {
                log::error!(target: super::journal::SECONDARY, "tpc_abort failed: {error}");
            }
        }
    }

    fn apply_events(&mut self) -> Result<(), ApplyError<S::Error>> {
        while let Some(event) = self.peer.next_event()? {
            match event {
                SecondaryEvent::Remark(remark) => self.hear(&remark)?,
                event => self.apply(event).map_err(ApplyError::Storage)?,
            }
        }
        Ok(())
    }

    fn hear(&mut self, remark: &Remark) -> Result<(), ApplyError<S::Error>> {
        match *remark {
            Remark::Hello { start, digest } => {
                self.primary_listens = true;
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
            Remark::Refused {
                reason,
                start,
                last,
            } => Err(ApplyError::Diverged(Divergence::Fork {
                reason,
                start,
                last,
            })),
            // A secondary's own.
            Remark::At(_) | Remark::Diverged(_) => Ok(()),
        }
    }

    fn apply(&mut self, event: SecondaryEvent) -> Result<(), S::Error> {
        match event {
            SecondaryEvent::Begin(meta) => {
                self.in_transaction = true;
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
                self.applied.tid = tid;
                self.applied.transactions += 1;
                self.remark = Some(Remark::At(tid));
                Ok(())
            }
            SecondaryEvent::Remark(_) => Ok(()),
        }
    }

    fn restore_when_whole(&mut self, blob: ArrivingBlob) -> Result<(), S::Error> {
        if blob.blocks == 0 {
            self.storage.restore_blob(&blob.record)?;
            self.applied.blobs += 1;
            return Ok(());
        }
        self.blob = Some(blob);
        Ok(())
    }
}
