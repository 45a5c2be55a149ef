//! What a primary's clients do: commit, abort, undo.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use zrs_ids::{Oid, Tid};
use zrs_storage::error::StorageError;
use zrs_storage::filestorage::{
    FileStorage, FinishError, Resolution, Transaction, TransactionMeta, UndoResolver,
};

use super::{FIRST_OBJECT, OBJECTS, TWINS, World};
use crate::sim::history::{ROOT, State};

const FIRST_TID: u64 = 0x0400_0000_0000_0000;
/// How many of the last transactions may be undone.
const UNDOABLE: usize = 8;

/// What a transaction writes.
type Written = BTreeMap<Oid, Option<Bytes>>;

/// Gives the twins, which every transaction changes, their data in this one.
struct Twins(Bytes);

impl UndoResolver for Twins {
    fn resolve(&mut self, oid: Oid, _: Tid, _: Tid, _: &[u8], _: &[u8]) -> Resolution {
        if TWINS.contains(&oid) {
            Resolution::Resolved(self.0.clone())
        } else {
            Resolution::Unresolved
        }
    }
}

impl World {
    pub(super) fn commit(&mut self) {
        let storage = Arc::clone(&self.primary.storage);
        let tid = self.next_tid();
        let mut transaction = self.begun(&storage, tid);
        let written = self.write(&storage, &mut transaction);
        storage.vote(&mut transaction).unwrap();
        self.finish(&storage, transaction, written);
        self.counts.commits += 1;
    }

    pub(super) fn abort(&mut self) {
        let storage = Arc::clone(&self.primary.storage);
        let tid = self.next_tid();
        let mut transaction = self.begun(&storage, tid);
        self.write(&storage, &mut transaction);
        if self.random.one_in(2) {
            storage.vote(&mut transaction).unwrap();
        }
        drop(storage.abort(transaction));
        self.counts.aborts += 1;
    }

