//! Parses arguments from Python into types of the core.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use super::errors::{type_error, value_error};
use zrs_ids::{Oid, Tid};
use zrs_replication::net::Address;
use zrs_replication::replica::MissingBlobs;
use zrs_storage::BlobLayout;
use zrs_storage::pickle::Dialect;

/// An id given as eight bytes.
pub(super) struct Id<T>(pub(super) T);

macro_rules! id_from_bytes {
    ($type:ty, $name:literal) => {
        impl<'py> FromPyObject<'_, 'py> for Id<$type> {
            type Error = PyErr;

            fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
                let bytes = object.cast::<PyBytes>()?;
                let id = <$type>::from_slice(bytes.as_bytes());
                id.map(Self).ok_or_else(|| {
                    let len = bytes.as_bytes().len();
                    value_error(format!(concat!($name, " must have 8 bytes, not {}"), len))
                })
            }
        }
    };
}

id_from_bytes!(Oid, "an object id");
id_from_bytes!(Tid, "a transaction id");

/// An id as Python bytes.
pub(super) fn tid_bytes(py: Python<'_>, tid: Tid) -> Bound<'_, PyBytes> {
    PyBytes::new(py, tid.as_bytes())
}

/// The serial that the caller expects; `None` if it is malformed.
pub(super) fn optional_tid(serial: Option<&Bound<'_, PyAny>>) -> Option<Tid> {
    let bytes = serial?.cast::<PyBytes>().ok()?;
    Tid::from_slice(bytes.as_bytes())
}

/// An address from Python: a pair of host and port, or the path of a UNIX socket.
pub(super) fn to_address(object: &Bound<'_, PyAny>) -> PyResult<Address> {
    if object.is_instance_of::<PyString>() {
        return Ok(Address::Unix(object.extract::<PathBuf>()?));
    }
    let pair: PyResult<(String, u16)> = object.extract();
    let (host, port) = pair.map_err(|cause| {
        let error = type_error(format!(
            "an address must be a (host, port) pair or the path of a UNIX socket, not {object:?}"
        ));
        error.set_cause(object.py(), Some(cause));
        error
    })?;
    Ok(Address::Tcp { host, port })
}

/// A sequence of addresses from Python.
pub(super) fn to_addresses(object: &Bound<'_, PyAny>) -> PyResult<Vec<Address>> {
    let items: Vec<Bound<'_, PyAny>> = object.extract()?;
    items.iter().map(to_address).collect()
}

/// An address as a Python object.
pub(super) fn address<'py>(py: Python<'py>, address: &Address) -> PyResult<Bound<'py, PyAny>> {
    match address {
        Address::Tcp { host, port } => {
            let pair = [
                PyString::new(py, host).into_any(),
                port.into_pyobject(py)?.into_any(),
            ];
            Ok(PyTuple::new(py, pair)?.into_any())
        }
        Address::Unix(path) => Ok(path.as_os_str().into_pyobject(py)?.into_any()),
    }
}

/// The dialect with this name.
pub(super) fn dialect(name: &str) -> PyResult<Dialect> {
    match name {
        "python2" => Ok(Dialect::Python2),
        "python3" => Ok(Dialect::Python3),
        other => Err(value_error(format!(
            "wire_pickles must be 'python2' or 'python3', not {other:?}"
        ))),
    }
}

/// The blob layout with this name.
pub(super) fn layout(name: &str) -> PyResult<BlobLayout> {
    BlobLayout::named(name).ok_or_else(|| {
        value_error(format!(
            "blob_layout must be 'bushy' or 'lawn', not {name:?}"
        ))
    })
}

/// The handling of missing blobs with this name.
pub(super) fn missing(name: &str) -> PyResult<MissingBlobs> {
    match name {
        "stop" => Ok(MissingBlobs::Stop),
        "skip" => Ok(MissingBlobs::Skip),
        other => Err(value_error(format!(
            "missing_blobs must be 'stop' or 'skip', not {other:?}"
        ))),
    }
}

/// A number of seconds as a duration.
pub(super) fn seconds(option: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| value_error(format!("{option}={seconds}: {error}")))
}
