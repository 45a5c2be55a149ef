//! Counters and status of a primary's server.
//!
//! Each peer has its own lock, held briefly, so a status of hundreds of peers delays none of
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::net::clock;
use crate::net::meter::{ErrorStats, Traffic, TrafficStatus};
use crate::proto::NodeName;
use crate::replica::{Feed, History, StreamProgress};
use zrs_ids::Tid;
use zrs_ids::timestamp;

/// A secondary counts as following while the oldest transaction that it lacks is less than this
/// many seconds old.
const FOLLOWING: f64 = 5.0;

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// The handshake is not complete.
    Handshake,
    /// The secondary receives older transactions.
    CatchingUp,
    /// The secondary receives new transactions.
    Following,
}

/// A connection of a secondary.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// The name of the peer in the log.
    pub peer: String,
    /// The peer's address without the port, or the path of the UNIX socket.
    pub host: String,
    /// The name that the secondary has reported.
    pub name: Option<String>,
    /// The name if there is one, otherwise the host; with a number if another connection has the
    /// same label.
    pub label: String,
    /// The state of the connection.
    pub state: PeerState,
    /// Time of the connection, in seconds since 1970.
    pub since: f64,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The last transaction that was sent; before the first one, the start of the stream.
    pub tid: Option<Tid>,
    /// Number of transactions that the secondary lacks; `None` if there are too many to count.
    pub lag_transactions: Option<u64>,
    /// Approximate number of bytes of the file that the secondary lacks, if known.
    pub lag_bytes: Option<u64>,
    /// Age of the oldest transaction that the secondary lacks, in seconds of the wall clock. If
    /// that transaction is not known, age of the last one that it has.
    pub lag_seconds: f64,
    /// Transactions and bytes sent on this connection.
    pub traffic: TrafficStatus,
    /// Time of the last write.
    pub last_sent: Option<f64>,
    /// Time of the last read.
    pub last_heard: Option<f64>,
    /// The last transaction that the secondary has reported as durable; `None` if it reports
    /// none, like zc.zrs.
    pub durable_tid: Option<Tid>,
    /// Whether the secondary's last transaction was in the primary's history when it connected.
    pub history: Option<History>,
}

/// A primary's server and its peers.
#[derive(Clone, Debug)]
pub struct PrimaryStatus {
    /// Time at which the server started, in seconds since 1970.
    pub started: f64,
    /// Whether the server accepts connections.
    pub listening: bool,
    /// The last published transaction.
    pub tid: Tid,
    /// Number of transactions committed since the feed was created.
    pub commits: u64,
    /// The current connections.
    pub peers: Vec<PeerStatus>,
    /// Total number of accepted connections.
    pub accepted: u64,
    /// Number of refused connections, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Transactions and bytes sent on all connections, including closed ones.
    pub traffic: TrafficStatus,
    /// Number of missing blob files.
    pub missing_blobs: u64,
    /// Whether the storage's path now leads to a different file than the open one.
    pub file_replaced: bool,
    /// Errors that ended streams and connections.
    pub errors: ErrorStats,
}

/// The labels of the current connections, which are unique.
///
/// A label gets the lowest free number, so that reconnections reuse the same few labels.
#[derive(Debug, Default)]
struct Labels(BTreeSet<String>);

impl Labels {
    fn take(&mut self, base: &str) -> String {
        let mut label = base.to_owned();
        let mut number = 1_usize;
        while self.0.contains(&label) {
            number += 1;
            label = format!("{base} #{number}");
        }
        self.0.insert(label.clone());
        label
    }

    fn release(&mut self, label: &str) {
        self.0.remove(label);
    }
}

#[derive(Debug)]
struct PeerCounters {
    node: Option<NodeName>,
    label: String,
    tls: bool,
    progress: Option<StreamProgress>,
    traffic: Traffic,
    last_sent: Option<f64>,
    last_heard: Option<f64>,
    durable_tid: Option<Tid>,
}