    /// Undoes one of the last transactions, unless that conflicts with later ones.
    pub(super) fn undo(&mut self) {
        let Some(undone) = self.history.back(self.random.below(UNDOABLE)) else {
            return;
        };
        if Some(undone) == self.history.first() {
            return;
        }
        let storage = Arc::clone(&self.primary.storage);
        let tid = self.next_tid();
        let mut transaction = self.begun(&storage, tid);
        let mut twins = Twins(self.twin(tid));
        let records = match storage.undo(&mut transaction, undone, &mut twins) {
            Ok(records) => records,
            Err(StorageError::Undo(_) | StorageError::MultipleUndo(_)) => {
                assert!(!self.can_be_undone(undone), "{undone} is not undone");
                drop(storage.abort(transaction));
                self.counts.refused_undos += 1;
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let before = Tid::from_u64(undone.as_u64() - 1);
        let expected = records.iter().map(|record| {
            let data = match self.history.data(record.oid, before) {
                _ if record.copied.is_none() && TWINS.contains(&record.oid) => Some(&twins.0),
                data => data,
            };
            (record.oid, data.cloned())
        });
        let mut written: Written = expected.collect();
        storage.vote(&mut transaction).unwrap();
        for record in &records {
            if let Some(copied) = record.copied {
                if let Ok((_, origin)) = storage.load_back(record.oid, copied) {
                    self.history.add_copy(record.oid, tid, origin);
                }
            }
            let (oid, packed) = (record.oid, &self.primary.packed);
            let revision = self.history.at(oid, before);
            let is_dropped = revision.is_some_and(|(tid, _)| packed.dropped.contains(&(oid, *tid)));
            let was_gone =
                revision.is_some_and(|(tid, data)| data.is_none() && *tid <= packed.records);
            match record.copied {
                // What a pack has dropped before cannot be brought back.
                None if is_dropped => {
                    written.insert(oid, None);
                }
                // Nor can be packed away that an object was gone, where a later record leads
                // to what it was earlier.
                Some(copied) if was_gone => {
                    let earlier = storage.load_back(oid, copied);
                    written.insert(oid, earlier.ok().map(|(data, _)| data));
                }
                _ => {}
            }
        }
        self.finish(&storage, transaction, written);
        self.counts.undos += 1;
    }

    /// Whether nothing stands against undoing a transaction: it was not packed, and nothing
    /// but the twins was changed since.
    fn can_be_undone(&self, undone: Tid) -> bool {
        let oids = self.history.written(undone).keys();
        let mut others = oids.filter(|oid| !TWINS.contains(oid));
        undone > self.primary.packed.records
            && others.all(|oid| {
                self.history
                    .at(*oid, self.last)
                    .is_some_and(|(tid, _)| *tid == undone)
            })
    }

    fn next_tid(&self) -> Tid {
        Tid::from_u64(self.last.as_u64().max(FIRST_TID) + 0x1_0000)
    }

    fn twin(&mut self, tid: Tid) -> Bytes {
        let filling = self.random.below(200);
        State {
            filling,
            ..State::default()
        }
        .to_bytes(tid)
    }

    fn begun(&mut self, storage: &Arc<FileStorage>, tid: Tid) -> Transaction {
        let meta = TransactionMeta {
            tid,
            status: b' ',
            user: Bytes::from_static(b"user"),
            description: Bytes::from(vec![b'd'; self.random.below(30)]),
            extension: Bytes::new(),
        };
        storage
            .begin(storage.commit_lock().acquire(), &meta)
            .unwrap()
    }

    fn finish(&mut self, storage: &FileStorage, transaction: Transaction, written: Written) {
        let tid = transaction.tid();
        match storage.finish(transaction, |_| Ok::<(), Infallible>(())) {
            Ok(guard) => drop(guard),
            Err(FinishError::Storage(error)) => panic!("{error}"),
            Err(FinishError::Callback(never)) => match never {},
        }
        self.last = tid;
        self.committed.push(tid);
        self.history.add(tid, written);
        self.feed.publish(tid, Some(storage.size()));
    }

    /// Writes the twins, often the root, and some others. What is linked can be reached
    /// already or is written as well: other objects may be gone.
    fn write(&mut self, storage: &FileStorage, transaction: &mut Transaction) -> Written {
        let tid = transaction.tid();
        let twin = self.twin(tid);
        let mut written: Written = TWINS.map(|oid| (oid, Some(twin.clone()))).into();
        let reachable = self.history.reachable(self.last);
        let oids: BTreeSet<Oid> = (0..self.random.below(4))
            .map(|_| Oid::from_u64(FIRST_OBJECT + self.random.next() % OBJECTS))
            .collect();
        let there = reachable
            .iter()
            .filter(|oid| self.history.data(**oid, self.last).is_some());
        let mut linkable: Vec<Oid> = there
            .copied()
            .filter(|oid| oid.as_u64() >= FIRST_OBJECT)
            .collect();
        // Now and then the data of the last revision, or none at all.
        let mut chosen = Vec::new();
        for oid in oids {
            let revision = self.history.at(oid, self.last).cloned();
            match (self.random.below(8), revision) {
                (0, Some((tid, Some(data)))) if linkable.contains(&oid) => {
                    chosen.push((oid, Some(data), Some(tid)));
                }
                (1, Some((_, Some(_)))) => {
                    linkable.retain(|other| *other != oid);
                    chosen.push((oid, None, None));
                }
                _ => {
                    linkable.push(oid);
                    chosen.push((oid, Some(Bytes::new()), None));
                }
            }
        }
        if self.last == Tid::ZERO || self.random.one_in(3) {
            chosen.push((ROOT, Some(Bytes::new()), None));
        }
        for (oid, data, data_txn) in chosen {
            let data = data.map(|data| {
                if data.is_empty() {
                    self.state(oid, &linkable).to_bytes(tid)
                } else {
                    data
                }
            });
            written.insert(oid, data.clone());
            storage
                .restore(transaction, oid, tid, data.as_deref(), data_txn)
                .unwrap();
        }
        for oid in TWINS {
            storage
                .restore(transaction, oid, tid, Some(&twin), None)
                .unwrap();
        }
        written
    }

    fn state(&mut self, oid: Oid, linkable: &[Oid]) -> State {
        let mut references = if oid == ROOT {
            TWINS.to_vec()
        } else {
            Vec::new()
        };
        let count = if linkable.is_empty() {
            0
        } else {
            self.random.below(4)
        };
        references.extend((0..count).map(|_| linkable[self.random.below(linkable.len())]));
        State {
            references,
            is_blob: oid != ROOT && self.random.one_in(4),
            filling: self.random.below(900),
        }
    }
}
