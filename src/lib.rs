//! The native module `zc.zrs._zrs`: thin bindings, described in `_zrs.pyi`.
//!
//! Rust locks are taken after the interpreter is released, and the interpreter is not entered
//! while one is held. The exception is a [`sink`] within its own peer's lock: a thread that waits
//! for that lock has always released the interpreter.

mod check;
mod convert;
mod direct;
mod errors;
mod feed;
mod imports;
mod logging;
mod object_log;
mod peers;
mod python_sink;
mod records;
mod replication;
mod sink;
mod status;
mod storage;
mod tls;

use pyo3::prelude::*;

use zrs_ids::Tid;
use zrs_ids::timestamp;

/// The native module.
#[pymodule(gil_used = false)]
#[pyo3(name = "_zrs")]
mod native {
    #[pymodule_export]
    use super::check::{Check, Problem, Salvage, record_class};
    #[pymodule_export]
    use super::direct::DirectTarget;
    #[pymodule_export]
    use super::feed::{Feed, TransactionStream};
    #[pymodule_export]
    use super::object_log::ObjectLog;
    #[pymodule_export]
    use super::object_log::{LogDump, LoggedTransaction};
    #[pymodule_export]
    use super::peers::{PrimaryPeer, SecondaryPeer};
    #[pymodule_export]
    use super::records::{DataRecord, TransactionReader, TransactionRecord};
    #[pymodule_export]
    use super::replication::{PrimaryServer, SecondaryClient, shut_down};
    #[pymodule_export]
    use super::sink::last_in_file;
    #[pymodule_export]
    use super::storage::CommitLock;
    #[pymodule_export]
    use super::storage::{FileStorageBase, tid_from_time};
    #[pymodule_export]
    use super::storage::{StorageIterator, StorageRecord, StorageRecords};
    #[pymodule_export]
    use super::storage::{make_way_for_blob, sync_blob};
    #[pymodule_export]
    use super::tid_timestamp;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::logging::install(module.py())
    }
}

/// The time of a tid, as ZODB's `TimeStamp` prints it.
#[pyfunction]
fn tid_timestamp(tid: convert::Id<Tid>) -> String {
    timestamp::display(tid.0).to_string()
}