/// The counters of one connection. The server removes the connection when this is dropped.
pub(super) struct Peer {
    pub(super) name: String,
    host: String,
    since: f64,
    number: u64,
    counters: Mutex<PeerCounters>,
    server: Arc<PrimaryCounters>,
}

impl Peer {
    /// Records that the connection is encrypted.
    pub(super) fn encrypted(&self) {
        self.counters.lock().tls = true;
    }

    /// Records that data was read. Returns whether it is the first.
    pub(super) fn received(&self) -> bool {
        let last = self.counters.lock().last_heard.replace(clock::now());
        last.is_none()
    }

    /// Records the start of the stream.
    pub(super) fn started(&self, start: Tid) {
        self.counters.lock().progress = Some(StreamProgress::new(start));
    }

    /// Records that this transaction is durable on the secondary.
    pub(super) fn acknowledged(&self, tid: Tid) {
        self.counters.lock().durable_tid = Some(tid);
    }

    /// Records the name of the secondary. Later names are ignored, so that a connection has few
    /// labels.
    pub(super) fn named(&self, node: &NodeName) {
        let mut labels = self.server.labels.lock();
        let mut counters = self.counters.lock();
        if counters.node.is_none() {
            labels.release(&counters.label);
            counters.label = labels.take(node.as_str());
            counters.node = Some(node.clone());
        }
    }

    /// Records the bytes sent, and the progress of the stream after them.
    pub(super) fn sent(&self, progress: StreamProgress, bytes: usize) {
        let (second, bytes) = (clock::second(), bytes as u64);
        let mut counters = self.counters.lock();
        let before = counters.progress.map_or(0, |before| before.transactions);
        let transactions = progress.transactions.saturating_sub(before);
        counters.progress = Some(progress);
        counters.last_sent = Some(clock::now());
        counters.traffic.add(second, transactions, bytes);
        drop(counters);
        let mut traffic = self.server.traffic.lock();
        traffic.add(second, transactions, bytes);
    }

    /// Records an error, which is also logged.
    pub(super) fn record_error(&self, kind: &'static str, message: String) {
        self.server.record_error(kind, &self.name, message);
    }

    fn status(&self, feed: &Feed) -> PeerStatus {
        let (second, now) = (clock::second(), clock::now());
        let mut counters = self.counters.lock();
        let traffic = counters.traffic.status(second);
        let (tls, progress) = (counters.tls, counters.progress);
        let (last_sent, last_heard) = (counters.last_sent, counters.last_heard);
        let durable_tid = counters.durable_tid;
        let node = counters.node.as_ref().map(ToString::to_string);
        let label = counters.label.clone();
        drop(counters);
        // What was sent may never have arrived if the secondary has stopped sending
        // acknowledgements.
        let stale = durable_tid.filter(|_| last_heard.is_some_and(|last| now - last > FOLLOWING));
        let lag = progress.map(|progress| match stale {
            Some(durable) if durable < progress.tid => feed.lag(durable, None),
            _ => feed.lag(progress.has(), progress.position),
        });
        let since = lag.and_then(|lag| lag.since);
        let lag_seconds = since.map_or(0.0, |tid| (now - timestamp::seconds_at(tid)).max(0.0));
        PeerStatus {
            peer: self.name.clone(),
            host: self.host.clone(),
            name: node,
            label,
            state: match progress {
                None => PeerState::Handshake,
                Some(_) if lag_seconds < FOLLOWING => PeerState::Following,
                Some(_) => PeerState::CatchingUp,
            },
            since: self.since,
            tls,
            tid: progress.map(|progress| progress.tid),
            lag_transactions: lag.and_then(|lag| lag.transactions),
            lag_bytes: lag.and_then(|lag| lag.bytes),
            lag_seconds,
            traffic,
            last_sent,
            last_heard,
            durable_tid,
            history: progress.and_then(|progress| progress.history),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.server.peers.lock().remove(&self.number);
        let label = std::mem::take(&mut self.counters.get_mut().label);
        self.server.labels.lock().release(&label);
    }
}

/// The counters of a server.
#[derive(Default)]
pub(super) struct PrimaryCounters {
    started: f64,
    accepted: AtomicU64,
    peers: Mutex<BTreeMap<u64, std::sync::Weak<Peer>>>,
    /// Locked before a peer's own counters.
    labels: Mutex<Labels>,
    traffic: Mutex<Traffic>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    errors: Mutex<ErrorStats>,
}

impl PrimaryCounters {
    pub(super) fn new() -> Self {
        Self {
            started: clock::now(),
            ..Self::default()
        }
    }

