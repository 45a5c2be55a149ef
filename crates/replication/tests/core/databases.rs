//! The databases of a secondary in a test: they keep the last announcement. Blobs do not occur.

use std::sync::{Arc, Mutex};

use zrs_ids::{Oid, Tid};
use zrs_replication::replica::Hooks;
use zrs_storage::error::{StorageError, StorageResult};

/// The last transaction announced.
#[derive(Clone, Default)]
pub(crate) struct Databases(Arc<Mutex<Tid>>);

impl Databases {
    pub(crate) fn last(&self) -> Tid {
        *self.0.lock().unwrap()
    }
}

impl Hooks for Databases {
    type Error = StorageError;

    fn announce(&mut self, tid: Tid, _: &[Oid]) -> StorageResult<()> {
        let mut last = self.0.lock().unwrap();
        assert!(tid > *last, "{tid} is announced after {last}");
        *last = tid;
        Ok(())
    }

    fn stores_blobs(&mut self) -> StorageResult<bool> {
        Ok(false)
    }

    fn begin_blob(&mut self) -> StorageResult<()> {
        panic!("a blob in a test without blobs")
    }

    fn write_block(&mut self, _: &[u8]) -> StorageResult<()> {
        panic!("a blob in a test without blobs")
    }

    fn hold_blob(&mut self, _: Oid, _: Tid) -> StorageResult<()> {
        panic!("a blob in a test without blobs")
    }

    fn place_blobs(&mut self) -> StorageResult<()> {
        panic!("a blob in a test without blobs")
    }

    fn keep_blobs(&mut self) -> StorageResult<()> {
        panic!("a blob in a test without blobs")
    }

    fn drop_blobs(&mut self) -> StorageResult<()> {
        panic!("a blob in a test without blobs")
    }
}
