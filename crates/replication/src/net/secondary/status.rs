//! Counters and status of a secondary's client.

use parking_lot::Mutex;

use crate::net::clock;
use crate::net::meter::{ErrorStats, Traffic, TrafficStatus};
use crate::proto::PrimaryPosition;
use crate::replica::{Applied, ListState};
use zrs_ids::Tid;
use zrs_ids::timestamp;

/// A secondary counts as following while its last transaction is less than this many seconds
/// old.
const FOLLOWING: f64 = 5.0;
/// It also counts as following when it has applied everything it received and has been idle for
/// this many seconds.
const QUIET: f64 = 1.0;

/// A primary counts as silent after this many seconds without data. If it sends heartbeats, this
/// many of them must be missing too.
const SILENT: f64 = 5.0;
const SILENT_HEARTBEATS: f64 = 5.0;

/// A connection that ends within this many seconds without data counts as refused.
const EARLY_CLOSE: f64 = 5.0;

/// The state of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecondaryState {
    /// It is trying to connect.
    #[default]
    Connecting,
    /// It is waiting before the next attempt to connect.
    Waiting,
    /// It receives older transactions.
    CatchingUp,
    /// As far as it knows, it has every transaction of the primary.
    Following,
    /// No data arrives from a primary that has announced heartbeats.
    Silent,
    /// No data has arrived on this connection. The primary may be one without heartbeats that
    /// has nothing to send, or it may not be running.
    Quiet,
    /// The histories have diverged. It tries again after a long delay.
    Diverged,
    /// It was closed.
    Stopped,
}

/// The connection to the primary.
#[derive(Clone, Debug)]
pub struct SessionStatus {
    /// The name of the primary in the log.
    pub peer: String,
    /// Time of the connection, in seconds since 1970.
    pub since: f64,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

/// The status of a secondary's client.
#[derive(Clone, Debug)]
pub struct SecondaryStatus {
    /// Time at which the client started, in seconds since 1970.
    pub started: f64,
    /// The state of the client.
    pub state: SecondaryState,
    /// The current connection.
    pub session: Option<SessionStatus>,
    /// The last transaction applied, or the storage's last transaction at the start of the
    /// connection; `None` before the first connection.
    pub tid: Option<Tid>,
    /// The primary's position at the start of the connection, if it reports positions.
    pub first_position: Option<PrimaryPosition>,
    /// The last transaction of the primary, by its latest report.
    pub primary_tid: Option<Tid>,
    /// Number of transactions that are missing up to that one. `None` unless the primary sends
    /// data.
    pub lacks: Option<u64>,
    /// Time between the primary's heartbeats, in seconds, if it sends them.
    pub heartbeat_interval: Option<f64>,
    /// Total number of connections.
    pub connections: u64,
    /// Number of failed attempts to connect.
    pub failed_attempts: u64,
    /// Transactions applied and bytes received.
    pub traffic: TrafficStatus,
    /// Number of blobs restored.
    pub blobs: u64,
    /// State of the list of dropped transactions, on this connection or the last one.
    pub list: ListState,
    /// Time of the last read.
    pub last_received: Option<f64>,
    /// Time at which the last transaction was applied.
    pub last_applied: Option<f64>,
    /// Errors that ended or prevented connections.
    pub errors: ErrorStats,
}

#[derive(Debug, Default)]
struct Counters {
    state: SecondaryState,
    session: Option<SessionStatus>,
    applied: Option<Applied>,
    /// Whether a primary has announced heartbeats, on any connection.
    has_seen_heartbeats: bool,
    /// Time since which received data is not applied completely; `None` if all is applied.
    undrained_since: Option<f64>,
    connections: u64,
    failed_attempts: u64,
    traffic: Traffic,
    blobs: u64,
    last_received: Option<f64>,
    last_applied: Option<f64>,
    errors: ErrorStats,
}

/// The counters of a client.
#[derive(Debug, Default)]
pub(super) struct SecondaryCounters {
    started: f64,
    counters: Mutex<Counters>,
}

impl SecondaryCounters {
    pub(super) fn new() -> Self {
        Self {
            started: clock::now(),
            counters: Mutex::default(),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.counters.lock().session.is_some()
    }

    /// Records a state without a connection.
    pub(super) fn without_connection(&self, state: SecondaryState) {
        let mut counters = self.counters.lock();
        counters.session = None;
        counters.state = state;
    }

    /// Records a failed attempt to connect.
    pub(super) fn cannot_connect(&self, address: String, message: String) {
        let mut counters = self.counters.lock();
        counters.failed_attempts += 1;
        counters
            .errors
            .add("cannot connect", clock::now(), &address, message);
    }

    /// Records a new connection.
    pub(super) fn connected(&self, peer: String, tls: bool) {
        let since = clock::now();
        let mut counters = self.counters.lock();
        counters.connections += 1;
        counters.applied = None;
        counters.undrained_since = Some(since);
        counters.state = SecondaryState::CatchingUp;
        counters.session = Some(SessionStatus { peer, since, tls });
    }

    /// Records bytes received.
    pub(super) fn received(&self, count: usize) {
        let now = clock::now();
        let mut counters = self.counters.lock();
        counters.undrained_since.get_or_insert(now);
        counters.last_received = Some(now);
        counters.traffic.add(clock::second(), 0, count as u64);
    }

    /// Records the progress of this connection. `drained`: everything received is applied.
    pub(super) fn applied(&self, applied: Applied, drained: bool) {
        let mut counters = self.counters.lock();
        let before = counters.applied.replace(applied);
        counters.has_seen_heartbeats |= applied.primary.heartbeat_interval.is_some();
        if drained {
            counters.undrained_since = None;
        } else {
            counters.undrained_since.get_or_insert_with(clock::now);
        }
        let Some(before) = before else { return };
        let transactions = applied.transactions.saturating_sub(before.transactions);
        counters.blobs += applied.blobs.saturating_sub(before.blobs);
        if transactions > 0 {
            counters.last_applied = Some(clock::now());
            counters.traffic.add(clock::second(), transactions, 0);
        }
    }

    /// Whether the connection is young, and no data has arrived on it.
    pub(super) fn was_closed_early(&self) -> bool {
        let counters = self.counters.lock();
        let since = counters.session.as_ref().map(|session| session.since);
        since.is_some_and(|since| clock::now() - since < EARLY_CLOSE) && !counters.has_received()
    }

    /// Records an error, which is also logged.
    pub(super) fn record_error(&self, kind: &'static str, peer: &str, message: String) {
        let mut counters = self.counters.lock();
        counters.errors.add(kind, clock::now(), peer, message);
    }

    pub(super) fn status(&self) -> SecondaryStatus {
        let now = clock::now();
        let mut counters = self.counters.lock();
        let traffic = counters.traffic.status(clock::second());
        let tid = counters.applied.map(|applied| applied.tid);
        let state = match counters.state {
            SecondaryState::CatchingUp if counters.is_silent(now) => {
                if counters.has_seen_heartbeats {
                    SecondaryState::Silent
                } else {
                    SecondaryState::Quiet
                }
            }
            SecondaryState::CatchingUp if counters.follows(now) => SecondaryState::Following,
            state => state,
        };
        SecondaryStatus {
            started: self.started,
            state,
            session: counters.session.clone(),
            tid,
            first_position: counters.applied.and_then(|applied| applied.primary.first),
            primary_tid: counters.primary_position().map(|position| position.last),
            lacks: counters.lacks().filter(|_| {
                matches!(
                    state,
                    SecondaryState::CatchingUp | SecondaryState::Following
                )
            }),
            heartbeat_interval: counters
                .heartbeat_interval()
                .filter(|_| counters.session.is_some()),
            connections: counters.connections,
            failed_attempts: counters.failed_attempts,
            traffic,
            blobs: counters.blobs,
            list: counters
                .applied
                .map(|applied| applied.list)
                .unwrap_or_default(),
            last_received: counters.last_received,
            last_applied: counters.last_applied,
            errors: counters.errors.clone(),
        }
    }
}

impl Counters {
    /// The primary's position, by its latest report.
    fn primary_position(&self) -> Option<PrimaryPosition> {
        self.applied.and_then(|applied| applied.primary.latest)
    }

