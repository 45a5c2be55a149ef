//! The binding of `replica::LocalStorage`: databases and blobs are Python's.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::convert::tid_bytes;
use super::errors::runtime_error;
use super::feed::Feed;
use super::sink::{PythonSink, SinkError};
use super::storage::FileStorageBase;
use zrs_ids::{Oid, Tid};
use zrs_replication::replica::{Hooks, LocalTarget, ReplicaStorage};

/// A native storage as a replication target.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct DirectTarget {
    pub(super) target: Arc<LocalTarget>,
}

#[pymethods]
impl DirectTarget {
    #[new]
    #[pyo3(signature = (storage, feed = None))]
    fn new(storage: &Bound<'_, FileStorageBase>, feed: Option<&Feed>) -> PyResult<Self> {
        let storage = Arc::clone(&storage.get().opened()?.storage);
        let feed = feed.map(|feed| Arc::clone(&feed.0));
        Ok(Self {
            target: Arc::new(LocalTarget::new(storage, feed)),
        })
    }

    /// Call `register`, which adds a database, while no transaction becomes visible.
    fn register(&self, py: Python<'_>, register: Py<PyAny>) -> PyResult<()> {
        // The target's lock is taken detached.
        py.detach(|| {
            let register = || Python::try_attach(|py| register.call0(py).map(drop));
            let registered = self.target.register(register);
            registered.unwrap_or_else(|| Err(runtime_error("the interpreter is ending".to_owned())))
        })
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
