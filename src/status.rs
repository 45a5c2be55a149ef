//! The status of servers and clients as plain dictionaries: strings, numbers, None,
//! dictionaries and lists of these. Tids are strings in the format of the log, times are
//! seconds since 1970. `python/zc/zrs/status/schema.py` has their types, with the same keys.

use std::collections::BTreeMap;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::convert;
use zrs_ids::Tid;
use zrs_replication::net::{
    Address, ErrorStats, PeerState, PeerStatus, PrimaryStatus, SecondaryState, SecondaryStatus,
    TrafficStatus,
};
use zrs_replication::replica::{History, ListState};

pub(super) fn primary<'py>(
    py: Python<'py>,
    address: &Address,
    status: &PrimaryStatus,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let peers: PyResult<Vec<_>> = status.peers.iter().map(|of| peer(py, of)).collect();
    let state = if status.listening {
        "listening"
    } else {
        "stopped"
    };
    dict.set_item("state", state)?;
    dict.set_item("address", convert::address(py, address)?)?;
    dict.set_item("started", status.started)?;
    dict.set_item("tid", tid_text(status.tid))?;
    dict.set_item("commits", status.commits)?;
    dict.set_item("connections", status.peers.len())?;
    dict.set_item("connections_accepted", status.accepted)?;
    dict.set_item("connections_refused", counts(py, &status.refused)?)?;
    dict.set_item("missing_blobs", status.missing_blobs)?;
    dict.set_item("file_replaced", status.file_replaced)?;
    set_traffic(&dict, status.traffic)?;
    set_errors(&dict, &status.errors)?;
    dict.set_item("peers", PyList::new(py, peers?)?)?;
    Ok(dict)
}

fn peer<'py>(py: Python<'py>, status: &PeerStatus) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let state = match status.state {
        PeerState::Handshake => "handshake",
        PeerState::CatchingUp => "catching up",
        PeerState::Following => "following",
    };
    dict.set_item("peer", &status.peer)?;
    dict.set_item("host", &status.host)?;
    dict.set_item("name", status.name.as_deref())?;
    dict.set_item("label", &status.label)?;
    dict.set_item("state", state)?;
    dict.set_item("since", status.since)?;
    dict.set_item("tls", status.tls)?;
    dict.set_item("tid", status.tid.map(tid_text))?;
    dict.set_item("lag_transactions", status.lag_transactions)?;
    dict.set_item("lag_bytes", status.lag_bytes)?;
    dict.set_item("lag_seconds", status.lag_seconds)?;
    set_traffic(&dict, status.traffic)?;
    dict.set_item("last_sent", status.last_sent)?;
    dict.set_item("last_heard", status.last_heard)?;
    dict.set_item("durable_tid", status.durable_tid.map(tid_text))?;
    let history = status.history.map(|history| match history {
        History::Verified => "verified",
        History::Unverified => "unverified",
    });
    dict.set_item("history", history)?;
    Ok(dict)
}

pub(super) fn secondary<'py>(
    py: Python<'py>,
    status: &SecondaryStatus,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let state = match status.state {
        SecondaryState::Connecting => "connecting",
        SecondaryState::Waiting => "waiting",
        SecondaryState::CatchingUp => "catching up",
        SecondaryState::Following => "following",
        SecondaryState::Silent => "silent",
        SecondaryState::Quiet => "quiet",
        SecondaryState::Diverged => "diverged",
        SecondaryState::Stopped => "stopped",
    };
    let session = status.session.as_ref();
    dict.set_item("state", state)?;
    dict.set_item("started", status.started)?;
    dict.set_item("connected", session.is_some())?;
    dict.set_item("peer", session.map(|session| &session.peer))?;
    dict.set_item("since", session.map(|session| session.since))?;
    dict.set_item("tls", session.map(|session| session.tls))?;
    dict.set_item("tid", status.tid.map(tid_text))?;
    dict.set_item("primary_tid", status.primary_tid.map(tid_text))?;
    dict.set_item("lag_transactions", status.lacks)?;
    dict.set_item("pulse", status.heartbeat_interval)?;
    let bytes_to_come = status.first_position.and_then(|position| position.bytes);
    dict.set_item("primary_bytes", bytes_to_come)?;
    dict.set_item("connections", status.connections)?;
    dict.set_item("reconnects", status.connections.saturating_sub(1))?;
    dict.set_item("failed_attempts", status.failed_attempts)?;
    set_traffic(&dict, status.traffic)?;
    dict.set_item("blobs", status.blobs)?;
    let list = match status.list {
        ListState::Unknown => None,
        ListState::Pending => Some("pending"),
        ListState::Complete => Some("complete"),
        ListState::Incomplete => Some("incomplete"),
    };
    dict.set_item("dropped_list", list)?;
    dict.set_item("last_received", status.last_received)?;
    dict.set_item("last_applied", status.last_applied)?;
    set_errors(&dict, &status.errors)?;
    Ok(dict)
}

fn set_traffic(dict: &Bound<'_, PyDict>, traffic: TrafficStatus) -> PyResult<()> {
    dict.set_item("transactions", traffic.transactions)?;
    dict.set_item("bytes", traffic.bytes)?;
    dict.set_item("transactions_per_second", traffic.transactions_per_second)?;
    dict.set_item("bytes_per_second", traffic.bytes_per_second)
}

fn set_errors(dict: &Bound<'_, PyDict>, errors: &ErrorStats) -> PyResult<()> {
    let py = dict.py();
    dict.set_item("errors", errors.count)?;
    dict.set_item("errors_by_kind", counts(py, &errors.kinds)?)?;
    let last = errors.last.as_ref().map(|last| {
        let dict = PyDict::new(py);
        dict.set_item("time", last.time)?;
        dict.set_item("peer", &last.peer)?;
        dict.set_item("message", &last.message)?;
        PyResult::Ok(dict)
    });
    dict.set_item("last_error", last.transpose()?)
}

fn counts<'py>(
    py: Python<'py>,
    counts: &BTreeMap<&'static str, u64>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, count) in counts {
        dict.set_item(name, count)?;
    }
    Ok(dict)
}

fn tid_text(tid: Tid) -> String {
    tid.to_string()
}
