//! Writing a voted record: the order of writes and syncs that ensures that a crash at any moment
//! leaves either the complete transaction or nothing of it.
//!
//! With [`CommitSync::Ordered`]:
//!
//! 1. The status byte "voted" is written before all other bytes of the record, in a write of its
//!    own ([`put_voted`]), so a reader of the file never finds another status there.
//! 2. A header that spans two sectors is synced before the rest is written ([`spans_sectors`]):
//!    half of one could look like the header of a finished transaction.
//! 3. The record is followed by [`padding`], which is written before the record, so that no part
//!    of the record is at the end of the file. Until the end is known, [`UNENDED_PADDING`] is
//!    written instead.
//! 4. The complete record is synced before its status byte changes. This is the vote.
//! 5. The final status is a single byte ([`write_status`]), written and synced to finish. The
//!    transaction exists as soon as that byte is on the disk.
//! 6. Then the padding is cut off, which need not be durable.
//!
//! In a group of transactions ([`group_commit`](super::group_commit)) these rules apply to the
//! first one, whose status hides the others; its final status may be synced with the next group.
//!
//! With [`CommitSync::Single`] the record and the status byte share one sync.
//!
//! If a write fails before the vote is complete, it is cut off and the storage continues. After a
//! failed sync, and after a failure between the announcement of a transaction and its end, the
//! storage refuses further operations: the contents of the file are unknown.
//!
//! [`scan`](super::scan) reads the file after a crash. See docs/recovery.md.

use std::thread;

use super::commit::FinishError;
use super::state::Condition;
use super::transaction::Transaction;
use super::{CommitGuard, CommitSync, FileStorage};
use crate::LOGGER;
use crate::error::{StorageError, StorageResult};
use crate::file::DataFile;
use crate::format::txn::STATUS_AT;
use crate::format::{
    REDUNDANT_LENGTH_LEN, TRANSACTION_HEADER_LEN, TransactionHeader, TransactionStatus,
};
use zrs_ids::Tid;

/// The bytes after a transaction between its vote and its end: the header of an unfinished
/// transaction with the same id.
///
/// If the power fails while its record is being written, any sector of it may be missing,
/// including the one with its header. When the file is opened, the last eight bytes are read as
/// the length of a later transaction, and the file is refused as damaged if they could be one.
/// With the padding at the end they cannot. A reader that opens the file after the transaction is
/// finished and before the padding is cut off would take fewer bytes than a header for damage. If
/// a process is killed then, ZODB's storage takes the id in the padding as the last one and
/// continues from it.
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

/// The bytes after an incomplete transaction, for the same reason: zeros, which the length at its
/// end will overwrite.
pub(super) const UNENDED_PADDING: [u8; REDUNDANT_LENGTH_LEN - 1] = [0; REDUNDANT_LENGTH_LEN - 1];

/// The unit that a disk writes completely or not at all.
const SECTOR: u64 = 512;

/// Write the status of an unfinished transaction that begins here, before anything else of it.
///
/// A concurrent reader of the file then never finds zeros in place of the status. A byte is
/// written completely or not at all; half a header might lack it. The zeros after it make the
/// header complete: readers take fewer bytes than that after the last transaction for damage.
pub(super) fn put_voted(file: &DataFile, start: u64) -> StorageResult<()> {
    let mut rest = [0; TRANSACTION_HEADER_LEN - STATUS_AT];
    rest[0] = TransactionStatus::Voted.as_byte();
    file.handle()
        .write_all_at(&rest, start + STATUS_AT as u64)
        .map_err(|source| file.io_error(source))
}

/// Whether the header of a transaction that begins here spans two sectors.
pub(super) fn spans_sectors(start: u64) -> bool {
    let last = start + TRANSACTION_HEADER_LEN as u64 - 1;
    start / SECTOR != last / SECTOR
}

/// Write the header of a transaction whose record is not complete yet.
pub(super) fn write_unended_head(
    file: &DataFile,
    start: u64,
    head: [u8; TRANSACTION_HEADER_LEN],
) -> StorageResult<()> {
    file.handle()
        .write_all_at(&[&head[..], &UNENDED_PADDING].concat(), start)
        .map_err(|source| file.io_error(source))
}

/// Write the final status of the transaction that begins here.
pub(super) fn write_status(file: &DataFile, start: u64, status: u8) -> StorageResult<()> {
    file.handle()
        .write_all_at(&[status], start + STATUS_AT as u64)
        .map_err(|source| file.io_error(source))
}

