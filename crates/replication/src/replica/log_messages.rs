//! The log: loggers, levels and texts.
//!
//! For events that zc.zrs logs too, the text is that of zc.zrs, as its documents print it. The
//! loggers are those of zc.zrs. Rust has no level above error, so critical messages go through
//! [`set_critical`], which the binding sets.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use once_cell::sync::OnceCell;

use super::{Divergence, Findings};
use crate::proto::{FailureReason, PeerError};
use zrs_ids::timestamp;
use zrs_ids::{Tid, python_bytes};
use zrs_storage::error::StorageError;

/// The primary's logger.
pub const PRIMARY: &str = "zc.zrs.primary";
/// The secondary's logger.
pub const SECONDARY: &str = "zc.zrs.secondary";
/// The drivers' logger.
pub const REACTOR: &str = "zc.zrs.reactor";

type Critical = fn(logger: &str, message: &str);

static CRITICAL: OnceCell<Critical> = OnceCell::new();

/// Sets, once per process, the function for critical messages. Until then they are errors.
pub fn set_critical(log: Critical) {
    // A second call leaves the first function in place, which does the same.
    let _ = CRITICAL.set(log);
}

fn critical(logger: &'static str, message: &str) {
    match CRITICAL.get() {
        Some(log) => log(logger, message),
        None => log::error!(target: logger, "{message}"),
    }
}

type Clock = fn() -> u64;

static CLOCK: OnceCell<Clock> = OnceCell::new();

/// Sets, once per process, a monotonic clock of whole seconds. Until then messages about peers
/// are not bounded.
pub fn set_clock(clock: Clock) {
    // As for [`set_critical`].
    let _ = CLOCK.set(clock);
}

/// Kinds of messages whose number is bounded for each host.
pub mod kinds {
    /// Connections and disconnections.
    pub const CONNECTIONS: &str = "connections";
    /// Protocol errors.
    pub const PROTOCOL: &str = "protocol errors";
    /// TLS failures.
    pub const TLS: &str = "TLS failures";
    /// Missing handshakes.
    pub const HANDSHAKES: &str = "handshakes";
    /// Streams that failed.
    pub const STREAMS: &str = "streams";
    /// Forks.
    pub const FORKS: &str = "forks";
    /// Histories that could not be verified.
    pub const UNVERIFIED: &str = "unverified histories";
    /// Transactions sent without one of their parts.
    pub const LEFT_OUT: &str = "parts left out";
}

/// Whether to log a message of this kind about a primary's peer: the number of lines per host is
/// bounded. Logs the number of messages left out when lines are available again.
pub fn has_room(findings: &Findings, kind: &'static str, peer: &str) -> bool {
    let Some(clock) = CLOCK.get() else {
        return true;
    };
    match findings.to_log(kind, peer, clock()) {
        None => false,
        Some(0) => true,
        Some(left_out) => {
            log::warn!(
                target: PRIMARY,
                "{peer}: {left_out} earlier messages about {kind} of this host were left out"
            );
            true
        }
    }
}

/// Maximum number of characters of a reason in the log.
const REASON: usize = 1000;

/// A reason, cut to the maximum length: it may quote data from a peer.
pub fn cut(reason: impl Display) -> String {
    let mut text = reason.to_string();
    if let Some((end, _)) = text.char_indices().nth(REASON) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// The side of a connection that logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The sending side.
    Primary,
    /// The applying side.
    Secondary,
}

impl Side {
    const fn logger(self) -> &'static str {
        match self {
            Self::Primary => PRIMARY,
            Self::Secondary => SECONDARY,
        }
    }
}

/// The storage's path names a file other than the one that the storage has open.
pub(super) fn displaced(error: &StorageError) {
    critical(
        PRIMARY,
        &format!("{error}. Nothing is sent from it; what is committed now is in no named file"),
    );
}

/// A connection was made.
pub fn connected(side: Side, peer: &str) {
    log::info!(target: side.logger(), "{peer}: Connected");
}

/// A connection ended.
pub fn disconnected(side: Side, peer: &str, reason: impl Display) {
    log::info!(target: side.logger(), "{peer}: Disconnected {}", cut(reason));
}

/// A connection cannot be accepted; `left_out` earlier errors were not logged.
pub fn cannot_accept(error: impl Display, left_out: u64) {
    let before = match left_out {
        0 => String::new(),
        left_out => format!(" (and {left_out} more such errors before)"),
    };
    log::error!(target: REACTOR, "cannot accept a connection: {error}{before}");
}

/// A connection is refused; `left_out` earlier refusals were not logged.
pub fn connection_refused(peer: &str, reason: impl Display, left_out: u64) {
    if left_out == 0 {
        log::warn!(target: PRIMARY, "{peer}: connection refused: {reason}");
    } else {
        log::warn!(
            target: PRIMARY,
            "{peer}: connection refused: {reason} (and {left_out} more refused before)"
        );
    }
}

/// A connection is closed because its handshake did not arrive in time; returns the text.
pub fn handshake_timed_out(findings: &Findings, peer: &str, deadline: Duration) -> String {
    let message = format!("no handshake within {} s", deadline.as_secs_f64());
    if has_room(findings, kinds::HANDSHAKES, peer) {
        log::warn!(target: PRIMARY, "{peer}: {message}");
    }
    message
}

/// TLS failed, or the peer's certificate is not trusted; returns the text.
pub fn tls_failed(findings: &Findings, side: Side, peer: &str, reason: impl Display) -> String {
    let message = format!("TLS failed: {}", cut(reason));
    if side == Side::Secondary || has_room(findings, kinds::TLS, peer) {
        log::error!(target: side.logger(), "{peer}: {message}");
    }
    message
}

