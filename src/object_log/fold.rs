//! Folding several pickles into one in Python, while a log of `dobbin` is copied.

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use zrs_ids::Oid;
use zrs_object_log::Fold;

/// Call `work` with a function that folds pickles by calling `fold`. `fold` receives a list of
/// pickles, and returns the object's references and one pickle, or None. Its exceptions are
/// returned.
pub(crate) fn folding<T>(
    fold: Option<Py<PyAny>>,
    work: impl FnOnce(Option<&Fold<'_>>) -> PyResult<T>,
) -> PyResult<T> {
    let Some(fold) = fold else {
        return work(None);
    };
    let raised = Mutex::new(None);
    let call = |pickles: &[&[u8]]| {
        if raised.lock().is_some() {
            return None;
        }
        let folded = Python::try_attach(|py| fold_with(py, &fold, pickles))?;
        folded.unwrap_or_else(|error| {
            *raised.lock() = Some(error);
            None
        })
    };
    let done = work(Some(&call))?;
    raised.into_inner().map_or(Ok(done), Err)
}

fn fold_with(
    py: Python<'_>,
    fold: &Py<PyAny>,
    pickles: &[&[u8]],
) -> PyResult<Option<(Vec<Oid>, Vec<u8>)>> {
    let pickles: Vec<_> = pickles
        .iter()
        .map(|pickle| PyBytes::new(py, pickle))
        .collect();
    let folded: Option<(Vec<u64>, Vec<u8>)> = fold.call1(py, (pickles,))?.extract(py)?;
    Ok(folded.map(|(references, pickle)| {
        let references = references.into_iter().map(Oid::from_u64).collect();
        (references, pickle)
    }))
}
