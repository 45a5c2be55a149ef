//! A storage of ours, as a secondary applies to it: without Python, but for its databases
//! and blobs.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::convert::tid_bytes;
use super::errors::runtime_error;
use super::feed::Feed;
use super::sink::{PythonSink, SinkError};
use super::storage::FileStorageBase;
use zrs_ids::{Oid, Tid};
use zrs_replication::proto::{Digest, Record, TransactionMeta};
use zrs_replication::replica::{self, ListPlace, ReplicaStorage, digest_in_file};
use zrs_storage::filestorage::{self, FileStorage, FinishError, Restorer};

/// What there is to a storage of ours when a secondary applies to it.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct DirectTarget {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    storage: Arc<FileStorage>,
    /// What is durable is published here, where the secondary is a primary too.
    feed: Option<Arc<replica::Feed>>,
    /// Whether there are databases to be told. Held while transactions are shown, and while
    /// a database registers, so that it hears of every one from then on; taken detached,
    /// before the storage's locks.
    has_databases: Mutex<bool>,
}

#[pymethods]
impl DirectTarget {
    #[new]
    #[pyo3(signature = (storage, feed = None))]
    fn new(storage: &Bound<'_, FileStorageBase>, feed: Option<&Feed>) -> PyResult<Self> {
        Ok(Self {
            shared: Arc::new(Shared {
                storage: Arc::clone(&storage.get().opened()?.storage),
                feed: feed.map(|feed| Arc::clone(&feed.0)),
                has_databases: Mutex::new(false),
            }),
        })
    }

    /// Call `register`, which adds a database, while no transaction is being shown.
    fn register(&self, py: Python<'_>, register: Py<PyAny>) -> PyResult<()> {
        py.detach(|| {
            let mut has_databases = self.shared.has_databases.lock();
            let registered = Python::try_attach(|py| register.call0(py).map(drop));
            *has_databases = true;
            registered.unwrap_or_else(|| Err(runtime_error("the interpreter is ending".to_owned())))
        })
    }
}

/// The storage for one connection.
pub(super) struct DirectStorage {
    shared: Arc<Shared>,
    restorer: Restorer,
    /// For blobs, and for the databases.
    sink: PythonSink,
    /// The transactions that are not published yet.
    unpublished: Vec<Tid>,
    /// Whether the transaction begun has blobs.
    has_blobs: bool,
}

impl DirectStorage {
    pub(super) fn new(shared: &Arc<Shared>, sink: PythonSink) -> Self {
        Self {
            shared: Arc::clone(shared),
            restorer: Restorer::new(Arc::clone(&shared.storage)),
            sink,
            unpublished: Vec::new(),
            has_blobs: false,
        }
    }

    /// Let streams have what is durable.
    fn publish(&mut self) {
        let Some(feed) = &self.shared.feed else {
            return;
        };
        let (end, durable) = self.shared.storage.durable();
        let count = self.unpublished.partition_point(|tid| *tid <= durable);
        let tids: Vec<_> = self.unpublished.drain(..count).collect();
        feed.publish_all(&tids, end);
    }

    fn restore_record(&mut self, record: &Record) -> Result<(), SinkError> {
        let header = record.header;
        let data = record.data.as_ref();
        Ok(self
            .restorer
            .restore(header.oid, header.tid, data, header.data_txn)?)
    }
}

fn announce(sink: &PythonSink, tid: Tid, oids: &[Oid]) -> Result<(), SinkError> {
    sink.call(|sink| {
        let py = sink.py();
        let oids = oids.iter().map(|oid| PyBytes::new(py, oid.as_bytes()));
        let oids = PyTuple::new(py, oids.collect::<Vec<_>>())?;
        sink.call_method1("announce", (tid_bytes(py, tid), oids))
            .map(drop)
    })
}

impl ReplicaStorage for DirectStorage {
    type Error = SinkError;

    fn stores_blobs(&mut self) -> Result<bool, SinkError> {
        self.sink.stores_blobs()
    }

    fn last_transaction(&mut self) -> Result<Tid, SinkError> {
        Ok(self.shared.storage.last_transaction()?)
    }

    fn digest(&mut self, tid: Tid) -> Result<Option<Digest>, SinkError> {
        let storage = &self.shared.storage;
        let (vfs, end) = (Arc::clone(storage.vfs()), storage.size());
        Ok(digest_in_file(vfs, storage.path(), tid, Some(end))?)
    }

    fn begin(&mut self, meta: &TransactionMeta) -> Result<(), SinkError> {
        self.has_blobs = false;
        Ok(self.restorer.begin(&filestorage::TransactionMeta {
            tid: meta.tid,
            status: meta.status,
            user: meta.user.clone(),
            description: meta.description.clone(),
            extension: meta.extension.as_bytes().clone(),
        })?)
    }

    fn restore(&mut self, record: &Record) -> Result<(), SinkError> {
        self.restore_record(record)
    }

    fn begin_blob(&mut self) -> Result<(), SinkError> {
        self.has_blobs = true;
        self.sink.begin_blob()
    }

    fn write_block(&mut self, block: &[u8]) -> Result<(), SinkError> {
        self.sink.write_block(block)
    }

    fn restore_blob(&mut self, record: &Record) -> Result<(), SinkError> {
        self.restore_record(record)?;
        self.sink.call(|sink| {
            let (oid, tid) = (record.header.oid, record.header.tid);
            let oid = PyBytes::new(sink.py(), oid.as_bytes());
            let tid = tid_bytes(sink.py(), tid);
            sink.call_method1("hold_blob", (oid, tid)).map(drop)
        })
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        if self.has_blobs {
            // Their files are durable before the transaction is.
            self.sink
                .call(|sink| sink.call_method0("place_blobs").map(drop))?;
        }
        self.restorer.commit()?;
        if self.shared.feed.is_some() {
            self.unpublished.extend(self.restorer.last_tid());
        }
        if std::mem::take(&mut self.has_blobs) {
            self.sink
                .call(|sink| sink.call_method0("keep_blobs").map(drop))?;
        }
        Ok(())
    }

    fn abort(&mut self) -> Result<(), SinkError> {
        self.restorer.abort();
        if std::mem::take(&mut self.has_blobs) {
            self.sink
                .call(|sink| sink.call_method0("drop_blobs").map(drop))?;
        }
        Ok(())
    }

    fn list_place(&mut self) -> Result<Option<ListPlace>, SinkError> {
        let storage = &self.shared.storage;
        Ok(Some(ListPlace {
            vfs: Arc::clone(storage.vfs()),
            path: storage.path().to_path_buf(),
            storage: Some(Arc::clone(storage)),
            feed: self.shared.feed.clone(),
        }))
    }

    fn waiting(&self) -> u64 {
        self.restorer.waiting()
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        let has_databases = self.shared.has_databases.lock();
        let mut tell = |tid: Tid, oids: &[Oid]| announce(&self.sink, tid, oids);
        let announce: Option<filestorage::Announce<'_, SinkError>> = if *has_databases {
            Some(&mut tell)
        } else {
            None
        };
        let flushed = self.restorer.flush(announce);
        drop(has_databases);
        self.publish();
        flushed.map_err(|error| match error {
            FinishError::Storage(error) => SinkError::Storage(error),
            FinishError::Callback(error) => error,
        })?;
        self.shared.storage.checkpoint();
        Ok(())
    }

    fn is_unsettled(&self) -> bool {
        self.shared.storage.is_unsettled()
    }

    fn settle(&mut self) -> Result<(), SinkError> {
        self.shared.storage.settle()?;
        self.publish();
        Ok(())
    }
}
