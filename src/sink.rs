//! Where a secondary's transactions go: to a native storage, or to one written in Python.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::convert::{Id, tid_bytes};
use super::direct::DirectTarget;
use super::errors::storage_error;
use super::python_sink::{PythonSink, SinkError};
use zrs_ids::Tid;
use zrs_replication::replica::{self, LocalStorage, LocalTarget, ReplicaStorage};
use zrs_vfs::OsVfs;

/// The target of a secondary's transactions.
#[derive(Clone)]
pub(super) struct Sink {
    sink: PythonSink,
    /// The storage, if Rust can apply to it directly.
    direct: Option<Arc<LocalTarget>>,
}

/// The target of one connection.
pub(super) type BoxedSink = Box<dyn ReplicaStorage<Error = SinkError> + Send>;

impl Sink {
    /// A sink for an object with the methods of `Sink` in `_zrs.pyi`.
    pub(super) fn new(py: Python<'_>, sink: Py<PyAny>) -> PyResult<Self> {
        let direct = sink.bind(py).getattr_opt("direct")?;
        let direct = direct.filter(|direct| !direct.is_none());
        let direct = match direct {
            Some(direct) => {
                let target: PyRef<'_, DirectTarget> = direct.extract()?;
                Some(target.target())
            }
            None => None,
        };
        Ok(Self {
            sink: PythonSink::new(sink),
            direct,
        })
    }

    /// The storage for a connection.
    pub(super) fn storage(&self) -> BoxedSink {
        match &self.direct {
            Some(direct) => Box::new(LocalStorage::new(direct, self.sink.clone())),
            None => Box::new(self.sink.clone()),
        }
    }
}

/// The last transaction in a storage's file.
#[pyfunction]
pub(super) fn last_in_file(
    py: Python<'_>,
    path: PathBuf,
    tid: Id<Tid>,
    end: u64,
) -> PyResult<Bound<'_, PyBytes>> {
    let found = py.detach(|| replica::last_in_file(Arc::new(OsVfs), &path, tid.0, Some(end)));
    let last = found.map_err(|error| storage_error(py, &error))?;
    Ok(tid_bytes(py, last))
}
