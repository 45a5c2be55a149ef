//! Putting blob files in place.

use std::path::PathBuf;

use pyo3::prelude::*;

use crate::errors::storage_error;
use zrs_storage::blob;
use zrs_vfs::OsVfs;

/// Create the missing directories between a file and the blob directory `top`.
#[pyfunction]
pub(crate) fn make_way_for_blob(py: Python<'_>, path: PathBuf, top: PathBuf) -> PyResult<()> {
    py.detach(|| blob::make_directories(&OsVfs, &path, &top))
        .map_err(|error| storage_error(py, &error))
}

/// Make a file durable, and the names that lead to it from the directory `top` on.
#[pyfunction]
pub(crate) fn sync_blob(py: Python<'_>, path: PathBuf, top: PathBuf) -> PyResult<()> {
    py.detach(|| blob::make_durable(&OsVfs, &path, &top))
        .map_err(|error| storage_error(py, &error))
}
