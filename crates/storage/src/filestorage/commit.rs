//! Committing: begin, store, vote, finish or abort.
//!
//! A vote writes the whole record behind the committed end with the status "voted"; a
//! finish overwrites that byte. What is behind the end and not finished is cut off, at
//! once or when the file is opened again.

use std::thread;

use super::spool::Spool;
use super::transaction::{Transaction, TransactionMeta};
use super::{CommitGuard, CommitSync, Condition, FileStorage, sibling};
use crate::error::{StorageError, StorageResult};
use crate::file::DataFile;
use crate::format::txn::STATUS_AT;
use crate::format::{
    REDUNDANT_LENGTH_LEN, TRANSACTION_HEADER_LEN, TransactionHeader, TransactionStatus,
};
use zrs_ids::{Oid, Tid};

/// What is behind a transaction between its vote and its end: the header of one that is not
/// finished, with its id.
///
/// If the power goes while its record is on the way to the disk, any sector of it may be
/// missing, also the one with its header. Who opens the file then takes the last eight
/// bytes for the length of a later transaction, and the file for damaged, if they could be
/// one. With these behind it they cannot. Who reads the file when the transaction has its
/// end and these are not yet cut off takes less than a header for damage; the id is the last
/// one that ZODB's storage reads where a process was killed then, and goes on from.
pub(super) fn padding(tid: Tid) -> [u8; TRANSACTION_HEADER_LEN] {
    TransactionHeader {
        tid,
        length: TRANSACTION_HEADER_LEN as u64,
        status: TransactionStatus::Voted,
        user_len: 0,
        description_len: 0,
        extension_len: 0,
    }
    .to_bytes()
}
/// What is behind a transaction that is written in part, likewise: zeros, which the length at
/// its end will cover.
pub(super) const UNENDED_PADDING: [u8; REDUNDANT_LENGTH_LEN - 1] = [0; REDUNDANT_LENGTH_LEN - 1];
/// What a disk writes as a whole or not at all.
pub(super) const SECTOR: u64 = 512;

/// Write that the transaction that begins here is not finished, before anything else of it.
///
/// Who reads the file meanwhile finds no zeros where its status will be. A byte is written
/// whole or not at all; half a header might have none. The zeros behind it make the header as
/// long as one: readers take less than that behind the last transaction for damage.
pub(super) fn put_voted(file: &DataFile, start: u64) -> StorageResult<()> {
    let mut rest = [0; TRANSACTION_HEADER_LEN - STATUS_AT];
    rest[0] = TransactionStatus::Voted.as_byte();
    file.handle()
        .write_all_at(&rest, start + STATUS_AT as u64)
        .map_err(|source| file.io_error(source))
}

/// What became of a record to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is part of the transaction.
    Stored,
    /// The object was changed by this transaction meanwhile; nothing was stored.
    Conflict(Tid),
}

/// Why a transaction was not finished.
#[derive(Debug)]
pub enum FinishError<E> {
    /// The storage could not.
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

    /// Store new data of an object whose current revision the caller believes to be that
    /// of `serial`.
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

    /// Store data in which a conflict is resolved.
    pub fn store_resolved(
        &self,
        transaction: &mut Transaction,
        oid: Oid,
        data: &[u8],
    ) -> StorageResult<()> {
        let prev = self.current(oid)?.map_or(0, |(position, _)| position);
        self.write(transaction, oid, prev, data)
    }

    /// Record that an object is no more.
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

    /// Write the transaction's record behind the committed end. After an error the
    /// transaction can only be aborted.
    pub fn vote(&self, transaction: &mut Transaction) -> StorageResult<()> {
        self.check_writable()?;
        let file = self.state.read().file.clone();
        transaction.voted_end = None;
        let end = match self.write_record(&file, transaction) {
            Ok(end) => end,
            Err(error) => {
                self.cut_off(&file, transaction.start);
                return Err(error);
            }
        };
        if self.options.commit_sync == CommitSync::Ordered {
            self.sync(&file)?;
        }
        transaction.voted_end = Some(end);
        Ok(())
    }

