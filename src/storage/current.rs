//! The transaction that a storage is committing.

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyList;

use zrs_ids::Tid;
use zrs_storage::filestorage::Transaction;

/// The transaction that is being committed, if any.
///
/// `current` is locked only for a few instructions. `work` is locked while the storage works for
/// the transaction; an undo enters the interpreter under it, so it is taken with the interpreter
/// released.
pub(crate) struct Commit {
    pub(super) current: Mutex<Option<Current>>,
    pub(super) work: Mutex<Option<Transaction>>,
    /// The id of the current transaction, or the last one.
    tid: Mutex<Tid>,
}

pub(super) struct Current {
    pub(super) transaction: Py<PyAny>,
    pub(super) resolved: Py<PyList>,
}

impl Commit {
    pub(crate) fn new(last: Tid) -> Self {
        Self {
            current: Mutex::new(None),
            work: Mutex::new(None),
            tid: Mutex::new(last),
        }
    }

    pub(crate) fn transaction<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let current = self.current.lock();
        current
            .as_ref()
            .map(|current| current.transaction.bind(py).clone())
    }

    pub(crate) fn resolved<'py>(&self, py: Python<'py>) -> Bound<'py, PyList> {
        let current = self.current.lock();
        match &*current {
            Some(current) => current.resolved.bind(py).clone(),
            None => PyList::empty(py),
        }
    }

    pub(crate) fn tid(&self) -> Tid {
        *self.tid.lock()
    }

    pub(crate) fn set_tid(&self, tid: Tid) {
        *self.tid.lock() = tid;
    }

    pub(super) fn is_current(&self, transaction: &Bound<'_, PyAny>) -> bool {
        let current = self.current.lock();
        current
            .as_ref()
            .is_some_and(|current| current.transaction.is(transaction))
    }

    /// Forget the transaction; its Python objects are dropped outside the lock.
    pub(super) fn forget(&self) {
        let current = self.current.lock().take();
        drop(current);
    }
}