    /// Number of connections.
    pub(super) fn connections(&self) -> usize {
        self.peers.lock().len()
    }

    /// Records an accepted connection.
    pub(super) fn accept(self: &Arc<Self>, name: String, host: String) -> Arc<Peer> {
        let number = self.accepted.fetch_add(1, Ordering::Relaxed);
        let label = self.labels.lock().take(&host);
        let peer = Arc::new(Peer {
            name,
            host,
            since: clock::now(),
            number,
            counters: Mutex::new(PeerCounters {
                node: None,
                label,
                tls: false,
                progress: None,
                traffic: Traffic::default(),
                last_sent: None,
                last_heard: None,
                durable_tid: None,
            }),
            server: Arc::clone(self),
        });
        self.peers.lock().insert(number, Arc::downgrade(&peer));
        peer
    }

    /// Records a refused connection.
    pub(super) fn refuse(&self, reason: &'static str) {
        *self.refused.lock().entry(reason).or_default() += 1;
    }

    pub(super) fn record_error(&self, kind: &'static str, peer: &str, message: String) {
        self.errors.lock().add(kind, clock::now(), peer, message);
    }

    pub(super) fn status(&self, feed: &Feed, listening: bool) -> PrimaryStatus {
        // Dropping the last reference to a peer takes this lock, so it is released first.
        let peers: Vec<_> = {
            let peers = self.peers.lock();
            peers
                .values()
                .filter_map(std::sync::Weak::upgrade)
                .collect()
        };
        PrimaryStatus {
            started: self.started,
            listening,
            tid: feed.published().tid,
            commits: feed.commits(),
            peers: peers.iter().map(|peer| peer.status(feed)).collect(),
            accepted: self.accepted.load(Ordering::Relaxed),
            refused: self.refused.lock().clone(),
            traffic: self.traffic.lock().status(clock::second()),
            missing_blobs: feed.missing_blobs(),
            file_replaced: feed.is_displaced(),
            errors: self.errors.lock().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_reused() {
        let mut labels = Labels::default();
        assert_eq!(labels.take("10.0.0.5"), "10.0.0.5");
        assert_eq!(labels.take("10.0.0.5"), "10.0.0.5 #2");
        assert_eq!(labels.take("10.0.0.5"), "10.0.0.5 #3");
        labels.release("10.0.0.5 #2");
        assert_eq!(labels.take("10.0.0.5"), "10.0.0.5 #2");
        labels.release("10.0.0.5");
        assert_eq!(labels.take("10.0.0.5"), "10.0.0.5");
    }

    #[test]
    fn a_name_replaces_the_host_in_the_label() {
        let server = Arc::new(PrimaryCounters::new());
        let accept = || server.accept("peer".to_owned(), "10.0.0.5".to_owned());
        let label = |peer: &Peer| peer.counters.lock().label.clone();
        let (one, other) = (accept(), accept());
        one.named(&"backup".parse().unwrap());
        other.named(&"backup".parse().unwrap());
        other.named(&"third".parse().unwrap());
        assert_eq!(label(&one), "backup");
        assert_eq!(label(&other), "backup #2");
        drop(one);
        let again = accept();
        assert_eq!(label(&again), "10.0.0.5");
        again.named(&"backup".parse().unwrap());
        assert_eq!(label(&again), "backup");
    }
}
