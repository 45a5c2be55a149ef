//! The class of a storage, and its state while it is open.

use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;

use super::current::Commit;
use crate::errors::value_error;
use zrs_storage::filestorage;

/// The base class of `zc.zrs.filestorage.FileStorage`.
#[pyclass(subclass, frozen, module = "zc.zrs._zrs")]
pub(crate) struct FileStorageBase {
    pub(super) opened: OnceLock<Opened>,
}

/// The state of an open storage.
pub(crate) struct Opened {
    pub(crate) storage: Arc<filestorage::FileStorage>,
    pub(crate) commit: Commit,
}

impl FileStorageBase {
    /// The open storage.
    pub(crate) fn opened(&self) -> PyResult<&Opened> {
        let not_open = || value_error("the storage is not open".to_owned());
        self.opened.get().ok_or_else(not_open)
    }
}
