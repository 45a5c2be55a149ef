//! Group commits: transactions of another storage that become durable together.
//!
//! A commit costs a sync, but a secondary that catches up restores thousands of transactions per
//! second. So they are collected, written after the committed end, and synced as a group. In the
//! file each has its final status at once, except the first one of the group, which is "voted"
//! until the sync is complete. Recovery after a crash stops there, and never reads the bytes
//! after it, which may be incomplete; see docs/recovery.md.
//!
//! [`Restorer::flush`] makes a group durable and then publishes it. The status byte that finishes
//! the group becomes durable with the next group's sync, or by [`FileStorage::sync_status`];
//! [`FileStorage::durable`] is the end of what is certain to survive.

mod group;
mod parts;

use std::ops::Range;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;

use self::group::Group;
use self::parts::Parts;
use super::commit::FinishError;
use super::voted::{FinishingGuard, PoisonOnDrop};
use super::{FileStorage, TransactionMeta};
use crate::error::{StorageError, StorageResult};
use zrs_ids::{Oid, Tid};

/// The number of bytes of a group to keep in memory.
const MEMORY: u64 = 8 << 20;

/// Called before a transaction becomes visible, with its id and changed objects.
pub type Announce<'a, E> = &'a mut dyn FnMut(Tid, &[Oid]) -> Result<(), E>;

/// Restores transactions sequentially, called by one thread at a time.
///
/// It holds the commit lock while a transaction is being restored or transactions are pending.
/// Dropping it discards those.
pub struct Restorer {
    storage: Arc<FileStorage>,
    group: Option<Group>,
    /// The memory for the next group, while no group is open.
    parts: Parts,
}

impl Restorer {
    /// A restorer for this storage.
    pub fn new(storage: Arc<FileStorage>) -> Self {
        Self {
            storage,
            group: None,
            parts: Parts::default(),
        }
    }

    /// The storage.
    pub fn storage(&self) -> &Arc<FileStorage> {
        &self.storage
    }

    /// The number of bytes of finished transactions that are pending.
    pub fn pending(&self) -> u64 {
        self.group.as_ref().map_or(0, Group::finished_len)
    }

    /// The last pending transaction.
    pub fn last_tid(&self) -> Option<Tid> {
        let group = self.group.as_ref().filter(|group| group.finished() > 0);
        group.map(|group| group.last().1)
    }

    /// Begin a transaction, which must be later than all earlier ones.
    ///
    /// # Errors
    /// [`StorageError::ReadOnly`], [`StorageError::FieldTooLong`], and those of a closed or
    /// failed storage.
    pub fn begin(&mut self, meta: &TransactionMeta) -> StorageResult<()> {
        self.storage.check_writable()?;
        if self.group.is_none() {
            let guard = self.storage.commit_lock().acquire_fair();
            let snapshot = self.storage.snapshot()?;
            let parts = std::mem::take(&mut self.parts);
            self.group = Some(Group::new(guard, snapshot, parts));
        }
        let begun = self.begun()?.begin_transaction(meta);
        self.end_if_empty();
        begun
    }

    /// Restore a record of the current transaction; see [`FileStorage::restore`].
    ///
    /// # Errors
    /// Those of reading and writing the file; the transaction can then only be aborted.
    pub fn restore(
        &mut self,
        oid: Oid,
        tid: Tid,
        data: Option<&Bytes>,
        data_txn: Option<Tid>,
    ) -> StorageResult<()> {
        let same = match data_txn {
            Some(data_txn) => self.same_data(oid, data_txn, data)?,
            None => None,
        };
        let prev = self.position_or_zero(oid)?;
        let group = self.begun()?;
        group.record(oid, tid, prev, data, same);
        if group.unwritten() > MEMORY {
            self.spill()?;
        }
        Ok(())
    }

    /// The position of the record in the transaction `tid` that has the same data.
    fn same_data(
        &mut self,
        oid: Oid,
        tid: Tid,
        data: Option<&Bytes>,
    ) -> StorageResult<Option<u64>> {
        let position = self.position_or_zero(oid)?;
        let mut snapshot = self.storage.snapshot()?;
        if position >= snapshot.end {
            // The object was changed in this group, so write it in order to read it.
            self.spill()?;
            snapshot.end = self.begun()?.transaction_start().unwrap_or(snapshot.end);
        }
        snapshot.record_with_same_data(oid, position, tid, data.map(|data| &data[..]))
    }

    fn position_or_zero(&self, oid: Oid) -> StorageResult<u64> {
        match self.group.as_ref().and_then(|group| group.position(oid)) {
            Some(position) => Ok(position),
            None => self.storage.position_or_zero(oid),
        }
    }

    fn spill(&mut self) -> StorageResult<()> {
        let storage = Arc::clone(&self.storage);
        self.begun()?.spill(&storage)
    }

    fn begun(&mut self) -> StorageResult<&mut Group> {
        self.group.as_mut().ok_or(StorageError::NotBegun)
    }

    /// End the transaction, which is then pending.
    ///
    /// # Errors
    /// Those of writing the file; the transaction can then only be aborted.
    pub fn commit(&mut self) -> StorageResult<()> {
        let storage = Arc::clone(&self.storage);
        self.begun()?.commit(&storage)
    }

