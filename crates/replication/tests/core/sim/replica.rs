//! The storage of a simulated secondary, as an applier uses it.

use std::cell::RefCell;
use std::convert::Infallible;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use zrs_ids::Tid;
use zrs_replication::proto::{Digest, Record, TransactionMeta};
use zrs_replication::replica::{ReplicaStorage, digest_in_file};
use zrs_storage::error::{StorageError, StorageResult};
use zrs_storage::filestorage::{
    FileStorage, FinishError, Options, Restorer, TransactionMeta as StoredMeta,
};
use zrs_vfs::sim::SimVfs;

pub(super) const PATH: &str = "Data.fs";

pub(super) fn open(vfs: &SimVfs) -> StorageResult<FileStorage> {
    FileStorage::open(Arc::new(vfs.clone()), Path::new(PATH), Options::default())
}

/// A storage that shows transactions in groups of so many.
#[derive(Clone)]
pub(super) struct Replica {
    restorer: Rc<RefCell<Restorer>>,
    group: usize,
    waiting: Rc<RefCell<usize>>,
    vfs: SimVfs,
}

impl Replica {
    pub(super) fn new(vfs: &SimVfs, storage: &Arc<FileStorage>, group: usize) -> Self {
        Self {
            restorer: Rc::new(RefCell::new(Restorer::new(Arc::clone(storage)))),
            group,
            waiting: Rc::default(),
            vfs: vfs.clone(),
        }
    }

    /// Makes durable and shows what was finished.
    pub(super) fn flush(&self) -> StorageResult<()> {
        *self.waiting.borrow_mut() = 0;
        match self.restorer.borrow_mut().flush::<Infallible>(None) {
            Ok(()) => Ok(()),
            Err(FinishError::Storage(error)) => Err(error),
            Err(FinishError::Callback(never)) => match never {},
        }
    }
}

impl ReplicaStorage for Replica {
    type Error = StorageError;

    fn stores_blobs(&mut self) -> StorageResult<bool> {
        Ok(false)
    }

    fn last_transaction(&mut self) -> StorageResult<Tid> {
        self.restorer.borrow().storage().last_transaction()
    }

    fn digest(&mut self, tid: Tid) -> StorageResult<Option<Digest>> {
        digest_in_file(Arc::new(self.vfs.clone()), Path::new(PATH), tid, None)
    }

    fn begin(&mut self, meta: &TransactionMeta) -> StorageResult<()> {
        self.restorer.borrow_mut().begin(&StoredMeta {
            tid: meta.tid,
            status: meta.status,
            user: meta.user.clone(),
            description: meta.description.clone(),
            extension: meta.extension.as_bytes().to_vec().into(),
        })
    }

    fn restore(&mut self, record: &Record) -> StorageResult<()> {
        let header = record.header;
        let data = record.data.as_ref();
        let mut restorer = self.restorer.borrow_mut();
        restorer.restore(header.oid, header.tid, data, header.data_txn)
    }

    fn begin_blob(&mut self) -> StorageResult<()> {
        panic!("there are no blobs here")
    }

    fn write_block(&mut self, _: &[u8]) -> StorageResult<()> {
        panic!("there are no blobs here")
    }

    fn restore_blob(&mut self, _: &Record) -> StorageResult<()> {
        panic!("there are no blobs here")
    }

    fn finish(&mut self) -> StorageResult<()> {
        self.restorer.borrow_mut().commit()?;
        *self.waiting.borrow_mut() += 1;
        if *self.waiting.borrow() >= self.group {
            self.flush()?;
        }
        Ok(())
    }

    fn abort(&mut self) -> StorageResult<()> {
        self.restorer.borrow_mut().abort();
        Ok(())
    }
}
