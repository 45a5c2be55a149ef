//! Packs, with the Python callbacks that they may need.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::opened::Opened;
use crate::convert::{Id, tid_bytes};
use crate::errors::{runtime_error, storage_error, value_error};
use zrs_ids::{Oid, Tid};
use zrs_storage::error::StorageError;
use zrs_storage::filestorage::{self, CommitGuard};
use zrs_storage::index::Index;
use zrs_storage::pack::{Dropped, Options, Phase, native_references};
use zrs_storage::pickle;

/// The interval at which a wait for the commit lock checks for signals.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// The reason why a pack failed.
enum PackError {
    Storage(StorageError),
    Raised(PyErr),
}

impl From<StorageError> for PackError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<PyErr> for PackError {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

/// The arguments of a pack.
pub(crate) struct Request {
    pub(crate) options: Options,
    pub(crate) keep_old: bool,
    /// Returns the references of a record's data; called if Rust cannot read them.
    pub(crate) references: Py<PyAny>,
    /// Whether `references` is ZODB's own function, which need not be called.
    pub(crate) native: bool,
    /// Returns whether data are a blob's; `None` without blobs.
    pub(crate) is_blob: Option<Py<PyAny>>,
    /// Whether data are stored in another form than ZODB's pickles.
    pub(crate) transformed: bool,
}

/// Pack; returns the revisions of blobs whose files can be removed, or `None` if nothing could be
/// packed.
pub(crate) fn pack<'py>(
    py: Python<'py>,
    opened: &Opened,
    request: &Request,
) -> PyResult<Option<Bound<'py, PyList>>> {
    let storage = &opened.storage;
    let packed = py.detach(|| run(storage, request));
    let dropped = match packed {
        Ok(Some(dropped)) => dropped,
        Ok(None) => return Ok(None),
        Err(PackError::Storage(error)) => return Err(storage_error(py, &error)),
        Err(PackError::Raised(error)) => return Err(error),
    };
    let blobs = dropped.blobs.into_iter();
    let blobs = blobs.map(|(oid, tid)| (PyBytes::new(py, oid.as_bytes()), tid_bytes(py, tid)));
    PyList::new(py, blobs.collect::<Vec<_>>()).map(Some)
}

/// The progress of the storage's pack, with the phase's name.
pub(crate) fn progress(storage: &filestorage::FileStorage) -> (&'static str, u64, u64) {
    let (phase, done, total) = storage.pack_progress().snapshot();
    let name = match phase {
        Phase::Idle => "",
        Phase::Reading => "reading",
        Phase::Reaching => "reaching",
        Phase::Copying => "copying",
    };
    (name, done, total)
}

fn run(
    storage: &filestorage::FileStorage,
    request: &Request,
) -> Result<Option<Dropped>, PackError> {
    let mut native = native_references();
    let mut references = |oid: Oid, data: &[u8], found: &mut Vec<Oid>| {
        if request.native {
            let before = found.len();
            match native(oid, data, found) {
                Err(StorageError::References { .. }) => found.truncate(before),
                read => return read.map_err(PackError::from),
            }
        }
        python_references(&request.references, data, found)
    };
    let mut is_blob = |data: &[u8]| match &request.is_blob {
        Some(is_blob) => is_blob_record(is_blob, data, request.transformed),
        None => Ok(false),
    };
    let has_blobs = request.is_blob.is_some();
    storage.pack::<PackError>(
        &request.options,
        request.keep_old,
        &mut references,
        if has_blobs { Some(&mut is_blob) } else { None },
    )
}

fn attached<T>(call: impl FnOnce(Python<'_>) -> PyResult<T>) -> Result<T, PackError> {
    match Python::try_attach(call) {
        Some(result) => result.map_err(PackError::Raised),
        None => Err(runtime_error("the interpreter is ending".to_owned()).into()),
    }
}

fn python_references(
    references: &Py<PyAny>,
    data: &[u8],
    found: &mut Vec<Oid>,
) -> Result<(), PackError> {
    attached(|py| {
        let answer = references.bind(py).call1((PyBytes::new(py, data),))?;
        for oid in answer.try_iter()? {
            found.push(oid?.extract::<Id<Oid>>()?.0);
        }
        Ok(())
    })
}

fn is_blob_record(is_blob: &Py<PyAny>, data: &[u8], transformed: bool) -> Result<bool, PackError> {
    if !transformed {
        return Ok(pickle::is_blob_record(data));
    }
    attached(|py| {
        is_blob
            .bind(py)
            .call1((PyBytes::new(py, data),))?
            .is_truthy()
    })
}

/// The commit lock, for a packer written in Python.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(crate) struct CommitLock {
    storage: Arc<filestorage::FileStorage>,
    guard: Mutex<Option<CommitGuard>>,
}

impl CommitLock {
    pub(crate) fn new(storage: &Arc<filestorage::FileStorage>) -> Self {
        Self {
            storage: Arc::clone(storage),
            guard: Mutex::new(None),
        }
    }
}

#[pymethods]
impl CommitLock {
    /// Wait for the lock and take it.
    fn acquire(&self, py: Python<'_>) -> PyResult<bool> {
        let lock = self.storage.commit_lock();
        // In a forked child, the thread that holds the lock may not exist.
        self.storage
            .check_owner()
            .map_err(|error| storage_error(py, &error))?;
        loop {
            if let Some(guard) = py.detach(|| lock.acquire_within(SIGNAL_INTERVAL)) {
                *self.guard.lock() = Some(guard);
                return Ok(true);
            }
            py.check_signals()?;
        }
    }

    /// Release the lock.
    fn release(&self) -> PyResult<()> {
        match self.guard.lock().take() {
            Some(_) => Ok(()),
            None => Err(runtime_error("release unlocked lock".to_owned())),
        }
    }

    /// Whether a commit or a pack holds the lock.
    fn locked(&self) -> bool {
        self.storage.commit_lock().is_held()
    }

    /// Continue in the file that a packer has written, which ends at `end` and has these objects.
    /// Then release the lock, which the packer has taken.
    fn use_packed(
        &self,
        py: Python<'_>,
        end: u64,
        items: &Bound<'_, PyAny>,
        keep_old: bool,
    ) -> PyResult<()> {
        let index = index_of(items)?;
        let use_packed = || {
            // The packer's lock is released after an error, too.
            let guard = self.guard.lock().take();
            self.storage.check_owner()?;
            self.storage.check_place()?;
            let guard = guard.unwrap_or_else(|| self.storage.commit_lock().acquire());
            self.storage.remove_old()?;
            self.storage.use_packed(&guard, index, end, keep_old)?;
            drop(guard);
            self.storage.try_to_save_index();
            Ok(())
        };
        py.detach(use_packed)
            .map_err(|error| storage_error(py, &error))
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py)
    }

    fn __exit__(
        &self,
        _kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.release()
    }
}

/// The index that a packer written in Python returns: pairs of oid and position.
fn index_of(items: &Bound<'_, PyAny>) -> PyResult<Index> {
    let mut index = Index::new();
    for item in items.try_iter()? {
        let (oid, position): (Id<Oid>, u64) = item?.extract()?;
        index.insert(oid.0, position);
    }
    Ok(index)
}

/// The pack time, which must not be zero.
pub(crate) fn options(time: Tid, gc: bool) -> PyResult<Options> {
    if time == Tid::ZERO {
        return Err(value_error("Invalid pack time".to_owned()));
    }
    Ok(Options { time, gc })
}
