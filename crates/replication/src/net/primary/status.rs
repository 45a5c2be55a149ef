//! What a primary's server counts, and what it says of itself.
//!
//! Each peer has its own short lock, so that looking at the status of hundreds of peers
//! holds up none of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::net::clock;
use crate::net::meter::{Traffic, TrafficStatus, Troubles};
use crate::proto::NodeName;
use crate::replica::{Feed, History, StreamProgress};
use zrs_ids::Tid;
use zrs_ids::timestamp;

/// A secondary whose oldest missing transaction is younger than this, in seconds, follows.
const FOLLOWING: f64 = 5.0;

/// Which part of its life a connection is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// It has not said yet where to start.
    Handshake,
    /// It gets what was committed some time ago.
    CatchingUp,
    /// It gets what is being committed.
    Following,
}

/// A connection of a secondary.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its address, as the log shows it.
    pub peer: String,
    /// The address without its port, or the path of the UNIX socket.
    pub host: String,
    /// The name that the secondary has given itself.
    pub name: Option<String>,
    /// The name, or else the host; with a number if an earlier connection has the same.
    pub label: String,
    /// What it is at.
    pub state: PeerState,
    /// When it connected, in seconds since 1970.
    pub since: f64,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The last transaction that was sent to it, or that it had to begin with.
    pub tid: Option<Tid>,
    /// How many transactions it lacks; `None` if they are too many to have been counted.
    pub lag_transactions: Option<u64>,
    /// How many bytes of the file it lacks, about; `None` before that is known.
    pub lag_bytes: Option<u64>,
    /// How long ago the oldest of the transactions that it lacks was committed, in seconds
    /// and by the clock; where that one is not known, the last one that it has.
    pub lag_seconds: f64,
    /// What was sent to it.
    pub traffic: TrafficStatus,
    /// When bytes went to it last.
    pub last_sent: Option<f64>,
    /// When it last said anything.
    pub last_heard: Option<f64>,
    /// The last transaction that it says is on its disk; `None` if it says nothing of the
    /// kind, as no zc.zrs does.
    pub durable_tid: Option<Tid>,
    /// Whether its last transaction was found in the primary's history when it connected.
    pub history: Option<History>,
}

/// A primary's server and its peers.
#[derive(Clone, Debug)]
pub struct PrimaryStatus {
    /// When it began to listen, in seconds since 1970.
    pub started: f64,
    /// Whether it takes connections.
    pub listening: bool,
    /// The last transaction that may be sent.
    pub tid: Tid,
    /// How many transactions were committed since the feed was made.
    pub commits: u64,
    /// The connections there are.
    pub peers: Vec<PeerStatus>,
    /// How many connections were taken in all.
    pub accepted: u64,
    /// How many were not, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// What was sent to all peers, those that have left included.
    pub traffic: TrafficStatus,
    /// How many blobs' files were missing.
    pub missing_blobs: u64,
    /// Whether the path leads to another file than the storage has open.
    pub file_replaced: bool,
    /// Why streams and connections were given up.
    pub troubles: Troubles,
}

/// The labels of the present connections, each of which has one of its own.
///
/// The lowest free number is taken, so that reconnections use the same few labels again.
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

/// What is counted for one connection; the server forgets it with this.
pub(super) struct Peer {
    pub(super) name: String,
    host: String,
    since: f64,
    number: u64,
    counters: Mutex<PeerCounters>,
    server: Arc<PrimaryCounters>,
}

impl Peer {
    /// Its connection is encrypted.
    pub(super) fn encrypted(&self) {
        self.counters.lock().tls = true;
    }

    /// It said something; whether for the first time.
    pub(super) fn heard(&self) -> bool {
        let last = self.counters.lock().last_heard.replace(clock::now());
        last.is_none()
    }

    /// It asked for what follows a transaction.
    pub(super) fn started(&self, start: Tid) {
        self.counters.lock().progress = Some(StreamProgress::new(start));
    }

    /// It has this transaction on its disk.
    pub(super) fn acknowledged(&self, tid: Tid) {
        self.counters.lock().durable_tid = Some(tid);
    }

    /// It gave its name; only the first one counts, so that one connection has few labels.
    pub(super) fn named(&self, node: &NodeName) {
        let mut labels = self.server.labels.lock();
        let mut counters = self.counters.lock();
        if counters.node.is_none() {
            labels.release(&counters.label);
            counters.label = labels.take(node.as_str());
            counters.node = Some(node.clone());
        }
    }

    /// So many bytes were sent, and all that the stream gave out until then.
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

    /// Something went wrong, which the log tells too.
    pub(super) fn trouble(&self, kind: &'static str, message: String) {
        self.server.trouble(kind, &self.name, message);
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
        // What was sent to one that says no more what it has may never have arrived.
        let stale = durable_tid.filter(|_| last_heard.is_some_and(|heard| now - heard > FOLLOWING));
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

/// What is counted for a server.
#[derive(Default)]
pub(super) struct PrimaryCounters {
    started: f64,
    accepted: AtomicU64,
    peers: Mutex<BTreeMap<u64, std::sync::Weak<Peer>>>,
    /// Locked before a peer's own counters.
    labels: Mutex<Labels>,
    traffic: Mutex<Traffic>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    troubles: Mutex<Troubles>,
}

impl PrimaryCounters {
    pub(super) fn new() -> Self {
        Self {
            started: clock::now(),
            ..Self::default()
        }
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.peers.lock().len()
    }

    /// A connection was taken.
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

    /// A connection was not taken.
    pub(super) fn refuse(&self, reason: &'static str) {
        *self.refused.lock().entry(reason).or_default() += 1;
    }

    pub(super) fn trouble(&self, kind: &'static str, peer: &str, message: String) {
        self.troubles.lock().add(kind, clock::now(), peer, message);
    }

    pub(super) fn status(&self, feed: &Feed, listening: bool) -> PrimaryStatus {
        // The lock is released before the last reference to a peer may go, which takes it.
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
            troubles: self.troubles.lock().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_used_again() {
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
    fn a_name_takes_the_place_of_the_host() {
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
