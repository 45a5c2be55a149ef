//! Forks: two histories that differ, possibly after a common beginning.
//!
//! The primary detects a fork by the start tid, the secondary by the digest of the last common
//! transaction. Each side reports it to the other in a control message, and both log it once
//! per finding, however often the secondary reconnects.

use std::collections::HashSet;
use std::fmt;

use parking_lot::Mutex;

use super::log_bound::LogBound;
use crate::proto::{ControlMessage, RefusalReason};
use zrs_ids::Tid;
use zrs_ids::timestamp;

/// Maximum number of findings remembered. Beyond it earlier findings are forgotten, and logged
/// again.
const MAX_FINDINGS: usize = 4096;

/// Maximum number of messages of one kind about one host within a period.
const LINES: u64 = 20;

/// A difference between two histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Divergence {
    /// The secondary's last transaction is not in the primary's history.
    Fork {
        /// How the primary detected it.
        reason: RefusalReason,
        /// The secondary's last transaction.
        start: Tid,
        /// The primary's last transaction.
        last: Tid,
    },
    /// Both have a transaction with this id, with different contents.
    Content(Tid),
    /// The histories forked, or a pack dropped the secondary's last transaction.
    Unverified(Tid),
}

impl Divergence {
    /// The control message for the other side.
    pub(super) fn control_message(self) -> ControlMessage {
        match self {
            Self::Fork {
                reason,
                start,
                last,
            } => ControlMessage::Refused {
                reason,
                start,
                last,
            },
            Self::Content(tid) | Self::Unverified(tid) => ControlMessage::Diverged(tid),
        }
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fork {
                reason,
                start,
                last,
            } => {
                let (start, last) = (Named(*start), Named(*last));
                write!(
                    f,
                    "histories diverged: the secondary's last transaction, {start}, "
                )?;
                match reason {
                    RefusalReason::Ahead => {
                        write!(f, "is later than the primary's last, {last}")
                    }
                    RefusalReason::Unknown => write!(
                        f,
                        "does not exist on the primary, whose last is {last}, and was not \
                         removed by a pack"
                    ),
                    RefusalReason::Unverified => write!(
                        f,
                        "does not exist on the primary, whose last is {last}; a pack may have \
                         removed it, but left no list of what it removed"
                    ),
                }
            }
            Self::Content(tid) => {
                let tid = Named(*tid);
                write!(
                    f,
                    "histories diverged: transaction {tid} is not the same on both sides"
                )
            }
            Self::Unverified(tid) => {
                let tid = Named(*tid);
                write!(
                    f,
                    "transaction {tid} does not exist on the primary; a pack may have removed it"
                )
            }
        }
    }
}

/// A tid and the time that it stands for.
struct Named(Tid);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Tid::ZERO => write!(f, "{} (none)", self.0),
            tid => write!(f, "{tid} ({})", timestamp::display(tid)),
        }
    }
}

/// Findings, each of which is logged once.
#[derive(Debug)]
pub struct Findings {
    divergences: Mutex<HashSet<(String, Divergence)>>,
    lines: LogBound,
}

impl Default for Findings {
    fn default() -> Self {
        Self {
            divergences: Mutex::default(),
            lines: LogBound::new(LINES),
        }
    }
}

impl Findings {
    /// Whether a finding is new. `peer` is an address as the log shows it. Its port is ignored,
    /// because a client has it for one connection only.
    pub fn is_new(&self, peer: &str, divergence: Divergence) -> bool {
        let mut found = self.divergences.lock();
        if found.len() >= MAX_FINDINGS {
            found.clear();
        }
        found.insert((host(peer).to_owned(), divergence))
    }

    /// Whether to log a message of this kind about a peer in this second: `Some` with the
    /// number of messages left out before, or `None`. The number of lines per host is bounded.
    pub fn to_log(&self, kind: &'static str, peer: &str, second: u64) -> Option<u64> {
        self.lines.to_log(kind, host(peer), second)
    }
}

/// `IPv4Address(TCP, '127.0.0.1', 47245)` without the port.
fn host(peer: &str) -> &str {
    match peer.rsplit_once(", ") {
        Some((host, _)) => host,
        None => peer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORK: Divergence = Divergence::Content(Tid::from_u64(1));

    #[test]
    fn a_finding_is_new_once_for_each_host_and_difference() {
        let findings = Findings::default();
        assert!(findings.is_new("IPv4Address(TCP, '127.0.0.1', 1)", FORK));
        assert!(!findings.is_new("IPv4Address(TCP, '127.0.0.1', 2)", FORK));
        assert!(findings.is_new("IPv4Address(TCP, '127.0.0.2', 2)", FORK));
        let other = Divergence::Content(Tid::from_u64(2));
        assert!(findings.is_new("IPv4Address(TCP, '127.0.0.1', 3)", other));
        assert!(findings.is_new("UNIXAddress('/a, b')", FORK));
    }

    #[test]
    fn findings_take_bounded_memory() {
        let findings = Findings::default();
        for number in 0..3 * MAX_FINDINGS {
            findings.is_new(&number.to_string(), FORK);
        }
        assert!(findings.divergences.lock().len() <= MAX_FINDINGS);
    }

    #[test]
    fn the_connections_of_a_host_share_a_bound() {
        let findings = Findings::default();
        let logged = |port: u64| {
            let peer = format!("IPv4Address(TCP, '127.0.0.1', {port})");
            findings.to_log("connections", &peer, 100).is_some()
        };
        let count = (0..2 * LINES).filter(|port| logged(*port)).count();
        assert_eq!(u64::try_from(count), Ok(LINES));
        let other = "IPv4Address(TCP, '127.0.0.2', 1)";
        assert_eq!(findings.to_log("connections", other, 100), Some(0));
    }
}
