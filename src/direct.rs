//! A native storage as a replication target: the binding of `replica::LocalTarget`.

use std::sync::Arc;

use pyo3::prelude::*;

use super::errors::runtime_error;
use super::feed::Feed;
use super::storage::FileStorageBase;
use zrs_replication::replica::LocalTarget;

/// A native storage as a replication target.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct DirectTarget {
    target: Arc<LocalTarget>,
}

impl DirectTarget {
    /// The target, for connections that apply to it.
    pub(super) fn target(&self) -> Arc<LocalTarget> {
        Arc::clone(&self.target)
    }
}

#[pymethods]
impl DirectTarget {
    #[new]
    #[pyo3(signature = (storage, feed = None))]
    fn new(storage: &Bound<'_, FileStorageBase>, feed: Option<&Feed>) -> PyResult<Self> {
        let storage = Arc::clone(&storage.get().opened()?.storage);
        let feed = feed.map(|feed| Arc::clone(&feed.0));
        Ok(Self {
            target: Arc::new(LocalTarget::new(storage, feed)),
        })
    }

    /// Call `register`, which adds a database, while no transaction becomes visible.
    fn register(&self, py: Python<'_>, register: Py<PyAny>) -> PyResult<()> {
        // The target's lock is taken detached.
        py.detach(|| {
            let register = || Python::try_attach(|py| register.call0(py).map(drop));
            let registered = self.target.register(register);
            registered.unwrap_or_else(|| Err(runtime_error("the interpreter is ending".to_owned())))
        })
    }
}
