//! Maps errors of the core to Python exceptions. No other file names an exception for them.

use std::io;

use pyo3::call::PyCallArgs;
use pyo3::exceptions::{
    PyFileNotFoundError, PyKeyError, PyOSError, PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use rustix::io::Errno;

use super::imports::{self, Class};
use zrs_ids::{Oid, Tid};
use zrs_object_log::LogError;
use zrs_replication::replica::{BlobError, StreamError};
use zrs_storage::error::{StorageError, UndoFailure};

/// `OSError(errno, strerror, filename)`: the usual conversion loses the errno.
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
        None if error.kind() == io::ErrorKind::AlreadyExists => {
            let number = Errno::EXIST.raw_os_error();
            PyOSError::new_err((number, error.to_string(), subject))
        }
        None => PyOSError::new_err(format!("{subject}: {error}")),
    }
}

/// An argument of the wrong type.
pub(super) fn type_error(message: String) -> PyErr {
    PyTypeError::new_err(message)
}

/// An argument with an invalid value.
pub(super) fn value_error(message: String) -> PyErr {
    PyValueError::new_err(message)
}

/// A call in a state that does not allow it.
pub(super) fn runtime_error(message: String) -> PyErr {
    PyRuntimeError::new_err(message)
}

/// The exception for an error of a storage, or of a reader of its file.
pub(super) fn storage_error(py: Python<'_>, error: &StorageError) -> PyErr {
    match error {
        StorageError::Io { path, source } => os_error(source, path.display().to_string()),
        StorageError::UnknownMagic { .. } => raise(py, &imports::UNKNOWN_FORMAT, error.to_string()),
        StorageError::Corrupt { .. } | StorageError::References { .. } => {
            raise(py, &imports::CORRUPTED, error.to_string())
        }
        StorageError::CorruptTransaction { .. } => {
            raise(py, &imports::CORRUPTED_TRANSACTION, error.to_string())
        }
        StorageError::CorruptRecord {
            oid,
            position,
            found,
            ..
        } => raise_with(py, &imports::CORRUPTED_DATA, |py| {
            (oid_bytes(py, *oid), PyBytes::new(py, found), *position)
        }),
        StorageError::TidTooHigh { start, .. } => {
            let start_repr = PyBytes::new(py, start.as_bytes()).repr();
            match start_repr {
                Ok(start_repr) => raise(py, &imports::TID_TOO_HIGH, start_repr.to_string()),
                Err(error) => error,
            }
        }
        StorageError::NoSuchObject { oid } => {
            raise_with(py, &imports::NO_SUCH_OBJECT, |py| (oid_bytes(py, *oid),))
        }
        StorageError::Conflict {
            oid,
            committed,
            supplied,
        } => conflict(py, &imports::CONFLICT, *oid, *committed, *supplied),
        StorageError::ReadConflict {
            oid,
            committed,
            supplied,
        } => conflict(py, &imports::READ_CONFLICT, *oid, *committed, *supplied),
        StorageError::ReadOnly => raise_with(py, &imports::READ_ONLY, |_| ()),
        StorageError::NotVoted | StorageError::NotBegun => {
            raise(py, &imports::TRANSACTION, error.to_string())
        }
        StorageError::Undo(failure) => raise(py, &imports::UNDO, failure.to_string()),
        StorageError::MultipleUndo(failures) => multiple_undo(py, failures),
        StorageError::FieldTooLong(_)
        | StorageError::AlreadyPacking
        | StorageError::NoMoreOids(_) => raise(py, &imports::FILE_STORAGE, error.to_string()),
        StorageError::Quota => raise(py, &imports::QUOTA, error.to_string()),
        StorageError::TailNotSaved(_)
        | StorageError::Failed { .. }
        | StorageError::Inherited { .. }
        | StorageError::Displaced { .. } => raise(py, &imports::SYSTEM, error.to_string()),
        StorageError::NoData(_) | StorageError::Closed => PyValueError::new_err(error.to_string()),
        StorageError::Callback => PyRuntimeError::new_err(error.to_string()),
    }
}

/// The exception for an error of a log of `dobbin`.
pub(super) fn log_error(py: Python<'_>, error: &LogError) -> PyErr {
    match error {
        LogError::Io { path, source } => os_error(source, path.display().to_string()),
        LogError::UnknownMagic { .. }
        | LogError::UnknownVersion { .. }
        | LogError::CorruptHeader { .. }
        | LogError::Corrupt { .. }
        | LogError::Shortened { .. }
        | LogError::Emptied { .. }
        | LogError::Replaced(_)
        | LogError::Failed(_) => raise(py, &imports::INTEGRITY, error.to_string()),
        LogError::NoSuchObject(oid) => PyKeyError::new_err(oid.as_u64()),
        LogError::Dangling { .. } => raise(py, &imports::INVALID_REFERENCE, error.to_string()),
        LogError::Compacted { .. }
        | LogError::TooLong(_)
        | LogError::NotEmpty(_)
        | LogError::ReadOnly(_)
        | LogError::Closed => PyValueError::new_err(error.to_string()),
        LogError::NoTransaction => PyRuntimeError::new_err(error.to_string()),
    }
}

/// The exception for a call with another transaction than the current one.
pub(super) fn wrong_transaction<'py>(py: Python<'py>, arguments: impl PyCallArgs<'py>) -> PyErr {
    raise_with(py, &imports::TRANSACTION, |_| arguments)
}

/// Whether an exception means that a conflict cannot be resolved.
pub(super) fn is_conflict(py: Python<'_>, error: &PyErr) -> bool {
    let class = imports::CONFLICT.get(py);
    class.is_ok_and(|class| error.is_instance(py, class))
}

fn tid_bytes(py: Python<'_>, tid: Tid) -> Bound<'_, PyBytes> {
    PyBytes::new(py, tid.as_bytes())
}

fn oid_bytes(py: Python<'_>, oid: Oid) -> Bound<'_, PyBytes> {
    PyBytes::new(py, oid.as_bytes())
}

fn conflict(
    py: Python<'_>,
    class: &'static Class,
    oid: Oid,
    committed: Tid,
    supplied: Option<Tid>,
) -> PyErr {
    let make = || {
        let arguments = PyDict::new(py);
        arguments.set_item("oid", oid_bytes(py, oid))?;
        let serials = (
            tid_bytes(py, committed),
            supplied.map(|tid| tid_bytes(py, tid)),
        );
        arguments.set_item("serials", serials)?;
        class.get(py)?.call((), Some(&arguments))
    };
    make().map_or_else(|error| error, PyErr::from_value)
}

fn multiple_undo(py: Python<'_>, failures: &[(Oid, UndoFailure)]) -> PyErr {
    let make = || {
        let undo_error = imports::UNDO.get(py)?;
        let rows = failures.iter().map(|(oid, failure)| {
            let oid = oid_bytes(py, *oid);
            Ok((oid.clone(), undo_error.call1((failure.to_string(), oid))?))
        });
        let rows = PyList::new(py, rows.collect::<PyResult<Vec<_>>>()?)?;
        imports::MULTIPLE_UNDO.get(py)?.call1((rows,))
    };
    make().map_or_else(|error| error, PyErr::from_value)
}

fn raise_with<'py, A: PyCallArgs<'py>>(
    py: Python<'py>,
    class: &'static Class,
    arguments: impl FnOnce(Python<'py>) -> A,
) -> PyErr {
    let made = class.get(py).and_then(|class| class.call1(arguments(py)));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// The exception for an error of a stream.
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
