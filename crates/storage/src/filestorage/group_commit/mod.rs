//! Transactions of another storage, restored in groups that become durable together.
//!
//! A commit costs a sync; a secondary that catches up restores thousands of transactions a
//! second. So they are gathered, written behind the committed end, and synced as a group.
//! In the file each has its final status at once, but the first of the group: that one is
//! "voted" until the sync is over. Whoever opens the file after a crash stops there, and
//! never sees what may be torn behind it; see docs/recovery.md.
//!
//! [`Restorer::flush`] makes a group durable and then shows it. The byte that says so is
//! durable with the next group's sync, or after [`FileStorage::sync_status`]; what is certain to
//! survive is [`FileStorage::durable`].

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

/// How many bytes of a group are kept in memory.
const MEMORY: u64 = 8 << 20;

/// What is called before a transaction is shown, with its id and the objects it changes.
pub type Announce<'a, E> = &'a mut dyn FnMut(Tid, &[Oid]) -> Result<(), E>;

/// Restores transactions, one after another, from one thread at a time.
///
/// It holds the commit lock while a transaction is begun or waits to be shown. Dropping it
/// forgets those.
pub struct Restorer {
    storage: Arc<FileStorage>,
    group: Option<Group>,
    /// Between groups, their memory.
    parts: Parts,
}

impl Restorer {
    /// A restorer into this storage.
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

    /// How many bytes of finished transactions wait to be shown.
    pub fn pending(&self) -> u64 {
        self.group.as_ref().map_or(0, Group::finished_len)
    }

    /// The last finished transaction that waits to be shown.
    pub fn last_tid(&self) -> Option<Tid> {
        let group = self.group.as_ref().filter(|group| group.finished() > 0);
        group.map(|group| group.last().1)
    }

    /// Begin a transaction, which is later than all there are.
    ///
    /// # Errors
    /// [`StorageError::ReadOnly`], [`StorageError::FieldTooLong`], and those of a storage
    /// that was closed or has failed.
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

    /// Restore a record of the transaction begun; see [`FileStorage::restore`].
    ///
    /// # Errors
    /// Those of reading and writing the file; the transaction can only be aborted then.
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
            // The object was changed in this group, which has to be read.
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

    /// End the transaction: it waits to be shown.
    ///
    /// # Errors
    /// Those of writing the file; the transaction can only be aborted then.
    pub fn commit(&mut self) -> StorageResult<()> {
        let storage = Arc::clone(&self.storage);
        self.begun()?.commit(&storage)
    }

    /// Forget the transaction begun, if any.
    pub fn abort(&mut self) {
        if let Some(group) = &mut self.group {
            if let Some(end) = group.abort() {
                self.storage.cut_off(group.file(), end);
            }
        }
        self.end_if_empty();
    }

    /// Make the finished transactions durable and show them; call `announce` for each
    /// before. After an error those that are not shown are forgotten, and the one begun.
    ///
    /// # Errors
    /// Those of writing the file, and `announce`'s.
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

    /// Release the commit lock when nothing is begun and nothing waits.
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

/// Write a group and make it durable, that it is finished excepted.
fn write(storage: &FileStorage, group: &mut Group) -> StorageResult<()> {
    let written = storage.check_writable().and_then(|()| group.write(storage));
    if let Err(error) = written {
        if let Some(end) = group.leftover() {
            storage.cut_off(group.file(), end);
        }
        return Err(error);
    }
    storage.sync(group.file())?;
    // All that was shown before is durable, the bytes that say so included.
    storage.status_is_synced();
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
            // What the cut leaves after a crash is part of the history all the same.
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

/// Say in the file that the group is finished.
fn finish(storage: &FileStorage, group: &mut Group) -> StorageResult<()> {
    let poison = PoisonOnDrop(storage);
    group.finish()?;
    std::mem::forget(poison);
    Ok(())
}

/// Let readers see transactions of the group.
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
            if let Some(end) = group
                .leftover()
                .filter(|_| self.storage.check_writable().is_ok())
            {
                self.storage.cut_off(group.file(), end);
            }
        }
    }
}

impl FileStorage {
    /// Make durable that all transactions shown are finished, if it is not yet.
    ///
    /// # Errors
    /// Those of the system; the storage refuses further work then.
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

    /// Whether a power cut could take back a transaction that is shown.
    pub fn has_unsynced_status(&self) -> bool {
        self.state.read().has_unsynced_status
    }

    /// Where the transactions end that a power cut cannot take back, and the last of them.
    pub fn durable(&self) -> (u64, Tid) {
        self.state.read().durable
    }

    /// All that is shown is durable.
    fn status_is_synced(&self) {
        let mut state = self.state.write();
        state.has_unsynced_status = false;
        state.durable = (state.end, state.last_tid);
    }
}
