//! A storage in a `Data.fs`: the native half of `zc.zrs.filestorage.FileStorage`.
//!
//! This module checks arguments and converts results; [`super::commit`] has the calls of a
//! transaction.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple, PyType};

use super::commit;
use super::current::Commit;
use super::history;
use super::opened::{FileStorageBase, Opened};
use super::pack::{self, CommitLock};
use super::records::StorageIterator;
use crate::convert::{Id, optional_tid, tid_bytes};
use crate::errors::{storage_error, type_error, value_error};
use zrs_ids::timestamp;
use zrs_ids::{Oid, Tid};
use zrs_storage::error::{StorageError, StorageResult};
use zrs_storage::filestorage::{self, CommitSync, Loads, Options, to_bytes};
use zrs_vfs::OsVfs;

type Loaded<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>);
type LoadedBefore<'py> = (
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Option<Bound<'py, PyBytes>>,
);
type Current<'py> = (
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Option<Bound<'py, PyBytes>>,
);

impl FileStorageBase {
    /// Run an operation of the storage with the interpreter released.
    fn call<T: Send>(
        &self,
        py: Python<'_>,
        operation: impl FnOnce(&filestorage::FileStorage) -> StorageResult<T> + Send,
    ) -> PyResult<T> {
        let storage = &*self.opened()?.storage;
        py.detach(|| operation(storage))
            .map_err(|error| storage_error(py, &error))
    }

    /// Load without releasing the interpreter if that need not wait: releasing it for a
    /// microsecond and getting it back from a busy thread can take up to
    /// `sys.getswitchinterval()`. Otherwise load with the interpreter released.
    fn load_with<T, W: Send>(
        &self,
        py: Python<'_>,
        nonblocking: impl FnOnce(Loads<'_>) -> StorageResult<T>,
        blocking: impl FnOnce(Loads<'_>) -> StorageResult<W> + Send,
        convert: impl FnOnce(W) -> T,
    ) -> PyResult<T> {
        match nonblocking(Loads::nonblocking(&self.opened()?.storage)) {
            Err(error) if error.would_block() => {
                let loaded = self.call(py, |storage| blocking(Loads::blocking(storage)))?;
                Ok(convert(loaded))
            }
            loaded => loaded.map_err(|error| storage_error(py, &error)),
        }
    }
}

#[pymethods]
impl FileStorageBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    #[classmethod]
    fn new(
        _class: &Bound<'_, PyType>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> Self {
        let opened = OnceLock::new();
        Self { opened }
    }

    #[pyo3(signature = (path, *, create, read_only, stop, quota, commit_sync))]
    #[expect(clippy::too_many_arguments, reason = "options are keywords in Python")]
    fn _open(
        &self,
        py: Python<'_>,
        path: PathBuf,
        create: bool,
        read_only: bool,
        stop: Option<Id<Tid>>,
        quota: Option<u64>,
        commit_sync: &str,
    ) -> PyResult<()> {
        let options = Options {
            create,
            read_only,
            stop: stop.map(|id| id.0),
            quota,
            commit_sync: parse_commit_sync(commit_sync)?,
        };
        let open = || filestorage::FileStorage::open(Arc::new(OsVfs), &path, options);
        let storage = py.detach(open).map_err(|error| storage_error(py, &error))?;
        let commit = Commit::new(storage.last_finished());
        let opened = Opened {
            storage: Arc::new(storage),
            commit,
        };
        let twice = |_| value_error("the storage is already open".to_owned());
        self.opened.set(opened).map_err(twice)
    }

    fn _close(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, filestorage::FileStorage::close)
    }

    /// Refuse changes: this process was forked from the one that opened the storage.
    fn _disown(&self) {
        if let Some(opened) = self.opened.get() {
            opened.storage.disown();
        }
    }

    /// Raise `StorageSystemError` in a process that did not open the storage.
    fn _check_owner(&self, py: Python<'_>) -> PyResult<()> {
        let owned = self.opened()?.storage.check_owner();
        owned.map_err(|error| storage_error(py, &error))
    }

