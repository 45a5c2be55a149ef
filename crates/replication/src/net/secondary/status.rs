//! What a secondary's client counts, and what it says of itself.

use parking_lot::Mutex;

use crate::net::clock;
use crate::net::meter::{Traffic, TrafficStatus, Troubles};
use crate::proto::Goal;
use crate::replica::{Applied, ListState};
use zrs_ids::Tid;
use zrs_ids::timestamp;

/// A secondary follows whose last transaction is younger than this, in seconds.
const FOLLOWING: f64 = 5.0;
/// So does one that has applied all that came, and to which nothing came for as long.
const QUIET: f64 = 1.0;

/// A primary is silent from which nothing came for so long, in seconds, and for so many pulses.
const SILENT: f64 = 5.0;
const SILENT_PULSES: f64 = 5.0;

/// A connection that a primary refuses ends sooner than this, in seconds.
const HUNG_UP: f64 = 5.0;

/// What a client is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecondaryState {
    /// It tries to reach its primary.
    #[default]
    Connecting,
    /// It has no connection, and waits before it tries again.
    Waiting,
    /// It gets what the primary committed some time ago.
    CatchingUp,
    /// As far as it can tell it has what the primary has.
    Following,
    /// Nothing comes from a primary that has said how often something will.
    Silent,
    /// Nothing has come on this connection, and the primary may be one that does not say how far
    /// it is: it has nothing to send, or it does not run.
    Quiet,
    /// The primary's history is another; it is tried again, after a long while.
    Diverged,
    /// It was closed.
    Stopped,
}

/// The connection to the primary.
#[derive(Clone, Debug)]
pub struct SessionStatus {
    /// The primary's address, as the log shows it.
    pub peer: String,
    /// When the connection was made, in seconds since 1970.
    pub since: f64,
    /// Whether it is encrypted.
    pub tls: bool,
}

/// A secondary's client.
#[derive(Clone, Debug)]
pub struct SecondaryStatus {
    /// When it began, in seconds since 1970.
    pub started: f64,
    /// What it is at.
    pub state: SecondaryState,
    /// The connection, if there is one.
    pub session: Option<SessionStatus>,
    /// The last transaction applied, or found in the storage when a connection began;
    /// `None` before the first one.
    pub tid: Option<Tid>,
    /// What the primary had and was to send when the connection began, if it says so.
    pub first_goal: Option<Goal>,
    /// The last transaction of the primary, when it said so last.
    pub primary_tid: Option<Tid>,
    /// How many transactions are still to come of those that the primary knew of then; known
    /// only while the primary can be heard.
    pub lacks: Option<u64>,
    /// The pause, in seconds, between the primary's words on how far it is, if it says any.
    pub pulse: Option<f64>,
    /// How many connections were made in all.
    pub connections: u64,
    /// How many attempts failed before there was one.
    pub failed_attempts: u64,
    /// Transactions applied and bytes received.
    pub traffic: TrafficStatus,
    /// How many blobs were restored.
    pub blobs: u64,
    /// What is known of the list of dropped transactions, on this connection or the last one.
    pub list: ListState,
    /// When bytes came last.
    pub last_received: Option<f64>,
    /// When a transaction was last applied.
    pub last_applied: Option<f64>,
    /// What ended connections, or made them impossible.
    pub troubles: Troubles,
}

#[derive(Debug, Default)]
struct Counters {
    state: SecondaryState,
    session: Option<SessionStatus>,
    applied: Option<Applied>,
    /// Whether a primary has said, on any connection, how often it says how far it is.
    has_pulsed: bool,
    /// Since when something that came is not applied; `None` if everything is.
    undrained_since: Option<f64>,
    connections: u64,
    failed_attempts: u64,
    traffic: Traffic,
    blobs: u64,
    last_received: Option<f64>,
    last_applied: Option<f64>,
    troubles: Troubles,
}