    /// Finish the transaction: call `callback` while no other thread can read, make the
    /// transaction durable, and show it.
    ///
    /// The commit lock is held until the guard that is returned is dropped.
    ///
    /// # Errors
    /// After a [`FinishError::Storage`] other than [`StorageError::NotVoted`] the storage
    /// refuses further work.
    pub fn finish<E>(
        &self,
        transaction: Transaction,
        callback: impl FnOnce(Tid) -> Result<(), E>,
    ) -> Result<CommitGuard, FinishError<E>> {
        self.check_writable().map_err(FinishError::Storage)?;
        let Some(end) = transaction.voted_end else {
            drop(self.abort(transaction));
            return Err(FinishError::Storage(StorageError::NotVoted));
        };
        let gate = self.gate.write();
        self.state.write().finishing = Some(thread::current().id());
        let unfinished = Unfinished(self);
        let called = callback(transaction.tid);
        if let Err(error) = called {
            drop(unfinished);
            drop(gate);
            drop(self.abort(transaction));
            return Err(FinishError::Callback(error));
        }
        let in_danger = InDanger(self);
        let file = self.state.read().file.clone();
        self.make_durable(&file, &transaction)
            .map_err(FinishError::Storage)?;
        if self.options.commit_sync == CommitSync::Ordered {
            drop_padding(&file, end);
        }
        self.publish(&transaction, end);
        std::mem::forget(in_danger);
        drop(unfinished);
        drop(gate);
        Ok(transaction.guard)
    }

    /// Give up the transaction. The commit lock is held until the guard that is returned
    /// is dropped.
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

    /// The position and the transaction of an object's current record, if it has one.
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

    /// Write a transaction's record; returns where it ends.
    fn write_record(&self, file: &DataFile, transaction: &mut Transaction) -> StorageResult<u64> {
        let length = transaction.seal()?;
        let start = transaction.start;
        let write = |bytes: &[u8], position| {
            file.handle()
                .write_all_at(bytes, position)
                .map_err(|source| file.io_error(source))
        };
        let ordered = self.options.commit_sync == CommitSync::Ordered;
        let end = start + length + REDUNDANT_LENGTH_LEN as u64;
        if ordered {
            put_voted(file, start)?;
            let last = start + TRANSACTION_HEADER_LEN as u64 - 1;
            if start / SECTOR != last / SECTOR {
                // Half a header could look like that of a finished transaction.
                write(&[&transaction.head()[..], &UNENDED_PADDING].concat(), start)?;
                self.sync(file)?;
            }
            // The file has its length from here on. Otherwise a record that is written in
            // part only may end with what looks like a length.
            write(&padding(transaction.tid), end)?;
        }
        transaction.spool.append(&[&length.to_be_bytes()])?;
        let copied = transaction
            .spool
            .copy(|bytes, offset| write(bytes, start + offset));
        transaction.spool.truncate(length);
        copied?;
        Ok(end)
    }

    fn make_durable(&self, file: &DataFile, transaction: &Transaction) -> StorageResult<()> {
        file.handle()
            .write_all_at(&[transaction.status], transaction.status_position())
            .map_err(|source| file.io_error(source))?;
        self.sync(file)
    }

    fn publish(&self, transaction: &Transaction, end: u64) {
        if let Some(oid) = transaction.positions.keys().max() {
            self.set_max_oid(*oid);
        }
        let mut state = self.state.write();
        for (oid, position) in &transaction.positions {
            state.index.insert(*oid, *position);
        }
        state.end = end;
        state.last_tid = transaction.tid;
        state.unsettled = false;
        state.durable = (end, transaction.tid);
    }

    /// Sync the file; after a failure nobody knows what it holds.
    pub(super) fn sync(&self, file: &DataFile) -> StorageResult<()> {
        file.handle().sync_data().map_err(|source| {
            self.fail();
            file.io_error(source)
        })
    }

    /// Cut off what is behind the committed end. If that fails, what is left would be in
    /// the way of nobody but a reader of the file: it says that it is not finished. But a
    /// shorter record in its place would be followed by the rest of it.
    pub(super) fn cut_off(&self, file: &DataFile, end: u64) {
        if let Err(source) = file.handle().set_len(end) {
            let error = file.io_error(source);
            log::error!(target: super::open::LOGGER, "cannot cut off a transaction: {error}");
            self.fail();
        }
    }
}

/// Cut off the padding of a finished transaction. It would be in the way of nobody, and
/// the next transaction overwrites it; so the cut need not be durable either.
pub(super) fn drop_padding(file: &DataFile, end: u64) {
    if let Err(source) = file.handle().set_len(end) {
        let error = file.io_error(source);
        log::warn!(target: super::open::LOGGER, "cannot cut off padding: {error}");
    }
}

/// While it lives the state says that this thread is finishing a transaction.
pub(super) struct Unfinished<'storage>(pub(super) &'storage FileStorage);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.state.write().finishing = None;
    }
}

/// Dropped by an error or a panic between the callback and the end: the databases know a
/// transaction that the file may or may not have.
pub(super) struct InDanger<'storage>(pub(super) &'storage FileStorage);

impl Drop for InDanger<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.write();
        if state.condition == Condition::Open {
            state.condition = Condition::Failed;
        }
    }
}
