//! The Python objects that the bindings use, each imported once.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyModule, PyType};

/// A class, imported on first use.
pub(super) struct Class {
    module: &'static str,
    name: &'static str,
    imported: PyOnceLock<Py<PyType>>,
}

impl Class {
    const fn new(module: &'static str, name: &'static str) -> Self {
        Self {
            module,
            name,
            imported: PyOnceLock::new(),
        }
    }

    /// The class.
    pub(super) fn get<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyType>> {
        self.imported.import(py, self.module, self.name)
    }
}

/// A module, imported on first use.
pub(super) struct Module {
    name: &'static str,
    imported: PyOnceLock<Py<PyModule>>,
}

impl Module {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            imported: PyOnceLock::new(),
        }
    }

    /// The module.
    pub(super) fn get<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyModule>> {
        let module = self
            .imported
            .get_or_try_init(py, || py.import(self.name).map(Bound::unbind))?;
        Ok(module.bind(py))
    }
}

/// The module with the clock.
pub(super) static TIME: Module = Module::new("time");
/// The module with ZODB's `loads`, which finds classes like ZODB.
pub(super) static ZODB_COMPAT: Module = Module::new("ZODB._compat");

/// Raised for a file that breaks its format.
pub(super) static CORRUPTED: Class = Class::new("ZODB.FileStorage.format", "CorruptedError");
/// Raised for a file that is not a `Data.fs`.
pub(super) static UNKNOWN_FORMAT: Class =
    Class::new("ZODB.FileStorage.FileStorage", "FileStorageFormatError");
/// Raised for an object that does not exist.
pub(super) static NO_SUCH_OBJECT: Class = Class::new("ZODB.POSException", "POSKeyError");
/// Raised for a start after the last transaction.
pub(super) static TID_TOO_HIGH: Class = Class::new("zc.zrs.primary", "TidTooHigh");
/// Raised for bytes that are not a record.
pub(super) static CORRUPTED_DATA: Class =
    Class::new("ZODB.FileStorage.format", "CorruptedDataError");
/// Raised for a damaged transaction that is followed by others.
pub(super) static CORRUPTED_TRANSACTION: Class =
    Class::new("ZODB.FileStorage.FileStorage", "CorruptedTransactionError");
/// Raised for a value that is too long for the format, and if a pack is already running.
pub(super) static FILE_STORAGE: Class =
    Class::new("ZODB.FileStorage.FileStorage", "FileStorageError");
/// Raised for a file that would exceed its quota.
pub(super) static QUOTA: Class =
    Class::new("ZODB.FileStorage.FileStorage", "FileStorageQuotaError");
/// Raised for a damaged log of `dobbin`, or another file.
pub(super) static INTEGRITY: Class = Class::new("dobbin.exc", "IntegrityError");
pub(super) static INVALID_REFERENCE: Class = Class::new("dobbin.exc", "InvalidObjectReference");
/// Raised for an object that another transaction changed.
pub(super) static CONFLICT: Class = Class::new("ZODB.POSException", "ConflictError");
/// Raised for an object that was read, and that another transaction changed.
pub(super) static READ_CONFLICT: Class = Class::new("ZODB.POSException", "ReadConflictError");
/// Raised for changes of a read-only storage.
pub(super) static READ_ONLY: Class = Class::new("ZODB.POSException", "ReadOnlyError");
/// Raised for a call with another transaction than the current one.
pub(super) static TRANSACTION: Class = Class::new("ZODB.POSException", "StorageTransactionError");
/// Raised for a storage that must be reopened.
pub(super) static SYSTEM: Class = Class::new("ZODB.POSException", "StorageSystemError");
/// Raised for a record that cannot be undone.
pub(super) static UNDO: Class = Class::new("ZODB.POSException", "UndoError");
/// Raised for several records that cannot be undone.
pub(super) static MULTIPLE_UNDO: Class = Class::new("ZODB.POSException", "MultipleUndoErrors");
