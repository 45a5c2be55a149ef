//! Reading a `Data.fs`.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::convert::{Id, tid_bytes};
use super::errors::storage_error;
use zrs_ids::Tid;
use zrs_storage::{self as storage, DataRecords, Tail};
use zrs_vfs::OsVfs;

/// A data record.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct DataRecord(storage::DataRecord);

#[pymethods]
impl DataRecord {
    #[getter]
    fn oid<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.oid.as_bytes())
    }

    #[getter]
    fn tid<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        tid_bytes(py, self.0.tid)
    }

    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.data.as_ref().map(|data| PyBytes::new(py, data))
    }

    #[getter]
    fn data_txn<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.data_txn.map(|tid| tid_bytes(py, tid))
    }

    #[getter]
    fn pos(&self) -> u64 {
        self.0.position
    }
}

/// A transaction record's header.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct TransactionRecord(storage::TransactionRecord);

fn bytes<'py>(py: Python<'py>, bytes: &Bytes) -> Bound<'py, PyBytes> {
    PyBytes::new(py, bytes)
}

#[pymethods]
impl TransactionRecord {
    #[getter]
    fn tid<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        tid_bytes(py, self.0.tid)
    }

    #[getter]
    fn status(&self) -> char {
        char::from(self.0.status.as_byte())
    }

    #[getter]
    fn user<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        bytes(py, &self.0.user)
    }

    #[getter]
    fn description<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        bytes(py, &self.0.description)
    }

    #[getter]
    fn extension_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        bytes(py, &self.0.extension)
    }

    #[getter]
    fn pos(&self) -> u64 {
        self.0.position
    }

    fn __iter__(&self) -> DataRecordIterator {
        DataRecordIterator(Mutex::new(self.0.records()))
    }
}

/// The data records of a transaction, in order.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct DataRecordIterator(Mutex<DataRecords<'static>>);

#[pymethods]
impl DataRecordIterator {
    const fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<DataRecord>> {
        let next = py.detach(|| self.0.lock().next().transpose());
        next.map(|record| record.map(DataRecord))
            .map_err(|error| storage_error(py, &error))
    }
}

/// Reads the finished transactions of a file as they are added.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct TransactionReader(Mutex<Tail>);

#[pymethods]
impl TransactionReader {
    #[new]
    #[pyo3(signature = (path, start = Id(Tid::ZERO), end = None))]
    fn new(py: Python<'_>, path: PathBuf, start: Id<Tid>, end: Option<u64>) -> PyResult<Self> {
        let opened = py.detach(|| Tail::open(Arc::new(OsVfs), &path, start.0, end));
        opened
            .map(|tail| Self(Mutex::new(tail)))
            .map_err(|error| storage_error(py, &error))
    }

    fn next(&self, py: Python<'_>) -> PyResult<Option<TransactionRecord>> {
        let next = py.detach(|| self.0.lock().next(None));
        next.map(|record| record.map(TransactionRecord))
            .map_err(|error| storage_error(py, &error))
    }
}
