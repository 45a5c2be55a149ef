//! Iterating over a storage's transactions and their records.

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::convert::tid_bytes;
use super::errors::storage_error;
use crate::storage::filestorage::{IteratedRecords, Transactions};
use crate::storage::{DataRecord, TransactionRecord};

/// The transactions of a storage, in order.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct StorageIterator(Mutex<Option<Transactions>>);

impl StorageIterator {
    pub(super) fn new(transactions: Transactions) -> Self {
        Self(Mutex::new(Some(transactions)))
    }
}

type Head<'py> = (
    Bound<'py, PyBytes>,
    char,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    StorageRecords,
);

#[pymethods]
impl StorageIterator {
    /// Tid, status, user, description, extension and records of the next transaction.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Head<'py>>> {
        let next = py.detach(|| match &mut *self.0.lock() {
            Some(transactions) => transactions.read_next(),
            None => Ok(None),
        });
        let next = next.map_err(|error| storage_error(py, &error))?;
        Ok(next.map(|(head, records)| {
            (
                tid_bytes(py, head.tid),
                char::from(head.status.as_byte()),
                PyBytes::new(py, &head.user),
                PyBytes::new(py, &head.description),
                PyBytes::new(py, &head.extension),
                StorageRecords {
                    head,
                    first: Mutex::new(Some(records)),
                },
            )
        }))
    }

    /// Let go of the file.
    fn close(&self, py: Python<'_>) {
        py.detach(|| drop(self.0.lock().take()));
    }
}

/// The records of a transaction; each iteration begins anew.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct StorageRecords {
    head: TransactionRecord,
    /// The records as they were read with the header, for the first who asks.
    first: Mutex<Option<IteratedRecords>>,
}

#[pymethods]
impl StorageRecords {
    fn __iter__(&self) -> StorageRecordIterator {
        let first = self.first.lock().take();
        let again = || IteratedRecords::OneByOne(Box::new(self.head.records()));
        let records = first.unwrap_or_else(again);
        StorageRecordIterator(Mutex::new(records))
    }
}

/// Iterates over the records of a transaction.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct StorageRecordIterator(Mutex<IteratedRecords>);

#[pymethods]
impl StorageRecordIterator {
    const fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<StorageRecord>> {
        // Records that are in memory need no waiting.
        let next = match self.0.try_lock() {
            Some(mut records) if records.is_read() => records.next(),
            held => {
                drop(held);
                py.detach(|| self.0.lock().next())
            }
        };
        let next = next.transpose();
        let record = next.map_err(|error| storage_error(py, &error))?;
        Ok(record.map(|record| StorageRecord::new(py, &record)))
    }
}

/// A data record. Wrappers of storages replace its data.
#[pyclass(dict, module = "zc.zrs._zrs")]
pub(super) struct StorageRecord {
    #[pyo3(get, set)]
    oid: Py<PyBytes>,
    #[pyo3(get, set)]
    tid: Py<PyBytes>,
    #[pyo3(get, set)]
    data: Option<Py<PyAny>>,
    #[pyo3(get, set)]
    data_txn: Option<Py<PyBytes>>,
    #[pyo3(get)]
    pos: u64,
    /// Versions are gone from ZODB, but not from its interfaces.
    #[pyo3(get)]
    version: &'static str,
}

impl StorageRecord {
    fn new(py: Python<'_>, record: &DataRecord) -> Self {
        let data = record.data.as_ref();
        Self {
            oid: PyBytes::new(py, record.oid.as_bytes()).unbind(),
            tid: tid_bytes(py, record.tid).unbind(),
            data: data.map(|data| PyBytes::new(py, data).into_any().unbind()),
            data_txn: record.data_txn.map(|tid| tid_bytes(py, tid).unbind()),
            pos: record.position,
            version: "",
        }
    }
}
