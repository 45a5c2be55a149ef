//! The Python objects that the bindings use, each imported once.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

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

/// For a file that breaks its format.
pub(super) static CORRUPTED: Class = Class::new("ZODB.FileStorage.format", "CorruptedError");
/// For a file that is no `Data.fs`.
pub(super) static UNKNOWN_FORMAT: Class =
    Class::new("ZODB.FileStorage.FileStorage", "FileStorageFormatError");
/// For an object that is not there.
pub(super) static NO_SUCH_OBJECT: Class = Class::new("ZODB.POSException", "POSKeyError");
/// For a start after the last transaction.
pub(super) static TID_TOO_HIGH: Class = Class::new("zc.zrs.primary", "TidTooHigh");