    /// Number of transactions that the secondary lacks up to that position, if known.
    fn lacks(&self) -> Option<u64> {
        let applied = self.applied?;
        if applied.tid >= applied.primary.latest?.last {
            return Some(0);
        }
        let received = applied.transactions.saturating_sub(applied.primary.applied);
        let transactions = applied.primary.latest?.transactions?;
        // At least one, because the last of them is missing.
        Some(transactions.saturating_sub(received).max(1))
    }

    /// Time between the primary's heartbeats, in seconds.
    fn heartbeat_interval(&self) -> Option<f64> {
        let heartbeat_interval = self
            .applied
            .and_then(|applied| applied.primary.heartbeat_interval);
        heartbeat_interval.map(|heartbeat_interval| heartbeat_interval.as_secs_f64())
    }

    /// Whether any data has arrived on this connection.
    fn has_received(&self) -> bool {
        let since = self.session.as_ref().map(|session| session.since);
        since.is_some_and(|since| self.last_received.is_some_and(|last| last >= since))
    }

    /// Seconds since the last data, or since the start of the connection.
    fn quiet_for(&self, now: f64) -> Option<f64> {
        let session = self.session.as_ref()?;
        Some(now - self.last_received.unwrap_or(0.0).max(session.since))
    }

    /// Whether announced heartbeats are missing, or no data has arrived at all: a program other
    /// than a running primary may have accepted the connection.
    fn is_silent(&self, now: f64) -> bool {
        let bound = match self.heartbeat_interval() {
            Some(interval) => SILENT.max(interval * SILENT_HEARTBEATS),
            None if self.has_received() => return false,
            None => SILENT,
        };
        let quiet = self.quiet_for(now);
        self.undrained_since.is_none() && quiet.is_some_and(|quiet| quiet > bound)
    }

    /// Whether the secondary appears to have every transaction of its primary. In the protocol of
    /// zc.zrs the primary does not report its position.
    fn follows(&self, now: f64) -> bool {
        let (Some(applied), Some(quiet)) = (self.applied, self.quiet_for(now)) else {
            return false;
        };
        let age = now - timestamp::seconds_at(applied.tid);
        // A transaction from the future, by this machine's clock, is not recent.
        let recent = applied.transactions > 0 && age.abs() < FOLLOWING;
        let lacks = self
            .primary_position()
            .is_some_and(|position| applied.tid < position.last);
        let undrained = self.undrained_since.map(|since| now - since);
        if self.heartbeat_interval().is_some() {
            // Data that is not applied yet may include a later position.
            return recent || !lacks && undrained.is_none_or(|time| time < QUIET);
        }
        let idle = self.has_received() && undrained.is_none() && quiet > QUIET;
        !lacks && (recent || idle)
    }
}
