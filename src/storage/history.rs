//! Revisions and transactions as dictionaries in ZODB's form.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::convert::tid_bytes;
use crate::imports;
use zrs_ids::Tid;
use zrs_ids::timestamp;
use zrs_storage::filestorage::{LoggedTransaction, Revision};

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Descriptions of revisions, for `history`.
pub(crate) fn revisions(py: Python<'_>, found: Vec<Revision>) -> PyResult<Bound<'_, PyList>> {
    let described = found.into_iter().map(|revision| {
        let row = if revision.extension.is_empty() {
            PyDict::new(py)
        } else {
            load_extension(py, &revision.extension)?
        };
        row.set_item(intern!(py, "time"), timestamp::seconds_at(revision.tid))?;
        row.set_item(intern!(py, "user_name"), PyBytes::new(py, &revision.user))?;
        row.set_item(
            intern!(py, "description"),
            PyBytes::new(py, &revision.description),
        )?;
        row.set_item(intern!(py, "tid"), tid_bytes(py, revision.tid))?;
        row.set_item(intern!(py, "size"), revision.data_len)?;
        Ok(row)
    });
    PyList::new(py, described.collect::<PyResult<Vec<_>>>()?)
}

/// Descriptions of transactions, for `undoLog`.
pub(crate) fn transactions(
    py: Python<'_>,
    found: Vec<LoggedTransaction>,
) -> PyResult<Bound<'_, PyList>> {
    let described = found.into_iter().map(|transaction| {
        let row = PyDict::new(py);
        row.set_item(
            intern!(py, "id"),
            PyBytes::new(py, &base64(transaction.tid)),
        )?;
        row.set_item(intern!(py, "time"), timestamp::seconds_at(transaction.tid))?;
        row.set_item(
            intern!(py, "user_name"),
            PyBytes::new(py, &transaction.user),
        )?;
        row.set_item(intern!(py, "size"), transaction.length)?;
        row.set_item(
            intern!(py, "description"),
            PyBytes::new(py, &transaction.description),
        )?;
        if !transaction.extension.is_empty() {
            // If the classes of one extension cannot be imported, still list the other
            // transactions.
            if let Ok(extension) = load_extension(py, &transaction.extension) {
                row.update(extension.as_mapping())?;
            }
        }
        Ok(row)
    });
    PyList::new(py, described.collect::<PyResult<Vec<_>>>()?)
}

fn load_extension<'py>(py: Python<'py>, pickle: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let loads = imports::ZODB_COMPAT.get(py)?.getattr("loads")?;
    let loaded = loads.call1((PyBytes::new(py, pickle),))?;
    Ok(loaded.cast_into::<PyDict>()?)
}

/// A tid in base 64: twelve characters, the last of them `=`.
fn base64(tid: Tid) -> [u8; 12] {
    let number = u128::from(tid.as_u64()) << 8;
    let mut text = [b'='; 12];
    for (at, character) in text.iter_mut().take(11).enumerate() {
        let digit = usize::try_from((number >> (66 - 6 * at)) & 63).unwrap_or_default();
        *character = BASE64[digit];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_equals_that_of_python() {
        // base64.encodebytes(bytes.fromhex("03fccd40183adf88")).rstrip()
        assert_eq!(
            &base64(Tid::from_u64(0x03fc_cd40_183a_df88)),
            b"A/zNQBg634g="
        );
    }
}
