//! The Python objects that the bindings use, each imported once.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyModule, PyType};

/// A class, imported when first asked for.
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

/// A module, imported when first asked for.
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

/// Where the time is read.
pub(super) static TIME: Module = Module::new("time");
/// Where ZODB's `loads` is, which finds classes as ZODB does.
pub(super) static ZODB_COMPAT: Module = Module::new("ZODB._compat");

/// For a file that breaks its format.
pub(super) static CORRUPTED: Class = Class::new("ZODB.FileStorage.format", "CorruptedError");
/// For a file that is no `Data.fs`.
pub(super) static UNKNOWN_FORMAT: Class =
    Class::new("ZODB.FileStorage.FileStorage", "FileStorageFormatError");
/// For an object that is not there.
pub(super) static NO_SUCH_OBJECT: Class = Class::new("ZODB.POSException", "POSKeyError");
/// For a start after the last transaction.
pub(super) static TID_TOO_HIGH: Class = Class::new("zc.zrs.primary", "TidTooHigh");
/// For a record that is none.
pub(super) static CORRUPTED_DATA: Class =
    Class::new("ZODB.FileStorage.format", "CorruptedDataError");
/// For a transaction that breaks the format amid others.
pub(super) static CORRUPTED_TRANSACTION: Class =
    Class::new("ZODB.FileStorage.FileStorage", "CorruptedTransactionError");
/// For what the format has no room for, and for two packs at once.
pub(super) static FILE_STORAGE: Class =
    Class::new("ZODB.FileStorage.FileStorage", "FileStorageError");
/// For a file that may not grow more.
pub(super) static QUOTA: Class =
    Class::new("ZODB.FileStorage.FileStorage", "FileStorageQuotaError");
/// For a log of `dobbin` that is damaged, or none.
pub(super) static INTEGRITY: Class = Class::new("dobbin.exc", "IntegrityError");
pub(super) static INVALID_REFERENCE: Class = Class::new("dobbin.exc", "InvalidObjectReference");
/// For an object changed by another transaction.
pub(super) static CONFLICT: Class = Class::new("ZODB.POSException", "ConflictError");
/// For an object read and changed by another transaction.
pub(super) static READ_CONFLICT: Class = Class::new("ZODB.POSException", "ReadConflictError");
/// For a storage that is only read.
pub(super) static READ_ONLY: Class = Class::new("ZODB.POSException", "ReadOnlyError");
/// For a call for another transaction than the present one.
pub(super) static TRANSACTION: Class = Class::new("ZODB.POSException", "StorageTransactionError");
/// For a storage that must be reopened.
pub(super) static SYSTEM: Class = Class::new("ZODB.POSException", "StorageSystemError");
/// For a record that cannot be undone.
pub(super) static UNDO: Class = Class::new("ZODB.POSException", "UndoError");
/// For several of them.
pub(super) static MULTIPLE_UNDO: Class = Class::new("ZODB.POSException", "MultipleUndoErrors");
