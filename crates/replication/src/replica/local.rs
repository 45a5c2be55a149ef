//! A `FileStorage` as a secondary applies to it: the group commit.
//!
//! Transactions go through a [`Restorer`] and become visible in groups. What databases and
//! blobs require is called through [`Hooks`]. A cascade's feed receives a transaction only when
//! it is durable (docs/recovery.md).

use std::fmt::Display;
use std::sync::Arc;

use parking_lot::Mutex;
use zrs_ids::{Oid, Tid};
use zrs_storage::error::StorageError;
use zrs_storage::filestorage::{self, FileStorage, FinishError, Restorer};

use super::{Feed, ListPlace, ReplicaStorage, digest_in_file};
use crate::proto::{Digest, Record, TransactionBegin};

/// What a [`LocalStorage`] calls for databases and blobs.
pub trait Hooks {
    /// The error of a hook. It has an arm for the storage's errors, so that a caller handles
    /// one type.
    type Error: Display + From<StorageError>;

    /// Invalidates the objects of a transaction in the databases, before it becomes visible.
    ///
    /// # Errors
    /// Those of the databases; the transaction does not become visible.
    fn announce(&mut self, tid: Tid, oids: &[Oid]) -> Result<(), Self::Error>;
    /// Whether the storage stores blobs.
    ///
    /// # Errors
    /// Those of the storage in Python.
    fn stores_blobs(&mut self) -> Result<bool, Self::Error>;
    /// Begins a temporary file for a blob.
    ///
    /// # Errors
    /// Those of writing files.
    fn begin_blob(&mut self) -> Result<(), Self::Error>;
    /// Appends to that file.
    ///
    /// # Errors
    /// Those of writing files.
    fn write_block(&mut self, block: &[u8]) -> Result<(), Self::Error>;
    /// Holds that file, the blob of this revision, until the transaction ends.
    ///
    /// # Errors
    /// Those of writing files.
    fn hold_blob(&mut self, oid: Oid, tid: Tid) -> Result<(), Self::Error>;
    /// Moves the files held to their places and syncs them.
    ///
    /// # Errors
    /// Those of writing files.
    fn place_blobs(&mut self) -> Result<(), Self::Error>;
    /// Keeps the files placed: their transaction is finished.
    ///
    /// # Errors
    /// Those of writing files.
    fn keep_blobs(&mut self) -> Result<(), Self::Error>;
    /// Removes the files held or placed: their transaction is aborted.
    ///
    /// # Errors
    /// Those of removing files.
    fn drop_blobs(&mut self) -> Result<(), Self::Error>;
}

/// A storage as a replication target, shared by the connections that apply to it.
pub struct LocalTarget {
    storage: Arc<FileStorage>,
    /// The feed of a cascade.
    feed: Option<Arc<Feed>>,
    /// Whether databases are registered. Held while transactions become visible and while a
    /// database registers, so that each later transaction is announced to it; taken before the
    /// storage's locks.
    has_databases: Mutex<bool>,
}

impl LocalTarget {
    /// A target without databases. What is durable is published in `feed`.
    pub fn new(storage: Arc<FileStorage>, feed: Option<Arc<Feed>>) -> Self {
        Self {
            storage,
            feed,
            has_databases: Mutex::new(false),
        }
    }

    /// Calls `register`, which adds a database, while no transaction becomes visible.
    pub fn register<T>(&self, register: impl FnOnce() -> T) -> T {
        let mut has_databases = self.has_databases.lock();
        let registered = register();
        *has_databases = true;
        registered
    }
}

/// The storage for one connection.
pub struct LocalStorage<H> {
    target: Arc<LocalTarget>,
    restorer: Restorer,
    hooks: H,
    /// The finished transactions that are not published yet.
    unpublished: Vec<Tid>,
    /// Whether the transaction begun has blobs.
    has_blobs: bool,
    /// Whether visible transactions are still to be published and acknowledged. A pack of the
    /// storage makes them durable too, and does not publish them.
    sync_is_due: bool,
}

impl<H: Hooks> LocalStorage<H> {
    /// A storage that applies to `target`.
    pub fn new(target: &Arc<LocalTarget>, hooks: H) -> Self {
        Self {
            target: Arc::clone(target),
            restorer: Restorer::new(Arc::clone(&target.storage)),
            hooks,
            unpublished: Vec::new(),
            has_blobs: false,
            sync_is_due: false,
        }
    }