    /// Discard the current transaction, if any.
    pub fn abort(&mut self) {
        if let Some(group) = &mut self.group {
            match group.abort() {
                Some(end) if group.leftover() == Some(end) => {
                    self.storage.cut_off_group(group.file(), end);
                }
                Some(end) => self.storage.cut_off(group.file(), end),
                None => {}
            }
        }
        self.end_if_empty();
    }

    /// Make the pending transactions durable and publish them, calling `announce` for each of
    /// them before it becomes visible. After an error, the transactions that are not visible and
    /// the current one are discarded.
    ///
    /// # Errors
    /// Those of writing the file, and those of `announce`.
    pub fn flush<E>(&mut self, announce: Option<Announce<'_, E>>) -> Result<(), FinishError<E>> {
        let Some(group) = self.group.as_mut().filter(|group| group.finished() > 0) else {
            return Ok(());
        };
        let written = write(&self.storage, group).map_err(FinishError::Storage);
        match written.and_then(|()| announce_and_publish(&self.storage, group, announce)) {
            Ok(()) => {
                group.clear_published();
                self.end_if_empty();
                Ok(())
            }
            Err(error) => {
                self.end();
                Err(error)
            }
        }
    }

    /// Release the commit lock if no transaction is current or pending.
    fn end_if_empty(&mut self) {
        if self.group.as_ref().is_some_and(Group::is_empty) {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some(group) = self.group.take() {
            self.parts = group.into_parts();
        }
    }
}

/// Write a group and make it durable, except for its final status.
fn write(storage: &FileStorage, group: &mut Group) -> StorageResult<()> {
    let written = storage.check_writable().and_then(|()| group.write(storage));
    if let Err(error) = written {
        if let Some(start) = group.leftover() {
            storage.cut_off_group(group.file(), start);
        }
        return Err(error);
    }
    storage.sync(group.file())?;
    // The sync included the status bytes of everything published before.
    storage.mark_status_synced();
    Ok(())
}

fn announce_and_publish<E>(
    storage: &FileStorage,
    group: &mut Group,
    announce: Option<Announce<'_, E>>,
) -> Result<(), FinishError<E>> {
    let Some(announce) = announce else {
        finish(storage, group).map_err(FinishError::Storage)?;
        publish(storage, group, 0..group.finished());
        return Ok(());
    };
    for number in 0..group.finished() {
        let _gate = storage.gate.write();
        storage.state.write().finishing = Some(thread::current().id());
        let _unfinished = FinishingGuard(storage);
        let (tid, oids) = group.changed(number);
        if let Err(error) = announce(tid, &oids) {
            // If a crash undoes the truncation, the rest is part of the history all the same.
            let end = group.keep(number);
            storage.cut_off(group.file(), end);
            return Err(FinishError::Callback(error));
        }
        if number == 0 {
            finish(storage, group).map_err(FinishError::Storage)?;
        }
        publish(storage, group, number..number + 1);
    }
    Ok(())
}

/// Write the final status of the group.
fn finish(storage: &FileStorage, group: &mut Group) -> StorageResult<()> {
    let poison = PoisonOnDrop(storage);
    group.finish()?;
    std::mem::forget(poison);
    Ok(())
}

/// Make transactions of the group visible to readers.
fn publish(storage: &FileStorage, group: &Group, numbers: Range<usize>) {
    storage.set_max_oid(group.max_oid());
    let mut state = storage.state.write();
    for (oid, position) in group.records(numbers.clone()) {
        state.index.insert(*oid, *position);
    }
    (state.end, state.last_tid) = group.end_of(numbers.end);
    state.has_unsynced_status = true;
}

impl Drop for Restorer {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            if let Some(start) = group
                .leftover()
                .filter(|_| self.storage.check_writable().is_ok())
            {
                self.storage.cut_off_group(group.file(), start);
            }
        }
    }
}

impl FileStorage {
    /// Make the status of all visible transactions durable, if it is not yet.
    ///
    /// # Errors
    /// Those of the system; the storage then refuses further operations.
    pub fn sync_status(&self) -> StorageResult<()> {
        let (file, end) = {
            let state = self.state.read();
            if !state.has_unsynced_status {
                return Ok(());
            }
            (state.file.clone(), state.end)
        };
        self.sync(&file)?;
        let mut state = self.state.write();
        if state.end == end {
            state.has_unsynced_status = false;
            state.durable = (state.end, state.last_tid);
        }
        Ok(())
    }

    /// Whether a power failure could undo a visible transaction.
    pub fn has_unsynced_status(&self) -> bool {
        self.state.read().has_unsynced_status
    }

    /// Where the transactions end that a power failure cannot undo, and the id of the last of
    /// them.
    pub fn durable(&self) -> (u64, Tid) {
        self.state.read().durable
    }

    /// Record that everything visible is durable.
    fn mark_status_synced(&self) {
        let mut state = self.state.write();
        state.has_unsynced_status = false;
        state.durable = (state.end, state.last_tid);
    }
}