impl FileStorage {
    /// Write the transaction's record after the committed end. After an error the
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
    /// transaction durable, and publish it.
    ///
    /// The commit lock is held until the returned guard is dropped.
    ///
    /// # Errors
    /// After a [`FinishError::Storage`] other than [`StorageError::NotVoted`] the storage
    /// refuses further operations.
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
        let unfinished = FinishingGuard(self);
        let called = callback(transaction.tid);
        if let Err(error) = called {
            drop(unfinished);
            drop(gate);
            drop(self.abort(transaction));
            return Err(FinishError::Callback(error));
        }
        let poison = PoisonOnDrop(self);
        let file = self.state.read().file.clone();
        self.make_durable(&file, &transaction)
            .map_err(FinishError::Storage)?;
        if self.options.commit_sync == CommitSync::Ordered {
            drop_padding(&file, end);
        }
        self.publish(&transaction, end);
        std::mem::forget(poison);
        drop(unfinished);
        drop(gate);
        Ok(transaction.guard)
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
            if spans_sectors(start) {
                write_unended_head(file, start, transaction.head())?;
                self.sync(file)?;
            }
            // The file has its full length from here on. Otherwise an incomplete record may end
            // with bytes that look like a length.
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
        write_status(file, transaction.start, transaction.status)?;
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
        state.has_unsynced_status = false;
        state.durable = (end, transaction.tid);
    }

    /// Sync the file. After a failure the contents of the file are unknown: the storage refuses
    /// further operations, including later syncs, which could succeed without writing the lost
    /// bytes.
    pub(super) fn sync(&self, file: &DataFile) -> StorageResult<()> {
        self.check_not_failed()?;
        file.handle().sync_data().map_err(|source| {
            self.fail();
            file.io_error(source)
        })?;
        // If several threads sync a file at once, the system reports a lost write to only one of
        // them.
        self.check_not_failed()
    }

    fn check_not_failed(&self) -> StorageResult<()> {
        match self.state.read().condition {
            Condition::Failed => Err(self.refusal(Condition::Failed)),
            Condition::Open | Condition::Closed => Ok(()),
        }
    }

    /// Cut off the bytes after the committed end. If that fails, they are harmless to storages,
    /// since their status is not final, but readers of the file may find them; and a shorter
    /// record in their place would be followed by the rest of them.
    pub(super) fn cut_off(&self, file: &DataFile, end: u64) {
        if let Err(source) = file.handle().set_len(end) {
            let error = file.io_error(source);
            log::error!(target: LOGGER, "cannot cut off a transaction: {error}");
            self.fail();
        }
    }

    /// Cut off a group of transactions that begins at `start`.
    ///
    /// Only the header at `start` marks the transactions after it as unfinished. A truncation to
    /// `start` writes zeros over the rest of its sector, which can reach the disk before the new
    /// length does. So the file is first truncated after the header, and synced: the rest is then
    /// too short for a transaction.
    pub(super) fn cut_off_group(&self, file: &DataFile, start: u64) {
        if self.check_not_failed().is_err() {
            // It is cut off when the storage is opened again.
            return;
        }
        match self.cut_to_header(file, start) {
            Ok(()) => self.cut_off(file, start),
            Err(error) => {
                log::error!(target: LOGGER, "cannot cut off transactions: {error}");
                self.fail();
            }
        }
    }

    fn cut_to_header(&self, file: &DataFile, start: u64) -> StorageResult<()> {
        let end = start + TRANSACTION_HEADER_LEN as u64;
        let handle = file.handle();
        let error = |source| file.io_error(source);
        if handle.metadata().map_err(error)?.len > end {
            handle.set_len(end).map_err(error)?;
            self.sync(file)?;
        }
        Ok(())
    }
}

/// Cut off the padding of a finished transaction. This need not succeed or be durable: padding is
/// harmless, and the next transaction overwrites it.
pub(super) fn drop_padding(file: &DataFile, end: u64) {
    if let Err(source) = file.handle().set_len(end) {
        let error = file.io_error(source);
        log::warn!(target: LOGGER, "cannot cut off padding: {error}");
    }
}

/// While it exists, the state records that this thread is finishing a transaction.
pub(super) struct FinishingGuard<'storage>(pub(super) &'storage FileStorage);

impl Drop for FinishingGuard<'_> {
    fn drop(&mut self) {
        self.0.state.write().finishing = None;
    }
}

/// Marks the storage failed if an error or panic occurs after the databases were told of a
/// transaction but before it is known to be in the file.
pub(super) struct PoisonOnDrop<'storage>(pub(super) &'storage FileStorage);

impl Drop for PoisonOnDrop<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.write();
        if state.condition == Condition::Open {
            state.condition = Condition::Failed;
        }
    }
}