    /// Raise `StorageSystemError` if the path leads to another file than the open one.
    fn _check_place(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, filestorage::FileStorage::check_place)
    }

    // --- Reading

    #[pyo3(signature = (oid, version = None), text_signature = "(self, oid, version='')")]
    fn load<'py>(
        &self,
        py: Python<'py>,
        oid: Id<Oid>,
        version: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Loaded<'py>> {
        no_version(version)?;
        let (data, tid) = self.load_with(
            py,
            |loads| loads.load(oid.0, |data| PyBytes::new(py, &data)),
            |loads| loads.load(oid.0, to_bytes),
            |(data, tid)| (PyBytes::new(py, &data), tid),
        )?;
        Ok((data, tid_bytes(py, tid)))
    }

    #[pyo3(name = "loadBefore")]
    fn load_before<'py>(
        &self,
        py: Python<'py>,
        oid: Id<Oid>,
        tid: Id<Tid>,
    ) -> PyResult<Option<LoadedBefore<'py>>> {
        let loaded = self.load_with(
            py,
            |loads| loads.load_before(oid.0, tid.0, |data| PyBytes::new(py, &data)),
            |loads| loads.load_before(oid.0, tid.0, to_bytes),
            |loaded| loaded.map(|loaded| loaded.map_data(|data| PyBytes::new(py, &data))),
        )?;
        Ok(loaded.map(|loaded| {
            let next = loaded.next_tid.map(|tid| tid_bytes(py, tid));
            (loaded.data, tid_bytes(py, loaded.tid), next)
        }))
    }

    #[pyo3(name = "loadSerial")]
    fn load_serial<'py>(
        &self,
        py: Python<'py>,
        oid: Id<Oid>,
        serial: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        // A malformed id matches no transaction.
        let serial = optional_tid(Some(serial)).ok_or(StorageError::NoSuchObject { oid: oid.0 });
        let data = self.call(py, |storage| storage.load_serial(oid.0, serial?))?;
        Ok(PyBytes::new(py, &data))
    }

    #[pyo3(name = "getTid")]
    fn get_tid<'py>(&self, py: Python<'py>, oid: Id<Oid>) -> PyResult<Bound<'py, PyBytes>> {
        let get_tid = |loads: Loads<'_>| loads.get_tid(oid.0);
        let tid = self.load_with(py, get_tid, get_tid, |tid| tid)?;
        Ok(tid_bytes(py, tid))
    }

    #[pyo3(name = "lastTransaction")]
    fn last_transaction<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let last = |storage: &filestorage::FileStorage| match storage.last_transaction() {
            Err(StorageError::Closed) => Ok(storage.last_finished()),
            tid => tid,
        };
        Ok(tid_bytes(py, self.call(py, last)?))
    }

    #[pyo3(name = "lastInvalidations")]
    fn last_invalidations<'py>(
        &self,
        py: Python<'py>,
        count: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let found = self.call(py, |storage| storage.last_invalidations(count))?;
        let rows: PyResult<Vec<_>> = found
            .into_iter()
            .map(|(tid, oids)| {
                let oids = oids.iter().map(|oid| PyBytes::new(py, oid.as_bytes()));
                Ok((
                    tid_bytes(py, tid),
                    PyList::new(py, oids.collect::<Vec<_>>())?,
                ))
            })
            .collect();
        PyList::new(py, rows?)
    }

    #[pyo3(signature = (next = None))]
    fn record_iternext<'py>(
        &self,
        py: Python<'py>,
        next: Option<Id<Oid>>,
    ) -> PyResult<Current<'py>> {
        let next = next.map(|oid| oid.0);
        let found = self.load_with(
            py,
            |loads| loads.record_iternext(next, |data| PyBytes::new(py, &data)),
            |loads| loads.record_iternext(next, to_bytes),
            |found| found.map(|record| record.map_data(|data| PyBytes::new(py, &data))),
        )?;
        let none_left = || value_error("no object has this id or a higher one".to_owned());
        let record = found.ok_or_else(none_left)?;
        Ok((
            PyBytes::new(py, record.oid.as_bytes()),
            tid_bytes(py, record.tid),
            record.data,
            record.next.map(|oid| PyBytes::new(py, oid.as_bytes())),
        ))
    }

    #[pyo3(name = "_iterator", signature = (start = None, stop = None))]
    fn iterator(
        &self,
        py: Python<'_>,
        start: Option<Id<Tid>>,
        stop: Option<Id<Tid>>,
    ) -> PyResult<StorageIterator> {
        let (start, stop) = (start.map(|tid| tid.0), stop.map(|tid| tid.0));
        let transactions = self.call(py, |storage| storage.iterator(start, stop))?;
        Ok(StorageIterator::new(transactions))
    }

    fn _history<'py>(
        &self,
        py: Python<'py>,
        oid: Id<Oid>,
        position: Option<u64>,
        count: usize,
    ) -> PyResult<(Bound<'py, PyList>, Option<u64>)> {
        let found = self.call(py, |storage| storage.history(oid.0, position, count))?;
        Ok((history::revisions(py, found.0)?, found.1))
    }

    fn _undo_log<'py>(
        &self,
        py: Python<'py>,
        position: Option<u64>,
        count: usize,
    ) -> PyResult<(Bound<'py, PyList>, Option<u64>)> {
        let found = self.call(py, |storage| storage.undo_log(position, count))?;
        Ok((history::transactions(py, found.0)?, found.1))
    }

    // --- The storage itself

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.call(py, filestorage::FileStorage::len)
    }

    /// A storage is true even if it is empty.
    #[expect(clippy::unused_self, reason = "a method that Python calls")]
    const fn __bool__(&self) -> bool {
        true
    }

    #[pyo3(name = "getSize")]
    fn get_size(&self) -> PyResult<u64> {
        Ok(self.opened()?.storage.size())
    }

    #[pyo3(name = "isReadOnly")]
    fn is_read_only(&self) -> PyResult<bool> {
        Ok(self.opened()?.storage.options().read_only)
    }

    fn new_oid<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let storage = &self.opened()?.storage;
        let oid = storage
            .new_oid()
            .map_err(|error| storage_error(py, &error))?;
        Ok(PyBytes::new(py, oid.as_bytes()))
    }

    fn set_max_oid(&self, possible_new_max_oid: Id<Oid>) -> PyResult<()> {
        self.opened()?.storage.set_max_oid(possible_new_max_oid.0);
        Ok(())
    }

    #[getter(_oid)]
    fn max_oid<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let oid = self.opened()?.storage.max_oid();
        Ok(PyBytes::new(py, oid.as_bytes()))
    }

    #[getter(_used_index)]
    fn used_index(&self) -> PyResult<bool> {
        Ok(self.opened()?.storage.used_index())
    }

    #[getter(_saved)]
    fn saves(&self, py: Python<'_>) -> PyResult<u64> {
        self.call(py, |storage| Ok(storage.saves()))
    }

    fn _save_index(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, filestorage::FileStorage::save_index)
    }

    fn _index_items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let index = self.call(py, filestorage::FileStorage::index)?;
        let items = index
            .iter()
            .map(|(oid, position)| (PyBytes::new(py, oid.as_bytes()), position));
        PyList::new(py, items.collect::<Vec<_>>())
    }

    fn _lookup_pos(&self, py: Python<'_>, oid: Id<Oid>) -> PyResult<u64> {
        self.call(py, |storage| storage.position(oid.0))
    }

    fn _load_back<'py>(
        &self,
        py: Python<'py>,
        oid: Id<Oid>,
        position: u64,
    ) -> PyResult<Loaded<'py>> {
        let (data, tid) = self.call(py, |storage| storage.load_back(oid.0, position))?;
        Ok((PyBytes::new(py, &data), tid_bytes(py, tid)))
    }

    fn _find_transaction(
        &self,
        py: Python<'_>,
        tid: Id<Tid>,
        stop_at_pack: bool,
    ) -> PyResult<Option<u64>> {
        self.call(py, |storage| storage.find_transaction(tid.0, stop_at_pack))
    }

    fn _find_data(
        &self,
        py: Python<'_>,
        position: u64,
        oid: Id<Oid>,
        data: Option<&[u8]>,
    ) -> PyResult<Option<u64>> {
        self.call(py, |storage| storage.find_data(position, oid.0, data))
    }

    // --- Packing

    /// Pack natively; see `pack::pack` for the result.
    #[pyo3(signature = (time, references, *, gc, keep_old, native, is_blob, transformed))]
    #[expect(
        clippy::too_many_arguments,
        clippy::fn_params_excessive_bools,
        reason = "options are keywords in Python"
    )]
    fn _pack<'py>(
        &self,
        py: Python<'py>,
        time: Id<Tid>,
        references: Py<PyAny>,
        gc: bool,
        keep_old: bool,
        native: bool,
        is_blob: Option<Py<PyAny>>,
        transformed: bool,
    ) -> PyResult<Option<Bound<'py, PyList>>> {
        let request = pack::Request {
            options: pack::options(time.0, gc)?,
            keep_old,
            references,
            native,
            is_blob,
            transformed,
        };
        pack::pack(py, self.opened()?, &request)
    }

    /// The phase of a pack, the completed part, and the total.
    fn _pack_progress(&self) -> PyResult<(&'static str, u64, u64)> {
        Ok(pack::progress(&self.opened()?.storage))
    }

    fn _make_commit_lock(&self) -> PyResult<CommitLock> {
        Ok(CommitLock::new(&self.opened()?.storage))
    }

    // --- Transactions

    #[pyo3(signature = (transaction, tid = None, status = ' '))]
    fn tpc_begin(
        slf: &Bound<'_, Self>,
        transaction: &Bound<'_, PyAny>,
        tid: Option<Id<Tid>>,
        status: char,
    ) -> PyResult<()> {
        commit::begin(slf, transaction, tid.map(|tid| tid.0), status)
    }

    fn store(
        slf: &Bound<'_, Self>,
        oid: &Bound<'_, PyAny>,
        oldserial: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
        version: &Bound<'_, PyAny>,
        transaction: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        commit::check_writer(slf, transaction)?;
        no_version(Some(version))?;
        let oid: Id<Oid> = oid.extract()?;
        commit::store(slf, oid.0, oldserial, data.cast()?, transaction)
    }

    #[pyo3(name = "deleteObject")]
    fn delete_object(
        slf: &Bound<'_, Self>,
        oid: &Bound<'_, PyAny>,
        oldserial: &Bound<'_, PyAny>,
        transaction: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        commit::check_writer(slf, transaction)?;
        let oid: Id<Oid> = oid.extract()?;
        let serial = optional_tid(Some(oldserial));
        commit::write(slf, transaction, |storage, work| {
            storage.delete_object(work, oid.0, serial)
        })
    }

    fn restore(
        slf: &Bound<'_, Self>,
        oid: &Bound<'_, PyAny>,
        serial: &Bound<'_, PyAny>,
        data: Option<&Bound<'_, PyAny>>,
        version: &Bound<'_, PyAny>,
        prev_txn: Option<&Bound<'_, PyAny>>,
        transaction: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        commit::check_writer(slf, transaction)?;
        no_version(Some(version))?;
        let (oid, serial): (Id<Oid>, Id<Tid>) = (oid.extract()?, serial.extract()?);
        let data: Option<&[u8]> = data.map(PyAnyMethods::extract).transpose()?;
        let data_txn: Option<Id<Tid>> = prev_txn.map(PyAnyMethods::extract).transpose()?;
        let data_txn = data_txn.map(|tid| tid.0);
        commit::write(slf, transaction, |storage, work| {
            storage.restore(work, oid.0, serial.0, data, data_txn)
        })
    }

    fn _undo<'py>(
        slf: &Bound<'py, Self>,
        tid: &Bound<'py, PyAny>,
        transaction: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        commit::check_writer(slf, transaction)?;
        let tid: Id<Tid> = tid.extract()?;
        commit::undo(slf, tid.0, transaction)
    }

    #[pyo3(name = "checkCurrentSerialInTransaction")]
    fn check_current_serial(
        slf: &Bound<'_, Self>,
        oid: &Bound<'_, PyAny>,
        serial: &Bound<'_, PyAny>,
        transaction: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        commit::check_transaction(slf, transaction)?;
        let oid: Id<Oid> = oid.extract()?;
        let serial = optional_tid(Some(serial));
        slf.get().call(slf.py(), |storage| {
            storage.check_current_serial(oid.0, serial)
        })
    }

    fn tpc_vote<'py>(
        slf: &Bound<'py, Self>,
        transaction: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        commit::vote(slf, transaction)
    }

    #[pyo3(signature = (transaction, f = None))]
    fn tpc_finish<'py>(
        slf: &Bound<'py, Self>,
        transaction: &Bound<'py, PyAny>,
        f: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        commit::finish(slf, transaction, f)
    }

    fn tpc_abort(slf: &Bound<'_, Self>, transaction: &Bound<'_, PyAny>) -> PyResult<()> {
        commit::abort(slf, transaction)
    }

    fn tpc_transaction<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.opened()?.commit.transaction(py))
    }

    #[getter(_tid)]
    fn tid<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(tid_bytes(py, self.opened()?.commit.tid()))
    }

    #[setter(_tid)]
    fn set_tid(&self, tid: Id<Tid>) -> PyResult<()> {
        self.opened()?.commit.set_tid(tid.0);
        Ok(())
    }

    #[getter(_resolved)]
    fn resolved<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        Ok(self.opened()?.commit.resolved(py))
    }
}

/// A tid for a time in seconds since 1970, as ZODB makes it.
#[pyfunction]
pub(crate) fn tid_from_time(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyBytes>> {
    let bad = || value_error(format!("no transaction id for the time {seconds}"));
    let tid = timestamp::tid_at(seconds).ok_or_else(bad)?;
    Ok(tid_bytes(py, tid))
}

fn parse_commit_sync(name: &str) -> PyResult<CommitSync> {
    match name {
        "ordered" => Ok(CommitSync::Ordered),
        "single" => Ok(CommitSync::Single),
        other => Err(value_error(format!(
            "commit_sync must be 'ordered' or 'single', not {other:?}"
        ))),
    }
}

/// ZODB has no versions any more, but its methods still have the parameter.
fn no_version(version: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    match version {
        Some(version) if version.is_truthy()? => {
            Err(type_error("Versions are no-longer supported".to_owned()))
        }
        _ => Ok(()),
    }
}
