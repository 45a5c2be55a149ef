//! The log of `dobbin`: the native half of `dobbin.database.Database`.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{fold::folding, wait};
use crate::errors::{log_error, value_error};
use zrs_ids::Oid;
use zrs_object_log::{Changes, Durability, Log, LogResult, Options};
use zrs_vfs::OsVfs;

/// The interval at which a wait for another thread checks for signals.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);
/// The first and the longest pause between attempts to take the lock of another process.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// An open log.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(crate) struct ObjectLog(Log);

type ChangesRow = (Vec<u64>, bool, u64);

impl ObjectLog {
    /// Call the log with the interpreter released.
    fn call<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&Log) -> LogResult<T> + Send,
    ) -> PyResult<T> {
        py.detach(|| call(&self.0))
            .map_err(|error| log_error(py, &error))
    }
}

#[pymethods]
impl ObjectLog {
    #[new]
    #[pyo3(signature = (path, *, identity, read_only = false, existing = false, sync = "commit"))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        identity: [u8; 16],
        read_only: bool,
        existing: bool,
        sync: &str,
    ) -> PyResult<Self> {
        let options = Options {
            read_only,
            existing,
            durability: durability(sync)?,
            identity,
        };
        let opened = py.detach(|| Log::open(Arc::new(OsVfs), &path, options));
        opened.map(Self).map_err(|error| log_error(py, &error))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.call(py, Log::len)
    }

    #[getter]
    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    #[getter]
    fn number(&self, py: Python<'_>) -> PyResult<u64> {
        self.call(py, Log::number)
    }

    #[getter]
    fn root(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        let root = self.call(py, Log::root)?;
        Ok(root.map(Oid::as_u64))
    }

    #[getter]
    fn damaged(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let damaged = self.call(py, Log::damaged)?;
        Ok(damaged.iter().map(ToString::to_string).collect())
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, Log::close)
    }

    fn save_index(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, Log::save_index)
    }

    fn checkpoint(&self, py: Python<'_>) {
        py.detach(|| self.0.checkpoint());
    }

    // --- Reading

    fn load<'py>(&self, py: Python<'py>, oid: u64) -> PyResult<(u64, Vec<Bound<'py, PyBytes>>)> {
        let loaded = self.call(py, |log| log.load(Oid::from_u64(oid)))?;
        let pickles = loaded.pickles.iter().map(|pickle| PyBytes::new(py, pickle));
        Ok((loaded.serial, pickles.collect()))
    }

    fn serial(&self, py: Python<'_>, oid: u64) -> PyResult<u64> {
        self.call(py, |log| log.serial(Oid::from_u64(oid)))
    }

    fn has(&self, py: Python<'_>, oid: u64) -> PyResult<bool> {
        self.call(py, |log| log.has(Oid::from_u64(oid)))
    }

    fn stream_length(&self, py: Python<'_>, oid: u64) -> PyResult<u64> {
        self.call(py, |log| log.stream_len(Oid::from_u64(oid)))
    }

    fn stream_bytes<'py>(
        &self,
        py: Python<'py>,
        oid: u64,
        offset: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.call(py, |log| log.stream_bytes(Oid::from_u64(oid), offset))?;
        Ok(PyBytes::new(py, &bytes))
    }

    #[pyo3(signature = (timeout = None, ready = None))]
    fn wait(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        ready: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        wait::wait(py, &self.0, timeout, ready)
    }

    fn catch_up(&self, py: Python<'_>) -> PyResult<ChangesRow> {
        self.call(py, Log::catch_up).map(row)
    }

    // --- Writing

    fn lock(&self, py: Python<'_>) -> PyResult<()> {
        let mut pause = FIRST_PAUSE;
        while !self.call(py, |log| log.lock(SIGNAL_INTERVAL))? {
            py.check_signals()?;
            py.detach(|| thread::sleep(pause));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(())
    }

    fn unlock(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, Log::unlock)
    }

    fn begin(&self, py: Python<'_>, microseconds: i64) -> PyResult<ChangesRow> {
        self.call(py, |log| log.begin(microseconds)).map(row)
    }

    fn new_oid(&self, py: Python<'_>) -> PyResult<u64> {
        let oid = self.call(py, Log::new_oid)?;
        Ok(oid.as_u64())
    }

    fn set_root(&self, py: Python<'_>, oid: u64) -> PyResult<()> {
        self.call(py, |log| log.set_root(Oid::from_u64(oid)))
    }

    fn wants_full(&self, py: Python<'_>, oid: u64) -> PyResult<bool> {
        self.call(py, |log| log.wants_full(Oid::from_u64(oid)))
    }

    fn store(
        &self,
        py: Python<'_>,
        oid: u64,
        full: bool,
        references: Vec<u64>,
        pickle: &[u8],
    ) -> PyResult<()> {
        let oid = Oid::from_u64(oid);
        let references: Vec<_> = references.into_iter().map(Oid::from_u64).collect();
        self.call(py, |log| {
            if full {
                log.store_full(oid, &references, pickle)
            } else {
                log.store_change(oid, &references, pickle)
            }
        })
    }

    fn begin_stream(&self, py: Python<'_>) -> PyResult<u64> {
        let oid = self.call(py, Log::begin_stream)?;
        Ok(oid.as_u64())
    }

    fn write_stream(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        self.call(py, |log| log.write_stream(data))
    }

    fn end_stream(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, Log::end_stream)
    }

    fn vote(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, Log::vote)
    }

    fn finish(&self, py: Python<'_>) -> PyResult<u64> {
        self.call(py, Log::finish)
    }

    fn fail(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, Log::fail)
    }

    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, Log::sync)
    }

    #[pyo3(signature = (target, microseconds, fold = None))]
    fn snapshot(
        &self,
        py: Python<'_>,
        target: &Bound<'_, Self>,
        microseconds: Option<i64>,
        fold: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let target = target.get();
        folding(fold, |fold| {
            self.call(py, |log| log.snapshot(microseconds, &target.0, fold))
        })
    }

    #[pyo3(signature = (identity, microseconds, reachable, fold = None))]
    fn compact(
        &self,
        py: Python<'_>,
        identity: [u8; 16],
        microseconds: i64,
        reachable: bool,
        fold: Option<Py<PyAny>>,
    ) -> PyResult<(u64, u64)> {
        folding(fold, |fold| {
            self.call(py, |log| {
                log.compact(identity, microseconds, reachable, fold)
            })
        })
    }
}

fn row(changes: Changes) -> ChangesRow {
    let objects = changes.objects.into_iter().map(Oid::as_u64).collect();
    (objects, changes.root, changes.transactions)
}

fn durability(name: &str) -> PyResult<Durability> {
    match name {
        "commit" => Ok(Durability::Commit),
        "none" => Ok(Durability::None),
        other => Err(value_error(format!(
            "sync must be 'commit' or 'none', not {other:?}"
        ))),
    }
}
