//! Checking a `Data.fs`, and salvaging the intact transactions of a damaged one.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::convert::{layout, tid_bytes};
use super::errors::storage_error;
use zrs_storage::BlobDirectory;
use zrs_storage::check::{self, CheckOptions, Fault, Progress};
use zrs_storage::pickle;
use zrs_storage::salvage::{self, Finding, Outcome};
use zrs_vfs::OsVfs;

/// A problem in a file.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct Problem(check::Problem);

#[pymethods]
impl Problem {
    #[getter]
    fn kind(&self) -> &'static str {
        self.0.fault.kind()
    }

    #[getter]
    fn message(&self) -> String {
        self.0.fault.to_string()
    }

    #[getter]
    fn pos(&self) -> u64 {
        self.0.position
    }

    #[getter]
    fn tid<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.tid.map(|tid| tid_bytes(py, tid))
    }

    #[getter]
    fn oid<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.oid.map(|oid| PyBytes::new(py, oid.as_bytes()))
    }

    #[getter]
    fn skipped(&self) -> u64 {
        self.0.skipped
    }

    #[getter]
    fn reference<'py>(&self, py: Python<'py>) -> Option<(Bound<'py, PyBytes>, String)> {
        match &self.0.fault {
            Fault::Dangling { to, state } => {
                Some((PyBytes::new(py, to.as_bytes()), state.to_string()))
            }
            _ => None,
        }
    }
}

/// A check of one file, in steps.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct Check(Mutex<check::Check>);

#[pymethods]
impl Check {
    #[new]
    #[pyo3(signature = (path, *, index = true, references = true, blobs = None))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        index: bool,
        references: bool,
        blobs: Option<(PathBuf, String)>,
    ) -> PyResult<Self> {
        let options = CheckOptions {
            index,
            references,
            live: true,
        };
        let blobs = blobs
            .map(|(directory, name)| Ok::<_, PyErr>(BlobDirectory::new(directory, layout(&name)?)))
            .transpose()?;
        let opened = py.detach(|| check::Check::open(Arc::new(OsVfs), &path, options));
        opened
            .map(|check| match blobs {
                Some(blobs) => check.with_blobs(blobs, pickle::is_blob_record),
                None => check,
            })
            .map(|check| Self(Mutex::new(check)))
            .map_err(|error| storage_error(py, &error))
    }

    fn step(&self, py: Python<'_>, length: u64) -> PyResult<(&'static str, u64, u64)> {
        let progress = py.detach(|| self.0.lock().step(length));
        let progress = progress.map_err(|error| storage_error(py, &error))?;
        Ok(match progress {
            Progress::Scanning { position, size } => ("scanning", position, size),
            Progress::Following { done, total } => ("following", done, total),
            Progress::Done => ("done", 0, 0),
        })
    }

    fn take_problems(&self, py: Python<'_>) -> Vec<Problem> {
        let problems = py.detach(|| self.0.lock().take_problems());
        problems.into_iter().map(Problem).collect()
    }

    fn data<'py>(&self, py: Python<'py>, pos: u64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let data = py.detach(|| self.0.lock().data(pos));
        let data = data.map_err(|error| storage_error(py, &error))?;
        Ok(data.map(|data| PyBytes::new(py, &data)))
    }

    #[getter]
    fn transformed(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.0.lock().counts()).transformed
    }

    #[getter]
    fn counts(&self, py: Python<'_>) -> (u64, u64, u64) {
        let counts = py.detach(|| self.0.lock().counts());
        (counts.transactions, counts.records, counts.objects)
    }
}

/// A salvage of one file, in steps.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct Salvage(Mutex<salvage::Salvage>);

#[pymethods]
impl Salvage {
    #[new]
    #[pyo3(signature = (source, target, *, partial = false))]
    fn new(py: Python<'_>, source: PathBuf, target: PathBuf, partial: bool) -> PyResult<Self> {
        let open = || salvage::Salvage::open(Arc::new(OsVfs), &source, &target, partial);
        py.detach(open)
            .map(|salvage| Self(Mutex::new(salvage)))
            .map_err(|error| storage_error(py, &error))
    }

    fn step(&self, py: Python<'_>, length: u64) -> PyResult<bool> {
        py.detach(|| self.0.lock().step(length))
            .map_err(|error| storage_error(py, &error))
    }

    fn take_findings(&self, py: Python<'_>) -> Vec<(Problem, u64)> {
        let findings = py.detach(|| self.0.lock().take_findings());
        findings.into_iter().map(finding).collect()
    }

    #[getter]
    fn pos(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.0.lock().position())
    }

    #[getter]
    fn size(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.0.lock().size())
    }

    #[getter]
    fn copied(&self, py: Python<'_>) -> (u64, u64, u64) {
        let copied = py.detach(|| self.0.lock().copied());
        (copied.transactions, copied.records, copied.lost_bytes)
    }
}

fn finding(finding: Finding) -> (Problem, u64) {
    let lost = match finding.outcome {
        Outcome::Lost { bytes } => bytes,
        Outcome::Repaired => 0,
    };
    (Problem(finding.problem), lost)
}

/// The module and name of the class in a record.
#[pyfunction]
pub(super) fn record_class(data: &[u8]) -> Option<(String, String)> {
    pickle::class_name(data)
}
