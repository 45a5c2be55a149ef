//! A storage written in Python, as a secondary applies to it.

use std::fmt;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::convert::tid_bytes;
use super::errors::value_error;
use crate::ids::Tid;
use crate::proto::{Record, TransactionMeta};
use crate::replica::ReplicaStorage;

/// An object with the methods of `Sink` in `_zrs.pyi`.
#[derive(Clone)]
pub(super) struct Sink(Arc<Py<PyAny>>);

impl Sink {
    pub(super) fn new(sink: Py<PyAny>) -> Self {
        Self(Arc::new(sink))
    }

    fn call<T>(
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

/// Why a call of a sink did not succeed.
#[derive(Debug)]
pub(super) enum SinkError {
    /// It raised this.
    Raised(PyErr),
    /// The interpreter is ending.
    Exiting,
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raised(error) => error.fmt(f),
            Self::Exiting => f.write_str("the interpreter is ending"),
        }
    }
}

impl ReplicaStorage for Sink {
    type Error = SinkError;

    fn last_transaction(&mut self) -> Result<Tid, SinkError> {
        self.call(|sink| {
            let tid = sink.call_method0("last_transaction")?;
            let tid = Tid::from_slice(tid.cast::<PyBytes>()?.as_bytes());
            tid.ok_or_else(|| value_error("lastTransaction() has not 8 bytes".to_owned()))
        })
    }

    fn begin(&mut self, meta: &TransactionMeta) -> Result<(), SinkError> {
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

    fn finish(&mut self) -> Result<(), SinkError> {
        self.call(|sink| sink.call_method0("finish").map(drop))
    }

    fn abort(&mut self) -> Result<(), SinkError> {
        self.call(|sink| sink.call_method0("abort").map(drop))
    }
}
