//! Runs steps on a storage, and notes what it must show after each.

mod blobs;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use _zrs::error::{StorageError, StorageResult};
use _zrs::ids::{Oid, Tid};
use _zrs::storage::filestorage::{
    FileStorage, FinishError, Options, Resolution, Restorer, Stored, Transaction, TransactionMeta,
    UndoResolver,
};
use _zrs::storage::pack;
use _zrs::vfs::sim::SimVfs;
use bytes::Bytes;

use self::records::record;

pub(super) const PATH: &str = "db/Data.fs";
pub(super) const BLOBS: &str = "db/blobs";
/// The tid of the first transaction: some day in 2025, so that ZODB takes it for a time.
const FIRST_TID: u64 = 0x0400_0000_0000_0000;

/// The data of objects that there are or were: `None` if there are none any more.
pub(super) type Objects = BTreeMap<Oid, Option<Bytes>>;

/// The contents of files by their paths.
pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What is done to a storage.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Commit objects with data of about these lengths.
    Store(&'static [(u64, usize)]),
    /// Commit blobs with contents of these lengths.
    StoreBlobs(&'static [(u64, usize)]),
    /// Begin such a transaction, vote, and give it up.
    AbortBlobs(&'static [(u64, usize)]),
    /// Commit the undoing of the last transaction.
    Undo,
    /// Commit copies: of the first object's data once more, of others as they are.
    Restore(&'static [(u64, usize)]),
    /// Commit the removal of an object.
    Delete(u64),
    /// Begin a transaction with these objects, and give it up.
    Abort(&'static [(u64, usize)]),
    /// The same after its vote.
    AbortVoted(&'static [(u64, usize)]),
    /// The same in the callback of its end.
    AbortFinishing(&'static [(u64, usize)]),
    /// Vote for a transaction with these objects; the process dies, another one follows.
    VoteAndDie(&'static [(u64, usize)]),
    /// Restore transactions of these objects each as a group; of an object without a length
    /// the data that it has.
    Group(&'static [&'static [(u64, usize)]]),
    /// The same when another transaction has begun, which is finished after the group.
    GroupBefore(&'static [&'static [(u64, usize)]], &'static [(u64, usize)]),
    /// The same, but that transaction is given up.
    GroupBeforeAbort(&'static [&'static [(u64, usize)]], &'static [(u64, usize)]),
    /// Make durable that the last group is finished.
    Settle,
    /// The process dies, another one follows.
    Die,
    /// Save the index.
    Save,
    /// Close, and open again.
    Reopen,
    /// Remove the index, as an operator may, and open without it.
    ReopenWithoutIndex,
    /// Pack to the time of so many transactions ago.
    Pack {
        ago: usize,
        gc: bool,
        keep_old: bool,
        meanwhile: &'static [(u64, usize)],
    },
}

/// What a storage must show when it has acknowledged something.
#[derive(Clone)]
pub(super) struct State {
    /// What was done last.
    pub(super) step: String,
    /// The last transaction.
    pub(super) tid: Tid,
    /// The whole file.
    pub(super) bytes: Vec<u8>,
    pub(super) objects: Objects,
    /// The blob files that belong to them.
    pub(super) blobs: Files,
}

/// Runs steps.
pub(super) struct Recorder {
    pub(super) vfs: SimVfs,
    pub(super) options: Options,
    /// `None` until it is open.
    pub(super) storage: Option<FileStorage>,
    /// What was acknowledged, in order; the log has a mark for each.
    pub(super) states: Vec<State>,
    /// Whether the last state is of a group that may yet be taken back.
    unsettled: bool,
    /// Whether the step before was to give up a transaction, which reports no errors.
    pub(super) aborted: bool,
    objects: Objects,
    blobs: Files,
    /// The transactions since the last pack, with what there was before them.
    transactions: Vec<(Tid, Objects)>,
    last: Tid,
}

impl Recorder {
    pub(super) fn new(vfs: SimVfs, options: Options) -> Self {
        Self {
            vfs,
            options,
            storage: None,
            states: Vec::new(),
            aborted: false,
            unsettled: false,
            objects: Objects::new(),
            blobs: Files::new(),
            transactions: Vec::new(),
            last: Tid::ZERO,
        }
    }

    /// Open a new storage and do the steps, up to the first that fails.
    pub(super) fn run(&mut self, steps: &[Step]) -> StorageResult<()> {
        self.open()?;
        self.acknowledge("make");
        for step in steps {
            self.step(step)?;
            self.aborted = matches!(
                step,
                Step::AbortVoted(_) | Step::AbortFinishing(_) | Step::GroupBeforeAbort(..)
            );
        }
        Ok(())
    }

    pub(super) fn step(&mut self, step: &Step) -> StorageResult<()> {
        match *step {
            Step::Store(objects) => self.store(objects)?,
            Step::StoreBlobs(blobs) => self.store_blobs(blobs)?,
            Step::AbortBlobs(blobs) => return self.abort_blobs(blobs),
            Step::Undo => self.undo()?,
            Step::Restore(objects) => self.restore(objects)?,
            Step::Delete(oid) => self.delete(Oid::from_u64(oid))?,
            Step::Abort(objects) => {
                let transaction = self.stored(objects)?.0;
                drop(self.storage().abort(transaction));
                return Ok(());
            }
            Step::AbortVoted(objects) => {
                let mut transaction = self.stored(objects)?.0;
                let voted = self.storage().vote(&mut transaction);
                drop(self.storage().abort(transaction));
                return voted;
            }
            Step::AbortFinishing(objects) => return self.abort_finishing(objects),
            Step::VoteAndDie(objects) => {
                let mut transaction = self.stored(objects)?.0;
                self.storage().vote(&mut transaction)?;
                drop(transaction);
                return self.open();
            }
            Step::Group(group) => return self.group(group, &[], false),
            Step::GroupBefore(group, next) => return self.group(group, next, true),
            Step::GroupBeforeAbort(group, next) => return self.group(group, next, false),
            Step::Settle => {
                self.storage().settle()?;
                self.settled();
                return Ok(());
            }
            Step::Die => {
                self.open()?;
                self.settled();
                return Ok(());
            }
            Step::Save => {
                self.storage().save_index()?;
                self.settled();
                return Ok(());
            }
            Step::Reopen => return self.reopen(),
            Step::ReopenWithoutIndex => {
                self.storage().close()?;
                self.storage().remove_index()?;
                return self.open();
            }
            Step::Pack {
                ago,
                gc,
                keep_old,
                meanwhile,
            } => self.pack(ago, gc, keep_old, meanwhile)?,
        }
        self.acknowledge(&format!("{step:?}"));
        Ok(())
    }

    fn open(&mut self) -> StorageResult<()> {
        self.storage = None;
        self.storage = Some(open(&self.vfs, self.options)?);
        Ok(())
    }

    fn reopen(&mut self) -> StorageResult<()> {
        let closed = self.storage().close();
        self.storage = None;
        closed?;
        self.settled();
        self.open()
    }

    pub(super) fn storage(&self) -> &FileStorage {
        self.storage.as_ref().unwrap()
    }

    fn acknowledge(&mut self, step: &str) {
        self.note(step);
        self.vfs.mark(step);
    }

    /// Acknowledge the group that was shown last, if it was not.
    fn settled(&mut self) {
        if std::mem::take(&mut self.unsettled) {
            self.vfs.mark("a group is durable");
        }
    }

    fn note(&mut self, step: &str) {
        let size = self.storage().size() as usize;
        let bytes = self.vfs.content(PATH).unwrap()[..size].to_vec();
        self.states.push(State {
            step: step.to_owned(),
            tid: self.last,
            bytes,
            objects: self.objects.clone(),
            blobs: self.blobs.clone(),
        });
    }

    fn begin(&self) -> StorageResult<Transaction> {
        begin(self.storage(), self.next_tid())
    }

    fn next_tid(&self) -> Tid {
        Tid::from_u64(self.last.as_u64().max(FIRST_TID) + 0x1_0000)
    }

    /// Vote and finish; `changed` are the objects as they are then.
    fn finish(&mut self, mut transaction: Transaction, changed: Objects) -> StorageResult<()> {
        let tid = transaction.tid();
        if let Err(error) = self.storage().vote(&mut transaction) {
            drop(self.storage().abort(transaction));
            return Err(error);
        }
        self.settled();
        finish(self.storage(), transaction)?;
        self.transactions.push((tid, self.objects.clone()));
        self.objects.extend(changed);
        self.last = tid;
        Ok(())
    }

    /// A transaction with these objects stored, and their data.
    fn stored(&self, objects: &[(u64, usize)]) -> StorageResult<(Transaction, Objects)> {
        let mut transaction = self.begin()?;
        let mut changed = Objects::new();
        for &(oid, len) in objects {
            let new = objects.iter().map(|(oid, _)| Oid::from_u64(*oid));
            let there: BTreeSet<_> = self.live().into_iter().chain(new).collect();
            let oid = Oid::from_u64(oid);
            let data = record(oid, len, self.next_tid(), &there);
            let serial = self.storage().get_tid(oid);
            let serial = match serial {
                Err(StorageError::NoSuchObject { .. }) => self.last_serial(oid)?,
                serial => Some(serial?),
            };
            let stored = self.storage().store(&mut transaction, oid, serial, &data)?;
            assert_eq!(stored, Stored::Stored);
            changed.insert(oid, Some(data));
        }
        Ok((transaction, changed))
    }

    /// The transaction of an object's last record, also if it says that the object is no
    /// more.
    fn last_serial(&self, oid: Oid) -> StorageResult<Option<Tid>> {
        match self.storage().position(oid) {
            Ok(position) => Ok(Some(self.storage().data_header(position, None)?.0.tid)),
            Err(StorageError::NoSuchObject { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn live(&self) -> Vec<Oid> {
        let live = self.objects.iter().filter(|(_, data)| data.is_some());
        live.map(|(oid, _)| *oid).collect()
    }

    fn store(&mut self, objects: &[(u64, usize)]) -> StorageResult<()> {
        let (transaction, changed) = self.stored(objects)?;
        self.finish(transaction, changed)
    }

    fn undo(&mut self) -> StorageResult<()> {
        let (undone, before) = self.transactions.last().unwrap().clone();
        let mut transaction = self.begin()?;
        let records = self
            .storage()
            .undo(&mut transaction, undone, &mut NoResolver)?;
        let data = |oid| before.get(oid).cloned().flatten();
        let changed = records.iter().map(|record| &record.oid);
        let changed = changed.map(|oid| (*oid, data(oid))).collect();
        self.finish(transaction, changed)
    }

    fn restore(&mut self, objects: &[(u64, usize)]) -> StorageResult<()> {
        let mut transaction = self.begin()?;
        let tid = transaction.tid();
        let mut changed = Objects::new();
        for (number, &(oid, len)) in objects.iter().enumerate() {
            let oid = Oid::from_u64(oid);
            let (data, data_txn) = if number == 0 {
                let data = self.objects[&oid].clone().unwrap();
                (data, Some(self.storage().get_tid(oid)?))
            } else {
                (record(oid, len, tid, &BTreeSet::new()), None)
            };
            self.storage()
                .restore(&mut transaction, oid, tid, Some(&data), data_txn)?;
            changed.insert(oid, Some(data));
        }
        self.finish(transaction, changed)
    }

    /// Restore a group, and another transaction that has begun before it is shown.
    fn group(
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

    /// Show a group; what was shown before is durable when its transactions are announced.
    fn show_group(&mut self, restorer: &mut Restorer, storage: &FileStorage) -> StorageResult<()> {
        let mut announce = |_: Tid, _: &[Oid]| {
            assert_eq!(storage.durable().1, self.last, "shown before");
            self.settled();
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
        self.unsettled = true;
    }

    fn delete(&mut self, oid: Oid) -> StorageResult<()> {
        let serial = self.storage().get_tid(oid)?;
        let mut transaction = self.begin()?;
        self.storage()
            .delete_object(&mut transaction, oid, Some(serial))?;
        self.finish(transaction, Objects::from([(oid, None)]))
    }

    fn abort_finishing(&mut self, objects: &[(u64, usize)]) -> StorageResult<()> {
        let mut transaction = self.stored(objects)?.0;
        if let Err(error) = self.storage().vote(&mut transaction) {
            drop(self.storage().abort(transaction));
            return Err(error);
        }
        match self.storage().finish(transaction, |_| Err(())) {
            Err(FinishError::Callback(())) => Ok(()),
            Err(FinishError::Storage(error)) => Err(error),
            Ok(_) => panic!("finished without its callback"),
        }
    }

    fn pack(
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
        // The pack reads references without a lock, so that is where a commit may come.
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
        assert!(packed?, "there is something to pack in {options:?}");
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

    /// Objects that a pack dropped must be out of reach from the root.
    fn forget_packed(&mut self, time: Option<Tid>) {
        let index = self.storage().index().unwrap();
        let mut reached = BTreeSet::new();
        let mut todo = vec![Oid::ZERO];
        while let Some(oid) = todo.pop() {
            if let Some(Some(data)) = self.objects.get(&oid) {
                if reached.insert(oid) {
                    todo.extend(_zrs::pickle::refs::references(data).unwrap());
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

/// Open the storage in these files.
pub(super) fn open(vfs: &SimVfs, options: Options) -> StorageResult<FileStorage> {
    FileStorage::open(Arc::new(vfs.clone()), Path::new(PATH), options)
}

pub(super) fn begin(storage: &FileStorage, tid: Tid) -> StorageResult<Transaction> {
    storage.begin(storage.commit_lock().acquire(), &meta(tid))
}

fn meta(tid: Tid) -> TransactionMeta {
    TransactionMeta {
        tid,
        status: b' ',
        user: Bytes::from_static(b"user"),
        description: Bytes::from(format!("transaction {tid}")),
        extension: Bytes::new(),
    }
}

pub(super) fn finish(storage: &FileStorage, transaction: Transaction) -> StorageResult<()> {
    match storage.finish(transaction, |_| Ok::<(), Infallible>(())) {
        Ok(guard) => {
            drop(guard);
            Ok(())
        }
        Err(FinishError::Storage(error)) => Err(error),
        Err(FinishError::Callback(never)) => match never {},
    }
}

/// Nothing is reconciled.
struct NoResolver;

impl UndoResolver for NoResolver {
    fn resolve(&mut self, _: Oid, _: Tid, _: Tid, _: &[u8], _: &[u8]) -> Resolution {
        Resolution::Unresolved
    }
}
