//! Runs steps on a storage, and records its expected state after each.

mod blobs;
mod groups;
mod packs;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use zrs_ids::{Oid, Tid};
use zrs_storage::error::{StorageError, StorageResult};
use zrs_storage::filestorage::{
    FileStorage, FinishError, Options, Resolution, Stored, Transaction, TransactionMeta,
    UndoResolver,
};
use zrs_vfs::sim::SimVfs;

use self::records::record;
use super::step::Step;

pub(super) const PATH: &str = "db/Data.fs";
pub(super) const BLOBS: &str = "db/blobs";
/// The tid of the first transaction: a day in 2025, which ZODB accepts as a time.
const FIRST_TID: u64 = 0x0400_0000_0000_0000;

/// The data of all objects that ever existed; `None` if an object no longer does.
pub(super) type Objects = BTreeMap<Oid, Option<Bytes>>;

/// The contents of files by path.
pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// The expected state of a storage after an acknowledgement.
#[derive(Clone)]
pub(super) struct State {
    /// The last step.
    pub(super) step: String,
    /// The last transaction.
    pub(super) tid: Tid,
    /// The whole file.
    pub(super) bytes: Vec<u8>,
    pub(super) objects: Objects,
    /// The blob files of these objects.
    pub(super) blobs: Files,
}

/// Runs steps.
pub(super) struct Recorder {
    pub(super) vfs: SimVfs,
    pub(super) options: Options,
    /// `None` until it is open.
    pub(super) storage: Option<FileStorage>,
    /// The acknowledged states in order; the log has a mark for each.
    pub(super) states: Vec<State>,
    /// Whether the last state belongs to a group that is not acknowledged yet.
    group_is_unacknowledged: bool,
    /// Whether the previous step aborted a transaction, which reports no errors.
    pub(super) aborted: bool,
    objects: Objects,
    blobs: Files,
    /// The transactions since the last pack, with the state before each.
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
            group_is_unacknowledged: false,
            objects: Objects::new(),
            blobs: Files::new(),
            transactions: Vec::new(),
            last: Tid::ZERO,
        }
    }

    /// Open a new storage and perform the steps, up to the first that fails.
    pub(super) fn run(&mut self, steps: &[Step]) -> StorageResult<()> {
        self.open()?;
        self.acknowledge("make");
        for step in steps {
            self.step(step)?;
            self.aborted = matches!(
                step,
                Step::AbortVoted(_)
                    | Step::AbortFinishing(_)
                    | Step::AbortBlobs(_)
                    | Step::GroupBeforeAbort(..)
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
                self.storage().sync_status()?;
                self.acknowledge_group();
                return Ok(());
            }
            Step::Die => {
                self.open()?;
                self.acknowledge_group();
                return Ok(());
            }
            Step::Save => {
                self.storage().save_index()?;
                self.acknowledge_group();
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
        self.acknowledge_group();
        self.open()
    }

    pub(super) fn storage(&self) -> &FileStorage {
        self.storage.as_ref().unwrap()
    }

    fn acknowledge(&mut self, step: &str) {
        self.note(step);
        self.vfs.mark(step);
    }

    /// Acknowledge the last visible group, unless it was acknowledged.
    fn acknowledge_group(&mut self) {
        if std::mem::take(&mut self.group_is_unacknowledged) {
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

    /// Vote and finish; `changed` has the new state of objects.
    fn finish(&mut self, mut transaction: Transaction, changed: Objects) -> StorageResult<()> {
        let tid = transaction.tid();
        if let Err(error) = self.storage().vote(&mut transaction) {
            drop(self.storage().abort(transaction));
            return Err(error);
        }
        self.acknowledge_group();
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

    /// The transaction of an object's last record, even if that record deletes it.
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
}

/// A disk with the storage's directories, which are empty.
pub(super) fn empty_disk() -> SimVfs {
    let upload = Path::new(BLOBS).join("tmp");
    SimVfs::new(0).with_directory(upload)
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

/// Conflicts are not resolved.
struct NoResolver;

impl UndoResolver for NoResolver {
    fn resolve(&mut self, _: Oid, _: Tid, _: Tid, _: &[u8], _: &[u8]) -> Resolution {
        Resolution::Unresolved
    }
}
