//! Commits: begin, store, vote, finish or abort.
//!
//! [`voted`](super::voted) writes the record of a transaction, votes and finishes.

use super::spool::Spool;
use super::transaction::{Transaction, TransactionMeta};
use super::{CommitGuard, FileStorage, sibling};
use crate::error::{StorageError, StorageResult};
use zrs_ids::{Oid, Tid};

/// The outcome of storing a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The record is part of the transaction.
    Stored,
    /// Nothing was stored, because this transaction has already changed the object.
    Conflict(Tid),
}

/// The reason for which a transaction was not finished.
#[derive(Debug)]
pub enum FinishError<E> {
    /// The storage failed.
    Storage(StorageError),
    /// The callback failed, so the transaction was aborted.
    Callback(E),
}

impl FileStorage {
    /// Begin a transaction for the holder of the commit lock.
    ///
    /// # Errors
    /// [`StorageError::ReadOnly`], [`StorageError::FieldTooLong`].
    pub fn begin(&self, guard: CommitGuard, meta: &TransactionMeta) -> StorageResult<Transaction> {
        self.check_writable()?;
        let path = sibling(&self.path, ".tmp");
        let spool = Spool::new(self.vfs.clone(), path.into());
        let start = self.state.read().end;
        Transaction::new(guard, meta, start, spool)
    }

    /// Store new data of an object. The caller expects its current revision to be that of
    /// `serial`.
    ///
    /// # Errors
    /// [`StorageError::Quota`], [`StorageError::NoData`].
    pub fn store(
        &self,
        transaction: &mut Transaction,
        oid: Oid,
        serial: Option<Tid>,
        data: &[u8],
    ) -> StorageResult<Stored> {
        self.set_max_oid(oid);
        let current = self.current(oid)?;
        if let Some((_, committed)) = current {
            if serial != Some(committed) {
                return Ok(Stored::Conflict(committed));
            }
        }
        let prev = current.map_or(0, |(position, _)| position);
        self.write(transaction, oid, prev, data)?;
        Ok(Stored::Stored)
    }

    /// Store data in which a conflict was resolved.
    pub fn store_resolved(
        &self,
        transaction: &mut Transaction,
        oid: Oid,
        data: &[u8],
    ) -> StorageResult<()> {
        let prev = self.current(oid)?.map_or(0, |(position, _)| position);
        self.write(transaction, oid, prev, data)
    }

    /// Record that an object is deleted.
    ///
    /// # Errors
    /// [`StorageError::NoSuchObject`], [`StorageError::Conflict`], [`StorageError::Quota`].
    pub fn delete_object(
        &self,
        transaction: &mut Transaction,
        oid: Oid,
        serial: Option<Tid>,
    ) -> StorageResult<()> {
        let (prev, committed) = self
            .current(oid)?
            .ok_or(StorageError::NoSuchObject { oid })?;
        if serial != Some(committed) {
            return Err(StorageError::Conflict {
                oid,
                committed,
                supplied: serial,
            });
        }
        let tid = transaction.tid;
        let here = transaction.append(oid, tid, prev, 0, &[0; 8])?;
        transaction.positions.insert(oid, here);
        self.check_quota(here)
    }

    /// Abort the transaction. The commit lock is held until the returned guard is dropped.
    pub fn abort(&self, transaction: Transaction) -> CommitGuard {
        if transaction.voted_end.is_some() && self.check_writable().is_ok() {
            let file = self.state.read().file.clone();
            self.cut_off(&file, transaction.start);
        }
        transaction.guard
    }

    /// Check that an object's current revision is that of `serial`.
    ///
    /// # Errors
    /// [`StorageError::ReadConflict`] if it is not, [`StorageError::NoSuchObject`].
    pub fn check_current_serial(&self, oid: Oid, serial: Option<Tid>) -> StorageResult<()> {
        let committed = self.get_tid(oid)?;
        if serial == Some(committed) {
            return Ok(());
        }
        Err(StorageError::ReadConflict {
            oid,
            committed,
            supplied: serial,
        })
    }

    /// The position and transaction of an object's current record, if it has one.
    pub(super) fn current(&self, oid: Oid) -> StorageResult<Option<(u64, Tid)>> {
        match self.look_up(oid) {
            Ok((snapshot, position)) => {
                let record = snapshot.record(oid, position)?;
                Ok(Some((position, record.header.tid)))
            }
            Err(StorageError::NoSuchObject { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(
        &self,
        transaction: &mut Transaction,
        oid: Oid,
        prev: u64,
        data: &[u8],
    ) -> StorageResult<()> {
        if data.is_empty() {
            return Err(StorageError::NoData(oid));
        }
        let tid = transaction.tid;
        let here = transaction.append(oid, tid, prev, data.len() as u64, data)?;
        transaction.positions.insert(oid, here);
        self.check_quota(here)
    }

    fn check_quota(&self, here: u64) -> StorageResult<()> {
        match self.options.quota {
            Some(quota) if here > quota => Err(StorageError::Quota),
            _ => Ok(()),
        }
    }
}
