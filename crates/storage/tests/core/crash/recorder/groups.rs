//! Group commits: transactions that are restored together and become visible together.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use zrs_ids::{Oid, Tid};
use zrs_storage::error::StorageResult;
use zrs_storage::filestorage::{FileStorage, FinishError, Restorer};

use super::records::record;
use super::{FIRST_TID, Objects, PATH, Recorder, State, meta};

impl Recorder {
    /// Restore a group, and another transaction that begins before the group is visible.
    pub(super) fn group(
        &mut self,
        group: &[&[(u64, usize)]],
        next: &[(u64, usize)],
        finish_next: bool,
    ) -> StorageResult<()> {
        let storage = Arc::new(self.storage.take().unwrap());
        let done = self.restore_group(&storage, group, next, finish_next);
        self.storage = Some(Arc::into_inner(storage).unwrap());
        done
    }

    fn restore_group(
        &mut self,
        storage: &Arc<FileStorage>,
        group: &[&[(u64, usize)]],
        next: &[(u64, usize)],
        finish_next: bool,
    ) -> StorageResult<()> {
        let mut restorer = Restorer::new(Arc::clone(storage));
        let mut transactions = Vec::new();
        let mut objects = self.objects.clone();
        let mut tids = BTreeMap::new();
        let (mut done, mut tid) = (Ok(()), self.last);
        for transaction in group {
            tid = Tid::from_u64(tid.as_u64().max(FIRST_TID) + 0x1_0000);
            transactions.push((tid, objects.clone()));
            done = restore_all(&mut restorer, tid, transaction, &mut objects, &mut tids)
                .and_then(|()| restorer.commit());
            if done.is_err() {
                break;
            }
        }
        let shown = objects.clone();
        if done.is_ok() && !next.is_empty() {
            let tid = Tid::from_u64(tid.as_u64() + 0x1_0000);
            done = restore_all(&mut restorer, tid, next, &mut objects, &mut tids);
        }
        done?;
        self.show_group(&mut restorer, storage)?;
        (self.objects, self.last) = (shown, tid);
        self.transactions.extend(transactions);
        self.note_restored(storage, "a group");
        if !finish_next {
            restorer.abort();
            return Ok(());
        }
        let tid = Tid::from_u64(tid.as_u64() + 0x1_0000);
        restorer.commit()?;
        self.show_group(&mut restorer, storage)?;
        self.transactions.push((tid, self.objects.clone()));
        (self.objects, self.last) = (objects, tid);
        self.note_restored(storage, "the transaction after a group");
        Ok(())
    }

    /// Make a group visible; earlier groups are durable when its transactions are announced.
    fn show_group(&mut self, restorer: &mut Restorer, storage: &FileStorage) -> StorageResult<()> {
        let mut announce = |_: Tid, _: &[Oid]| {
            assert_eq!(storage.durable().1, self.last, "shown before");
            self.acknowledge_group();
            Ok::<(), Infallible>(())
        };
        match restorer.flush(Some(&mut announce)) {
            Ok(()) => Ok(()),
            Err(FinishError::Storage(error)) => Err(error),
            Err(FinishError::Callback(never)) => match never {},
        }
    }

    fn note_restored(&mut self, storage: &FileStorage, step: &str) {
        let bytes = self.vfs.content(PATH).unwrap()[..storage.size() as usize].to_vec();
        self.states.push(State {
            step: step.to_owned(),
            tid: self.last,
            bytes,
            objects: self.objects.clone(),
            blobs: self.blobs.clone(),
        });
        self.group_is_unacknowledged = true;
    }
}

/// Begin a transaction and restore objects in it.
fn restore_all(
    restorer: &mut Restorer,
    tid: Tid,
    transaction: &[(u64, usize)],
    objects: &mut Objects,
    tids: &mut BTreeMap<Oid, Tid>,
) -> StorageResult<()> {
    restorer.begin(&meta(tid))?;
    for &(oid, len) in transaction {
        let oid = Oid::from_u64(oid);
        let (data, data_txn) = match objects.get(&oid) {
            Some(Some(data)) if len == 0 => {
                let written = tids.get(&oid).copied();
                let written = written.map_or_else(|| restorer.storage().get_tid(oid), Ok)?;
                (data.clone(), Some(written))
            }
            _ => (record(oid, len, tid, &BTreeSet::new()), None),
        };
        restorer.restore(oid, tid, Some(&data), data_txn)?;
        objects.insert(oid, Some(data));
        tids.insert(oid, tid);
    }
    Ok(())
}
