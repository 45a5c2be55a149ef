//! The calls of a transaction on a storage, following ZODB's rules: calls for the wrong
//! transaction raise or are ignored.

use std::time::Duration;

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use super::current::Current;
use super::opened::{FileStorageBase, Opened};
use crate::convert::{optional_tid, tid_bytes};
use crate::errors::{is_conflict, storage_error, value_error, wrong_transaction};
use crate::imports;
use zrs_ids::timestamp;
use zrs_ids::{Oid, Tid};
use zrs_storage::error::{StorageError, StorageResult};
use zrs_storage::filestorage::{
    CommitGuard, FileStorage, FinishError, Resolution, Stored, Transaction, TransactionMeta,
    UndoResolver,
};

/// The interval at which a wait for the commit lock checks for signals.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

pub(crate) fn begin(
    slf: &Bound<'_, FileStorageBase>,
    transaction: &Bound<'_, PyAny>,
    tid: Option<Tid>,
    status: char,
) -> PyResult<()> {
    let py = slf.py();
    let opened = slf.get().opened()?;
    let error = |error: StorageError| storage_error(py, &error);
    if opened.storage.options().read_only {
        return Err(error(StorageError::ReadOnly));
    }
    opened.storage.check_owner().map_err(error)?;
    if opened.commit.is_current(transaction) {
        let message = "Duplicate tpc_begin calls for same transaction";
        return Err(wrong_transaction(py, (message,)));
    }
    let status = u8::try_from(status)
        .map_err(|error| value_error(format!("no transaction status: {status:?}: {error}")))?;
    let guard = wait(py, opened)?;
    let tid = match tid {
        Some(tid) => tid,
        None => timestamp::later_than(now(py)?, opened.commit.tid()),
    };
    let meta = TransactionMeta {
        tid,
        status,
        user: field(transaction, "user")?,
        description: field(transaction, "description")?,
        extension: field(transaction, "extension_bytes")?,
    };
    // Even if beginning fails, the next transaction must have a later id.
    opened.commit.set_tid(tid);
    let work = opened.storage.begin(guard, &meta).map_err(error)?;
    let current = Current {
        transaction: transaction.clone().unbind(),
        resolved: PyList::empty(py).unbind(),
    };
    py.detach(|| *opened.commit.work.lock() = Some(work));
    *opened.commit.current.lock() = Some(current);
    Ok(())
}

/// Wait for the commit lock, and handle signals meanwhile.
fn wait(py: Python<'_>, opened: &Opened) -> PyResult<CommitGuard> {
    let lock = opened.storage.commit_lock();
    if let Some(guard) = lock.acquire_within(Duration::ZERO) {
        return Ok(guard);
    }
    loop {
        if let Some(guard) = py.detach(|| lock.acquire_within(SIGNAL_INTERVAL)) {
            return Ok(guard);
        }
        py.check_signals()?;
    }
}

/// The current time as a tid; `time.time` is looked up each time, since applications replace it.
fn now(py: Python<'_>) -> PyResult<Tid> {
    let seconds: f64 = imports::TIME.get(py)?.call_method0("time")?.extract()?;
    let bad = || value_error(format!("no transaction id for the time {seconds}"));
    timestamp::tid_at(seconds).ok_or_else(bad)
}

fn field(transaction: &Bound<'_, PyAny>, name: &str) -> PyResult<Bytes> {
    let value = transaction.getattr(name)?;
    match value.cast::<PyString>() {
        Ok(text) => Ok(Bytes::copy_from_slice(text.to_str()?.as_bytes())),
        Err(_) => Ok(Bytes::copy_from_slice(value.extract()?)),
    }
}

/// Check that this is the current transaction.
pub(crate) fn check_transaction(
    slf: &Bound<'_, FileStorageBase>,
    transaction: &Bound<'_, PyAny>,
) -> PyResult<()> {
    if slf.get().opened()?.commit.is_current(transaction) {
        return Ok(());
    }
    Err(wrong_transaction(slf.py(), (slf, transaction)))
}