    /// Publishes what is durable.
    fn publish(&mut self) {
        let Some(feed) = &self.target.feed else {
            return;
        };
        let (end, durable) = self.target.storage.durable();
        let count = self.unpublished.partition_point(|tid| *tid <= durable);
        let tids: Vec<_> = self.unpublished.drain(..count).collect();
        feed.publish_all(&tids, end);
    }
}

impl<H: Hooks> ReplicaStorage for LocalStorage<H> {
    type Error = H::Error;

    fn stores_blobs(&mut self) -> Result<bool, H::Error> {
        self.hooks.stores_blobs()
    }

    fn last_transaction(&mut self) -> Result<Tid, H::Error> {
        Ok(self.target.storage.last_transaction()?)
    }

    fn digest(&mut self, tid: Tid) -> Result<Option<Digest>, H::Error> {
        let storage = &self.target.storage;
        let (vfs, end) = (Arc::clone(storage.vfs()), storage.size());
        Ok(digest_in_file(vfs, storage.path(), tid, Some(end))?)
    }

    fn begin(&mut self, meta: &TransactionBegin) -> Result<(), H::Error> {
        self.has_blobs = false;
        Ok(self.restorer.begin(&filestorage::TransactionMeta {
            tid: meta.tid,
            status: meta.status,
            user: meta.user.clone(),
            description: meta.description.clone(),
            extension: meta.extension.as_bytes().clone(),
        })?)
    }

    fn restore(&mut self, record: &Record) -> Result<(), H::Error> {
        let header = record.header;
        let data = record.data.as_ref();
        Ok(self
            .restorer
            .restore(header.oid, header.tid, data, header.data_txn)?)
    }

    fn begin_blob(&mut self) -> Result<(), H::Error> {
        self.has_blobs = true;
        self.hooks.begin_blob()
    }

    fn write_block(&mut self, block: &[u8]) -> Result<(), H::Error> {
        self.hooks.write_block(block)
    }

    fn restore_blob(&mut self, record: &Record) -> Result<(), H::Error> {
        self.restore(record)?;
        self.hooks.hold_blob(record.header.oid, record.header.tid)
    }

    fn finish(&mut self) -> Result<(), H::Error> {
        if self.has_blobs {
            // Their files are durable before the transaction is.
            self.hooks.place_blobs()?;
        }
        self.restorer.commit()?;
        if self.target.feed.is_some() {
            self.unpublished.extend(self.restorer.last_tid());
        }
        if std::mem::take(&mut self.has_blobs) {
            self.hooks.keep_blobs()?;
        }
        Ok(())
    }

    fn abort(&mut self) -> Result<(), H::Error> {
        self.restorer.abort();
        if std::mem::take(&mut self.has_blobs) {
            self.hooks.drop_blobs()?;
        }
        Ok(())
    }

    fn list_place(&mut self) -> Result<Option<ListPlace>, H::Error> {
        let storage = &self.target.storage;
        Ok(Some(ListPlace {
            vfs: Arc::clone(storage.vfs()),
            path: storage.path().to_path_buf(),
            storage: Some(Arc::clone(storage)),
            feed: self.target.feed.clone(),
        }))
    }

    fn pending(&self) -> u64 {
        self.restorer.pending()
    }

    fn flush(&mut self) -> Result<(), H::Error> {
        let has_databases = self.target.has_databases.lock();
        let hooks = &mut self.hooks;
        let mut call = |tid: Tid, oids: &[Oid]| hooks.announce(tid, oids);
        let announce: Option<filestorage::Announce<'_, H::Error>> = if *has_databases {
            Some(&mut call)
        } else {
            None
        };
        let flushed = self.restorer.flush(announce);
        drop(has_databases);
        self.sync_is_due |= self.target.storage.has_unsynced_status();
        self.publish();
        flushed.map_err(|error| match error {
            FinishError::Storage(error) => error.into(),
            FinishError::Callback(error) => error,
        })?;
        self.target.storage.checkpoint();
        Ok(())
    }

    fn has_unsynced_status(&self) -> bool {
        self.sync_is_due || self.target.storage.has_unsynced_status()
    }

    fn sync_status(&mut self) -> Result<(), H::Error> {
        self.target.storage.sync_status()?;
        self.sync_is_due = false;
        self.publish();
        Ok(())
    }
}
