//! Reading a whole log of `dobbin`, for its commands.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::errors::log_error;
use zrs_ids::Oid;
use zrs_object_log::{Dump, Dumped, Kind};
use zrs_vfs::OsVfs;

/// A record: its object or stream, kind, position, length, and the transaction that first wrote
/// it.
type RecordRow = (u64, &'static str, u64, u32, u64);
/// Damage: position, transaction, objects, description.
type ProblemRow = (u64, Option<u64>, Vec<u64>, String);

/// A reference that leads nowhere: the object that has it, its position, its target.
type DanglingRow = (Option<u64>, u64, u64);

/// A transaction, or the readable part of one.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(crate) struct LoggedTransaction(Dumped);

#[pymethods]
impl LoggedTransaction {
    #[getter]
    fn start(&self) -> u64 {
        self.0.start
    }

    #[getter]
    fn end(&self) -> Option<u64> {
        self.0.end
    }

    #[getter]
    fn number(&self) -> Option<u64> {
        self.0.number
    }

    #[getter]
    fn microseconds(&self) -> Option<i64> {
        self.0.time
    }

    #[getter]
    fn committed(&self) -> Option<bool> {
        self.0.committed
    }

    #[getter]
    fn root(&self) -> Option<u64> {
        self.0.root.map(Oid::as_u64)
    }

    #[getter]
    fn records(&self) -> Vec<RecordRow> {
        let records = self.0.records.iter().map(|record| {
            let kind = match record.kind {
                Kind::Full => "object",
                Kind::Change => "changes",
                Kind::Stream => "stream",
                Kind::Begin | Kind::Block | Kind::End => "other",
            };
            let (position, len) = (record.position, record.len);
            (record.oid.as_u64(), kind, position, len, record.transaction)
        });
        records.collect()
    }

    #[getter]
    fn problems(&self) -> Vec<ProblemRow> {
        let problems = self.0.problems.iter().map(|problem| {
            let oids = problem.oids.iter().map(|oid| oid.as_u64()).collect();
            (
                problem.position,
                problem.transaction,
                oids,
                problem.damage.to_string(),
            )
        });
        problems.collect()
    }
}

/// Reads a log from beginning to end.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(crate) struct LogDump(Mutex<Dump>);

#[pymethods]
impl LogDump {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let opened = py.detach(|| Dump::open(Arc::new(OsVfs), &path));
        opened
            .map(|dump| Self(Mutex::new(dump)))
            .map_err(|error| log_error(py, &error))
    }

    fn next(&self, py: Python<'_>) -> PyResult<Option<LoggedTransaction>> {
        let read = py.detach(|| self.0.lock().read_next());
        read.map(|read| read.map(LoggedTransaction))
            .map_err(|error| log_error(py, &error))
    }

    #[getter]
    fn path(&self, py: Python<'_>) -> PathBuf {
        py.detach(|| self.0.lock().path().to_owned())
    }

    #[getter]
    fn shortened(&self, py: Python<'_>) -> Option<String> {
        py.detach(|| self.0.lock().shortened().map(ToString::to_string))
    }

    fn dangling(&self, py: Python<'_>) -> PyResult<Vec<DanglingRow>> {
        let found = py.detach(|| self.0.lock().dangling());
        let found = found.map_err(|error| log_error(py, &error))?;
        let rows = found.iter().map(|reference| {
            let oid = reference.oid.map(Oid::as_u64);
            (oid, reference.position, reference.target.as_u64())
        });
        Ok(rows.collect())
    }

    #[getter]
    fn progress(&self, py: Python<'_>) -> (u64, u64) {
        py.detach(|| self.0.lock().progress())
    }

    #[getter]
    fn durable(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.0.lock().durable())
    }
}
