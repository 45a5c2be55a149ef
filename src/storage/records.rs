//! Iterating over a storage's transactions and their records.

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::convert::{Id, tid_bytes};
use crate::errors::storage_error;
use zrs_ids::{Oid, Tid};
use zrs_storage::filestorage::{IteratedRecords, Transactions};
use zrs_storage::{DataRecord, TransactionRecord};

/// The transactions of a storage, in order.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(crate) struct StorageIterator(Mutex<Option<Transactions>>);

impl StorageIterator {
    pub(crate) fn new(transactions: Transactions) -> Self {
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
        // Getting a transaction that is in memory never waits.
        let next = match self.0.try_lock() {
            Some(mut held) if held.as_ref().is_none_or(Transactions::is_read) => {
                held.as_mut().map_or(Ok(None), Transactions::read_next)
            }
            held => {
                drop(held);
                py.detach(|| (self.0.lock().as_mut()).map_or(Ok(None), Transactions::read_next))
            }
        };
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

    /// Release the file.
    fn close(&self, py: Python<'_>) {
        py.detach(|| drop(self.0.lock().take()));
    }
}

/// The records of a transaction; each iteration starts from the beginning.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(crate) struct StorageRecords {
    head: TransactionRecord,
    /// The records that were read with the header, for the first iteration.
    first: Mutex<Option<IteratedRecords>>,
}

#[pymethods]
impl StorageRecords {
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let first = self.first.lock().take();
        let held = match &first {
            Some(IteratedRecords::AtOnce(records)) => records.held(),
            _ => None,
        };
        if let Some(held) = held {
            // One call for all of them is faster than one for each.
            let records = held.map(|record| StorageRecord {
                oid: record.header.oid,
                tid: record.header.tid,
                data: Some(PyBytes::new(py, record.data).into_any().unbind()),
                data_txn: None,
                pos: record.position,
            });
            return Ok(PyList::new(py, records)?.try_iter()?.into_any());
        }
        let again = || IteratedRecords::OneByOne(Box::new(self.head.records()));
        let records = first.unwrap_or_else(again);
        Ok(Bound::new(py, StorageRecordIterator(Mutex::new(records)))?.into_any())
    }
}

/// Iterates over the records of a transaction.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(crate) struct StorageRecordIterator(Mutex<IteratedRecords>);

#[pymethods]
impl StorageRecordIterator {
    const fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<StorageRecord>> {
        // Getting a record that is in memory never waits.
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
pub(crate) struct StorageRecord {
    oid: Oid,
    tid: Tid,
    #[pyo3(get, set)]
    data: Option<Py<PyAny>>,
    data_txn: Option<Tid>,
    #[pyo3(get)]
    pos: u64,
}

impl StorageRecord {
    fn new(py: Python<'_>, record: &DataRecord) -> Self {
        let data = record.data.as_ref();
        Self {
            oid: record.oid,
            tid: record.tid,
            data: data.map(|data| PyBytes::new(py, data).into_any().unbind()),
            data_txn: record.data_txn,
            pos: record.position,
        }
    }
}

// Many are created, and most attributes are never read, so they are converted on demand.
#[pymethods]
impl StorageRecord {
    #[getter]
    fn oid<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.oid.as_bytes())
    }

    #[setter]
    fn set_oid(&mut self, oid: Id<Oid>) {
        self.oid = oid.0;
    }

    #[getter]
    fn tid<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        tid_bytes(py, self.tid)
    }

    #[setter]
    fn set_tid(&mut self, tid: Id<Tid>) {
        self.tid = tid.0;
    }

    #[getter]
    fn data_txn<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.data_txn.map(|tid| tid_bytes(py, tid))
    }

    #[setter]
    fn set_data_txn(&mut self, data_txn: Option<Id<Tid>>) {
        self.data_txn = data_txn.map(|tid| tid.0);
    }

    /// ZODB has no versions any more, but its interfaces still have the attribute.
    #[getter]
    #[expect(clippy::unused_self, reason = "an attribute")]
    const fn version(&self) -> &'static str {
        ""
    }
}
