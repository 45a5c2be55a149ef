//! Which Python exception each error becomes. No other file names one for an error of the
//! core.

use std::io;

use pyo3::exceptions::{PyFileNotFoundError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::imports::{self, Class};
use crate::error::StorageError;
use crate::replica::{BlobError, StreamError};

/// `OSError(errno, strerror, filename)`: the usual conversion loses the number.
pub(super) fn os_error(error: &io::Error, subject: String) -> PyErr {
    match error.raw_os_error() {
        Some(number) => {
            let text = error.to_string();
            let words = text
                .split(" (os error")
                .next()
                .unwrap_or_default()
                .to_owned();
            PyOSError::new_err((number, words, subject))
        }
        None => PyOSError::new_err(format!("{subject}: {error}")),
    }
}

/// What a reader of a file raises.
pub(super) fn storage_error(py: Python<'_>, error: &StorageError) -> PyErr {
    match error {
        StorageError::Io { path, source } => os_error(source, path.display().to_string()),
        StorageError::UnknownMagic { .. } => raise(py, &imports::UNKNOWN_FORMAT, error.to_string()),
        StorageError::Corrupt { .. } => raise(py, &imports::CORRUPTED, error.to_string()),
        StorageError::NoSuchObject { oid } => match imports::NO_SUCH_OBJECT.get(py) {
            Ok(class) => {
                let oid = PyBytes::new(py, oid.as_bytes()).unbind();
                PyErr::from_type(class.clone(), (oid,))
            }
            Err(error) => error,
        },
        StorageError::References { .. } => raise(py, &imports::CORRUPTED, error.to_string()),
        StorageError::TidTooHigh { start, .. } => {
            let shown = PyBytes::new(py, start.as_bytes()).repr();
            match shown {
                Ok(shown) => raise(py, &imports::TID_TOO_HIGH, shown.to_string()),
                Err(error) => error,
            }
        }
    }
}

/// What a stream raises.
pub(super) fn stream_error(py: Python<'_>, error: &StreamError) -> PyErr {
    match error {
        StreamError::Storage(error) => storage_error(py, error),
        StreamError::Blob(error) => blob_error(error),
        StreamError::Outgoing { .. } => raise(py, &imports::CORRUPTED, error.to_string()),
    }
}

fn blob_error(error: &BlobError) -> PyErr {
    match error {
        BlobError::Io { path, source } => os_error(source, path.display().to_string()),
        BlobError::Missing { .. } => PyFileNotFoundError::new_err(error.to_string()),
        BlobError::TooLong { .. } => PyOSError::new_err(error.to_string()),
    }
}

fn raise(py: Python<'_>, class: &'static Class, message: String) -> PyErr {
    match class.get(py) {
        Ok(class) => PyErr::from_type(class.clone(), message),
        Err(error) => error,
    }
}