/// Check that the storage can be written, and by this transaction; must be called before other
/// arguments are checked.
pub(crate) fn check_writer(
    slf: &Bound<'_, FileStorageBase>,
    transaction: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let storage = &slf.get().opened()?.storage;
    if storage.options().read_only {
        return Err(storage_error(slf.py(), &StorageError::ReadOnly));
    }
    check_owner(slf)?;
    check_transaction(slf, transaction)
}

/// Check that this process opened the storage. In a forked child, the locks of a transaction may
/// belong to threads that do not exist.
fn check_owner(slf: &Bound<'_, FileStorageBase>) -> PyResult<()> {
    let owned = slf.get().opened()?.storage.check_owner();
    owned.map_err(|error| storage_error(slf.py(), &error))
}

/// Do something for the current transaction, which [`check_writer`] or [`check_transaction`] has
/// found to be `transaction`.
pub(crate) fn write<T: Send>(
    slf: &Bound<'_, FileStorageBase>,
    transaction: &Bound<'_, PyAny>,
    write: impl FnOnce(&FileStorage, &mut Transaction) -> StorageResult<T> + Send,
) -> PyResult<T> {
    let py = slf.py();
    let opened = slf.get().opened()?;
    let outcome = py.detach(|| {
        let mut work = opened.commit.work.lock();
        work.as_mut().map(|work| write(&opened.storage, work))
    });
    match outcome {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(storage_error(py, &error)),
        // Another thread has finished or aborted it since it was checked.
        None => Err(wrong_transaction(py, (slf, transaction))),
    }
}

pub(crate) fn store(
    slf: &Bound<'_, FileStorageBase>,
    oid: Oid,
    oldserial: &Bound<'_, PyAny>,
    data: &Bound<'_, PyBytes>,
    transaction: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = slf.py();
    let serial = optional_tid(Some(oldserial));
    let bytes = data.as_bytes();
    let stored = write(slf, transaction, |storage, work| {
        storage.store(work, oid, serial, bytes)
    })?;
    let Stored::Conflict(committed) = stored else {
        return Ok(());
    };
    let oid_bytes = PyBytes::new(py, oid.as_bytes());
    let arguments = (&oid_bytes, tid_bytes(py, committed), oldserial, data);
    let resolved = slf.call_method1("tryToResolveConflict", arguments)?;
    let resolved = resolved.cast::<PyBytes>()?.as_bytes();
    write(slf, transaction, |storage, work| {
        storage.store_resolved(work, oid, resolved)
    })?;
    slf.get().opened()?.commit.resolved(py).append(oid_bytes)
}

/// Calls the storage's `tryToResolveConflict`.
struct Resolver {
    storage: Py<FileStorageBase>,
    raised: Option<PyErr>,
}

impl Resolver {
    fn call(
        &self,
        py: Python<'_>,
        oid: Oid,
        (committed, undone): (Tid, Tid),
        (before, current): (&[u8], &[u8]),
    ) -> PyResult<Resolution> {
        let arguments = (
            PyBytes::new(py, oid.as_bytes()),
            tid_bytes(py, committed),
            tid_bytes(py, undone),
            PyBytes::new(py, before),
            PyBytes::new(py, current),
        );
        let storage = self.storage.bind(py);
        match storage.call_method1("tryToResolveConflict", arguments) {
            Ok(data) => {
                let data = data.cast::<PyBytes>()?.as_bytes();
                Ok(Resolution::Resolved(Bytes::copy_from_slice(data)))
            }
            Err(error) if is_conflict(py, &error) => Ok(Resolution::Unresolved),
            Err(error) => Err(error),
        }
    }
}

