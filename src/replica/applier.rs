//! From the bytes of a primary to the calls of a storage.
//!
//! Each storage call happens outside any lock of ours. After a failure the unfinished
//! transaction is aborted and the applier refuses more: a new connection gets a new one.

use std::fmt::Display;

use crate::ids::Tid;
use crate::proto::{PeerError, Record, SecondaryEvent, SecondaryPeer, TransactionMeta};

/// What a secondary needs of the storage that it wraps; the calls are ZODB's
/// `IStorageRestoreable` in order.
pub trait ReplicaStorage {
    /// What goes wrong in it.
    type Error: Display;

    /// The last transaction that it has.
    fn last_transaction(&mut self) -> Result<Tid, Self::Error>;
    /// `tpc_begin`.
    fn begin(&mut self, meta: &TransactionMeta) -> Result<(), Self::Error>;
    /// `restore`.
    fn restore(&mut self, record: &Record) -> Result<(), Self::Error>;
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
}

/// The applying side of one connection.
#[derive(Debug)]
pub struct Applier<S> {
    peer: SecondaryPeer,
    storage: S,
    in_transaction: bool,
    failed: bool,
}

impl<S: ReplicaStorage> Applier<S> {
    /// An applier that starts after the storage's last transaction.
    ///
    /// # Errors
    /// The storage's.
    pub fn new(mut storage: S, check_checksums: bool) -> Result<(Self, Tid), S::Error> {
        let start = storage.last_transaction()?;
        let peer = SecondaryPeer::new(start, check_checksums);
        Ok((
            Self {
                peer,
                storage,
                in_transaction: false,
                failed: false,
            },
            start,
        ))
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
                SecondaryEvent::Begin(meta) => {
                    self.in_transaction = true;
                    self.storage.begin(&meta)
                }
                SecondaryEvent::Record(record) => self.storage.restore(&record),
                SecondaryEvent::Commit(_) => self
                    .storage
                    .finish()
                    .inspect(|()| self.in_transaction = false),
            }
            .map_err(ApplyError::Storage)?;
        }
        Ok(())
    }
}