/// A secondary requested the transactions after `start`.
pub fn start(peer: &str, start: Tid) {
    let bytes = python_bytes(start.as_bytes());
    let time = timestamp::display(start);
    log::info!(target: PRIMARY, "{peer}: start {bytes} ({time})");
}

/// A secondary sent a keep-alive.
pub fn keep_alive(peer: &str) {
    log::debug!(target: PRIMARY, "{peer}: keep-alive");
}

/// A secondary violated the protocol.
pub fn refused(findings: &Findings, peer: &str, error: &PeerError) {
    if has_room(findings, kinds::PROTOCOL, peer) {
        log::error!(target: PRIMARY, "{peer}: {}{}", cut(error), remedy(error));
    }
}

/// What the operator can do about the error, as further sentences.
const fn remedy(error: &PeerError) -> &'static str {
    match error {
        PeerError::BlobsRequired(_) => {
            ". This primary stores blobs, and the secondary has no blob directory. Configure one \
             for the secondary (blob-dir), or do not replicate blobs (blobs none, on both sides)"
        }
        _ => "",
    }
}

/// A primary cannot continue the stream to a secondary.
pub fn stream_failed(findings: &Findings, peer: &str, reason: impl Display) {
    if has_room(findings, kinds::STREAMS, peer) {
        log::error!(target: PRIMARY, "{peer}: {}", cut(reason));
    }
}

/// A secondary is refused, or leaves, because of a fork. Logged once per finding.
pub fn fork(findings: &Findings, peer: &str, divergence: Divergence) {
    if !has_room(findings, kinds::FORKS, peer) {
        return;
    }
    if findings.is_new(peer, divergence) {
        log::error!(
            target: PRIMARY,
            "{peer}: {divergence}. Nothing is sent to it. Re-create the secondary from this \
             primary, or, if the secondary has the right history, restore the primary from it"
        );
    } else {
        log::info!(target: PRIMARY, "{peer}: {divergence}");
    }
}

/// A secondary's last transaction was removed by a pack of the primary.
pub fn explained_by_pack(findings: &Findings, peer: &str, start: Tid) {
    if !has_room(findings, kinds::CONNECTIONS, peer) {
        return;
    }
    log::info!(
        target: PRIMARY,
        "{peer}: transaction {start} is no longer in the history (removed by a pack); continuing \
         from the next one"
    );
}

/// A secondary's last transaction is not in the file, and no list of a pack covers it. Logged as
/// a warning, once per finding.
pub fn unverified(findings: &Findings, peer: &str, start: Tid) {
    if !has_room(findings, kinds::UNVERIFIED, peer) {
        return;
    }
    if findings.is_new(peer, Divergence::Unverified(start)) {
        log::warn!(
            target: PRIMARY,
            "{peer}: transaction {start} is not in the history; a pack may have removed it, but \
             left no list of what it removed, so a fork cannot be ruled out"
        );
    } else {
        log::info!(target: PRIMARY, "{peer}: transaction {start} cannot be verified");
    }
}

/// A transaction's extension is not a pickle and is left out. A secondary that reconnects
/// repeatedly requests it each time.
pub fn extension_left_out(
    findings: &Findings,
    peer: &str,
    (tid, position): (Tid, u64),
    reason: impl Display,
) {
    if has_room(findings, kinds::LEFT_OUT, peer) {
        log::warn!(
            target: PRIMARY,
            "transaction {tid} at position {position} is sent without its extension: {}",
            cut(reason)
        );
    }
}

/// A blob's file is missing, and the blob is left out, as configured.
pub fn blob_left_out(findings: &Findings, peer: &str, reason: impl Display) {
    if has_room(findings, kinds::LEFT_OUT, peer) {
        log::error!(target: PRIMARY, "{reason}; sent without its contents");
    }
}

/// A primary closes a connection.
pub fn closed(peer: &str) {
    log::info!(target: PRIMARY, "{peer}: Closed");
}

/// A connection could not be made.
pub fn cannot_connect(address: impl Display, reason: impl Display) {
    log::warn!(target: SECONDARY, "Cannot connect to {address}: {reason}");
}

/// A primary closed a connection immediately; returns the text.
pub fn closed_without_reason(peer: &str) -> String {
    let message =
        "primary closed the connection without a reason. Check the primary's log. Common \
        causes: this address is not in `allow`, or the primary has blobs and this secondary has \
        no blob-dir"
            .to_owned();
    log::warn!(target: SECONDARY, "{peer}: {message}");
    message
}

/// A primary ended the stream because of its own file; returns the text.
pub fn primary_failed(peer: &str, reason: FailureReason) -> String {
    let message = format!("{reason}: the stream has ended, and the primary's log says where");
    log::error!(target: SECONDARY, "{peer}: {message}");
    message
}

/// A secondary stops following because of a fork. Logged once per finding.
pub fn diverged(findings: &Findings, peer: &str, divergence: Divergence) {
    if findings.is_new(peer, divergence) {
        log::error!(
            target: SECONDARY,
            "{peer}: {divergence}. Nothing more is applied. Re-create this secondary from the \
             primary, or, if this one has the right history, restore the primary from it"
        );
    } else {
        log::info!(target: SECONDARY, "{peer}: {divergence}");
    }
}

/// Data from a primary cannot be applied; the transaction is aborted.
pub fn apply_failed(peer: &str, reason: impl Display) {
    critical(
        SECONDARY,
        &format!(
            "{peer}: {}; transaction aborted, disconnecting",
            cut(reason)
        ),
    );
}

/// A secondary cannot keep its list of dropped transactions on this connection.
pub fn list_not_kept(path: &Path, reason: &dyn Display) {
    log::warn!(
        target: SECONDARY,
        "{}: the list of dropped transactions is not kept until the next connection: {reason}",
        path.display()
    );
}