/// What is counted.
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

    /// It is at something that is no connection.
    pub(super) fn without_connection(&self, state: SecondaryState) {
        let mut counters = self.counters.lock();
        counters.session = None;
        counters.state = state;
    }

    /// An attempt to connect failed.
    pub(super) fn cannot_connect(&self, address: String, message: String) {
        let mut counters = self.counters.lock();
        counters.failed_attempts += 1;
        counters
            .troubles
            .add("cannot connect", clock::now(), &address, message);
    }

    /// A connection stands.
    pub(super) fn connected(&self, peer: String, tls: bool) {
        let since = clock::now();
        let mut counters = self.counters.lock();
        counters.connections += 1;
        counters.applied = None;
        counters.undrained_since = Some(since);
        counters.state = SecondaryState::CatchingUp;
        counters.session = Some(SessionStatus { peer, since, tls });
    }

    /// Bytes came.
    pub(super) fn received(&self, count: usize) {
        let now = clock::now();
        let mut counters = self.counters.lock();
        counters.undrained_since.get_or_insert(now);
        counters.last_received = Some(now);
        counters.traffic.add(clock::second(), 0, count as u64);
    }

    /// So much was applied on this connection; whether that is all that came.
    pub(super) fn applied(&self, applied: Applied, drained: bool) {
        let mut counters = self.counters.lock();
        let before = counters.applied.replace(applied);
        counters.has_pulsed |= applied.primary.pulse.is_some();
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

    /// Whether the connection has ended soon, and nothing had come on it.
    pub(super) fn was_hung_up_on(&self) -> bool {
        let counters = self.counters.lock();
        let since = counters.session.as_ref().map(|session| session.since);
        since.is_some_and(|since| clock::now() - since < HUNG_UP) && !counters.has_heard()
    }

    /// Something went wrong, which the log tells too.
    pub(super) fn trouble(&self, kind: &'static str, peer: &str, message: String) {
        let mut counters = self.counters.lock();
        counters.troubles.add(kind, clock::now(), peer, message);
    }

    pub(super) fn status(&self) -> SecondaryStatus {
        let now = clock::now();
        let mut counters = self.counters.lock();
        let traffic = counters.traffic.status(clock::second());
        let tid = counters.applied.map(|applied| applied.tid);
        let state = match counters.state {
            SecondaryState::CatchingUp if counters.is_silent(now) => {
                if counters.has_pulsed {
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
            first_goal: counters.applied.and_then(|applied| applied.primary.first),
            primary_tid: counters.goal().map(|goal| goal.last),
            lacks: counters.lacks().filter(|_| {
                matches!(
                    state,
                    SecondaryState::CatchingUp | SecondaryState::Following
                )
            }),
            pulse: counters.pulse().filter(|_| counters.session.is_some()),
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
            troubles: counters.troubles.clone(),
        }
    }
}

impl Counters {
    /// What the primary said last that it has.
    fn goal(&self) -> Option<Goal> {
        self.applied.and_then(|applied| applied.primary.latest)
    }

    /// How many transactions the secondary lacks of those, if that is known.
    fn lacks(&self) -> Option<u64> {
        let applied = self.applied?;
        if applied.tid >= applied.primary.latest?.last {
            return Some(0);
        }
        let came = applied.transactions.saturating_sub(applied.primary.applied);
        let transactions = applied.primary.latest?.transactions?;
        // The last one of them is not there.
        Some(transactions.saturating_sub(came).max(1))
    }

    /// The pause between the primary's pulses, in seconds.
    fn pulse(&self) -> Option<f64> {
        let pulse = self.applied.and_then(|applied| applied.primary.pulse);
        pulse.map(|pulse| pulse.as_secs_f64())
    }

    /// Whether anything has come on this connection.
    fn has_heard(&self) -> bool {
        let since = self.session.as_ref().map(|session| session.since);
        since.is_some_and(|since| self.last_received.is_some_and(|last| last >= since))
    }

    /// Seconds since something came, or since the connection was made.
    fn quiet_for(&self, now: f64) -> Option<f64> {
        let session = self.session.as_ref()?;
        Some(now - self.last_received.unwrap_or(0.0).max(session.since))
    }

    /// Whether the primary has promised to say something, and does not, or has not said
    /// anything at all: who has accepted the connection may be no primary that runs.
    fn is_silent(&self, now: f64) -> bool {
        let bound = match self.pulse() {
            Some(pulse) => SILENT.max(pulse * SILENT_PULSES),
            None if self.has_heard() => return false,
            None => SILENT,
        };
        let quiet = self.quiet_for(now);
        self.undrained_since.is_none() && quiet.is_some_and(|quiet| quiet > bound)
    }

    /// Whether this looks like a secondary that has what its primary has. The protocol of
    /// zc.zrs does not say how far the primary is.
    fn follows(&self, now: f64) -> bool {
        let (Some(applied), Some(quiet)) = (self.applied, self.quiet_for(now)) else {
            return false;
        };
        let age = now - timestamp::seconds_at(applied.tid);
        // One from the future, by our clock, tells nothing.
        let recent = applied.transactions > 0 && age.abs() < FOLLOWING;
        let lacks = self.goal().is_some_and(|goal| applied.tid < goal.last);
        let undrained = self.undrained_since.map(|since| now - since);
        if self.pulse().is_some() {
            // What was said may be among what is not applied.
            return recent || !lacks && undrained.is_none_or(|time| time < QUIET);
        }
        let idle = self.has_heard() && undrained.is_none() && quiet > QUIET;
        !lacks && (recent || idle)
    }
}