impl UndoResolver for Resolver {
    fn resolve(
        &mut self,
        oid: Oid,
        committed: Tid,
        undone: Tid,
        before: &[u8],
        current: &[u8],
    ) -> Resolution {
        let asked =
            Python::try_attach(|py| self.call(py, oid, (committed, undone), (before, current)));
        match asked {
            Some(Ok(resolution)) => resolution,
            Some(Err(error)) => {
                self.raised = Some(error);
                Resolution::Failed
            }
            None => Resolution::Failed,
        }
    }
}

/// Undo; returns the changed objects, each with the position of the record to which its new one
/// points back, if it does.
pub(crate) fn undo<'py>(
    slf: &Bound<'py, FileStorageBase>,
    tid: Tid,
    transaction: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyList>> {
    let py = slf.py();
    let mut resolver = Resolver {
        storage: slf.clone().unbind(),
        raised: None,
    };
    let undone = write(slf, transaction, |storage, work| {
        storage.undo(work, tid, &mut resolver)
    });
    if let Some(error) = resolver.raised {
        return Err(error);
    }
    let rows = undone?
        .into_iter()
        .map(|record| (PyBytes::new(py, record.oid.as_bytes()), record.copied));
    PyList::new(py, rows.collect::<Vec<_>>())
}

pub(crate) fn vote<'py>(
    slf: &Bound<'py, FileStorageBase>,
    transaction: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyList>> {
    let py = slf.py();
    let opened = slf.get().opened()?;
    if !opened.commit.is_current(transaction) {
        let message = "tpc_vote called with wrong transaction";
        return Err(wrong_transaction(py, (message,)));
    }
    check_owner(slf)?;
    write(slf, transaction, FileStorage::vote)?;
    Ok(opened.commit.resolved(py))
}

pub(crate) fn finish<'py>(
    slf: &Bound<'py, FileStorageBase>,
    transaction: &Bound<'py, PyAny>,
    callback: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = slf.py();
    let opened = slf.get().opened()?;
    let wrong = || wrong_transaction(py, ("tpc_finish called with wrong transaction",));
    if !opened.commit.is_current(transaction) {
        return Err(wrong());
    }
    check_owner(slf)?;
    let work = py.detach(|| opened.commit.work.lock().take());
    let work = work.ok_or_else(wrong)?;
    let tid = work.tid();
    let callback = callback.map(|callback| callback.clone().unbind());
    let finished = py.detach(|| {
        let finished = opened.storage.finish(work, |tid| match callback {
            Some(callback) => call_back(&callback, tid),
            None => Ok(()),
        });
        opened.storage.checkpoint();
        finished
    });
    let outcome = match finished {
        Ok(guard) => {
            let done = slf.call_method0("_blob_tpc_finish").map(drop);
            opened.commit.forget();
            drop(guard);
            done
        }
        Err(error) => {
            opened.commit.forget();
            Err(match error {
                FinishError::Callback(error) => error,
                FinishError::Storage(error) => {
                    log::error!(target: "ZODB.FileStorage", "Failure in tpc_finish: {error}");
                    storage_error(py, &error)
                }
            })
        }
    };
    outcome?;
    Ok(tid_bytes(py, tid))
}

fn call_back(callback: &Py<PyAny>, tid: Tid) -> PyResult<()> {
    let called = Python::try_attach(|py| callback.call1(py, (tid_bytes(py, tid),)).map(drop));
    called.unwrap_or_else(|| Err(value_error("the interpreter is ending".to_owned())))
}

pub(crate) fn abort(
    slf: &Bound<'_, FileStorageBase>,
    transaction: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = slf.py();
    let opened = slf.get().opened()?;
    if !opened.commit.is_current(transaction) {
        return Ok(());
    }
    if opened.storage.check_owner().is_err() {
        // The transaction continues in the parent process, which still needs its files.
        opened.commit.forget();
        return Ok(());
    }
    let guard = py.detach(|| {
        let work = opened.commit.work.lock().take();
        work.map(|work| opened.storage.abort(work))
    });
    let done = slf.call_method0("_blob_tpc_abort").map(drop);
    opened.commit.forget();
    drop(guard);
    done
}
