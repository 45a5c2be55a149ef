//! Packs, and commits during them.

use std::collections::BTreeSet;
use std::sync::Arc;

use zrs_ids::{Oid, Tid};
use zrs_storage::error::StorageResult;
use zrs_storage::filestorage::FileStorage;
use zrs_storage::pack;

use super::records::record;
use super::{Objects, PATH, Recorder, State, begin, finish};

impl Recorder {
    pub(super) fn pack(
        &mut self,
        ago: usize,
        gc: bool,
        keep_old: bool,
        meanwhile: &[(u64, usize)],
    ) -> StorageResult<()> {
        let time = self.transactions.iter().rev().nth(ago).map(|(tid, _)| *tid);
        let options = pack::Options {
            time: time.unwrap_or(self.last),
            gc,
        };
        let storage = self.storage.take().unwrap();
        let mut native = pack::native_references();
        let mut todo = Some(meanwhile).filter(|meanwhile| !meanwhile.is_empty());
        let storage = Arc::new(storage);
        // The pack reads references without a lock, so a commit may take place then.
        let shared = Arc::clone(&storage);
        let mut references = |oid: Oid, data: &[u8], found: &mut Vec<Oid>| {
            if let Some(objects) = todo.take() {
                self.commit_meanwhile(&shared, objects)?;
            }
            native(oid, data, found)
        };
        let packed = storage.pack(&options, keep_old, &mut references, None);
        drop(shared);
        self.storage = Some(Arc::into_inner(storage).unwrap());
        assert!(
            packed?.is_some(),
            "there is something to pack in {options:?}"
        );
        self.forget_packed(time);
        Ok(())
    }

    fn commit_meanwhile(
        &mut self,
        storage: &FileStorage,
        objects: &[(u64, usize)],
    ) -> StorageResult<()> {
        let tid = self.next_tid();
        let mut transaction = begin(storage, tid)?;
        let mut changed = Objects::new();
        for &(oid, len) in objects {
            let oid = Oid::from_u64(oid);
            let serial = storage.get_tid(oid)?;
            let data = record(oid, len, tid, &BTreeSet::new());
            storage.store(&mut transaction, oid, Some(serial), &data)?;
            changed.insert(oid, Some(data));
        }
        storage.vote(&mut transaction)?;
        finish(storage, transaction)?;
        self.transactions.push((tid, self.objects.clone()));
        self.objects.extend(changed);
        self.last = tid;
        let bytes = self.vfs.content(PATH).unwrap()[..storage.size() as usize].to_vec();
        self.vfs.mark("commit beside a pack");
        self.states.push(State {
            step: "commit beside a pack".to_owned(),
            tid,
            bytes,
            objects: self.objects.clone(),
            blobs: self.blobs.clone(),
        });
        Ok(())
    }

    /// Objects that a pack dropped must be unreachable from the root.
    fn forget_packed(&mut self, time: Option<Tid>) {
        let index = self.storage().index().unwrap();
        let mut reached = BTreeSet::new();
        let mut todo = vec![Oid::ZERO];
        while let Some(oid) = todo.pop() {
            if let Some(Some(data)) = self.objects.get(&oid) {
                if reached.insert(oid) {
                    todo.extend(zrs_storage::pickle::refs::references(data).unwrap());
                }
            }
        }
        self.objects.retain(|oid, _| {
            let kept = index.get(*oid).is_some();
            assert!(kept || !reached.contains(oid), "{oid} is lost");
            kept
        });
        self.transactions
            .retain(|(tid, _)| time.is_some_and(|time| *tid > time));
    }
}
