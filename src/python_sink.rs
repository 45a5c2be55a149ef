//! A storage written in Python, as the target of a secondary.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::convert::tid_bytes;
use super::errors::value_error;
use super::feed::Feed;
use super::storage::FileStorageBase;
use zrs_ids::{Oid, Tid};
use zrs_replication::proto::{Digest, Record, TransactionBegin};
use zrs_replication::replica::{Hooks, ListPlace, ReplicaStorage, digest_in_file};
use zrs_storage::error::StorageError;
use zrs_vfs::OsVfs;

/// An object with the methods of `Sink` in `_zrs.pyi`.
#[derive(Clone)]
pub(super) struct PythonSink(Arc<Py<PyAny>>);

impl PythonSink {
    pub(super) fn new(sink: Py<PyAny>) -> Self {
        Self(Arc::new(sink))
    }

    pub(super) fn call<T>(
        &self,
        call: impl for<'py> FnOnce(&Bound<'py, PyAny>) -> PyResult<T>,
    ) -> Result<T, SinkError> {
        let called = Python::try_attach(|py| call(self.0.bind(py)));
        called.map_or(Err(SinkError::Exiting), |result| {
            result.map_err(SinkError::Raised)
        })
    }

    fn call_with_record(&self, method: &str, record: &Record) -> Result<(), SinkError> {
        self.call(|sink| {
            let py = sink.py();
            let arguments = (
                PyBytes::new(py, record.header.oid.as_bytes()),
                tid_bytes(py, record.header.tid),
                record.data.as_ref().map(|data| PyBytes::new(py, data)),
                record.header.data_txn.map(|tid| tid_bytes(py, tid)),
            );
            sink.call_method1(method, arguments).map(drop)
        })
    }
}

/// The reason why a call of a sink failed.
#[derive(Debug)]
pub(super) enum SinkError {
    /// It raised this exception.
    Raised(PyErr),
    /// The storage failed.
    Storage(StorageError),
    /// The interpreter is ending.
    Exiting,
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raised(error) => error.fmt(f),
            Self::Storage(error) => error.fmt(f),
            Self::Exiting => f.write_str("the interpreter is ending"),
        }
    }
}

impl From<StorageError> for SinkError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl ReplicaStorage for PythonSink {
    type Error = SinkError;

    fn last_transaction(&mut self) -> Result<Tid, SinkError> {
        self.call(|sink| {
            let tid = sink.call_method0("last_transaction")?;
            let tid = Tid::from_slice(tid.cast::<PyBytes>()?.as_bytes());
            tid.ok_or_else(|| value_error("lastTransaction() did not return 8 bytes".to_owned()))
        })
    }

    fn digest(&mut self, tid: Tid) -> Result<Option<Digest>, SinkError> {
        let file = self.call(|sink| {
            let file = sink.call_method0("data_file")?;
            file.extract::<Option<(PathBuf, u64)>>()
        })?;
        let Some((path, end)) = file else {
            return Ok(None);
        };
        Ok(digest_in_file(Arc::new(OsVfs), &path, tid, Some(end))?)
    }

    fn begin(&mut self, meta: &TransactionBegin) -> Result<(), SinkError> {
        self.call(|sink| {
            let py = sink.py();
            let arguments = (
                tid_bytes(py, meta.tid),
                char::from(meta.status),
                PyBytes::new(py, &meta.user),
                PyBytes::new(py, &meta.description),
                PyBytes::new(py, meta.extension.as_bytes()),
            );
            sink.call_method1("begin", arguments).map(drop)
        })
    }

    fn restore(&mut self, record: &Record) -> Result<(), SinkError> {
        self.call_with_record("restore", record)
    }

    fn stores_blobs(&mut self) -> Result<bool, SinkError> {
        self.call(|sink| sink.call_method0("stores_blobs")?.extract())
    }

    fn begin_blob(&mut self) -> Result<(), SinkError> {
        self.call(|sink| sink.call_method0("begin_blob").map(drop))
    }

    fn write_block(&mut self, block: &[u8]) -> Result<(), SinkError> {
        self.call(|sink| {
            let block = PyBytes::new(sink.py(), block);
            sink.call_method1("write_block", (block,)).map(drop)
        })
    }

    fn restore_blob(&mut self, record: &Record) -> Result<(), SinkError> {
        self.call_with_record("restore_blob", record)
    }

    fn list_place(&mut self) -> Result<Option<ListPlace>, SinkError> {
        self.call(|sink| {
            let place = sink.call_method0("list_place")?;
            let place: Option<(Bound<'_, PyAny>, Option<PyRef<'_, Feed>>)> = place.extract()?;
            let Some((place, feed)) = place else {
                return Ok(None);
            };
            let feed = feed.map(|feed| Arc::clone(&feed.0));
            let vfs = Arc::new(OsVfs);
            let Ok(storage) = place.cast::<FileStorageBase>() else {
                let (path, storage) = (place.extract()?, None);
                return Ok(Some(ListPlace {
                    vfs,
                    path,
                    storage,
                    feed,
                }));
            };
            let storage = Arc::clone(&storage.get().opened()?.storage);
            Ok(Some(ListPlace {
                vfs,
                path: storage.path().to_path_buf(),
                storage: Some(storage),
                feed,
            }))
        })
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.call(|sink| sink.call_method0("finish").map(drop))
    }

    fn abort(&mut self) -> Result<(), SinkError> {
        self.call(|sink| sink.call_method0("abort").map(drop))
    }
}

impl Hooks for PythonSink {
    type Error = SinkError;

    fn announce(&mut self, tid: Tid, oids: &[Oid]) -> Result<(), SinkError> {
        self.call(|sink| {
            let py = sink.py();
            let oids = oids.iter().map(|oid| PyBytes::new(py, oid.as_bytes()));
            let oids = PyTuple::new(py, oids.collect::<Vec<_>>())?;
            sink.call_method1("announce", (tid_bytes(py, tid), oids))
                .map(drop)
        })
    }

    fn stores_blobs(&mut self) -> Result<bool, SinkError> {
        ReplicaStorage::stores_blobs(self)
    }

    fn begin_blob(&mut self) -> Result<(), SinkError> {
        ReplicaStorage::begin_blob(self)
    }

    fn write_block(&mut self, block: &[u8]) -> Result<(), SinkError> {
        ReplicaStorage::write_block(self, block)
    }

    fn hold_blob(&mut self, oid: Oid, tid: Tid) -> Result<(), SinkError> {
        self.call(|sink| {
            let oid = PyBytes::new(sink.py(), oid.as_bytes());
            let tid = tid_bytes(sink.py(), tid);
            sink.call_method1("hold_blob", (oid, tid)).map(drop)
        })
    }

    fn place_blobs(&mut self) -> Result<(), SinkError> {
        self.call(|sink| sink.call_method0("place_blobs").map(drop))
    }

    fn keep_blobs(&mut self) -> Result<(), SinkError> {
        self.call(|sink| sink.call_method0("keep_blobs").map(drop))
    }

    fn drop_blobs(&mut self) -> Result<(), SinkError> {
        self.call(|sink| sink.call_method0("drop_blobs").map(drop))
    }
}
