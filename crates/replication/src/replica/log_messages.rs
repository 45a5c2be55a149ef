//! The log: loggers, levels and texts.
//!
//! Where zc.zrs logs the same event, the text is its text, as its documents print it; the
//! loggers are its loggers. Rust has no level above error, so critical messages go through
//! [`set_critical`], which the bindings set.

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

/// Sets, once for the process, where critical messages go; until then they are errors.
pub fn set_critical(log: Critical) {
    // A second call finds the first one's function in place, which does the same.
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

/// Sets, once for the process, a clock of whole seconds that only grow; until then the log of
/// what peers do has no bound.
pub fn set_clock(clock: Clock) {
    // As for [`set_critical`].
    let _ = CLOCK.set(clock);
}

/// Kinds of messages whose number is bounded for each host.
pub mod kinds {
    /// Connections, and their ends.
    pub const CONNECTIONS: &str = "connections";
    /// What breaks the protocol.
    pub const PROTOCOL: &str = "protocol errors";
    /// What TLS refuses.
    pub const TLS: &str = "TLS failures";
    /// Handshakes that do not come.
    pub const HANDSHAKES: &str = "handshakes";
    /// Streams that cannot go on.
    pub const STREAMS: &str = "streams";
    /// Other histories.
    pub const FORKS: &str = "forks";
    /// Histories that cannot be compared.
    pub const UNVERIFIED: &str = "unverified histories";
    /// Transactions that are sent without a part of theirs.
    pub const LEFT_OUT: &str = "parts left out";
}

/// Whether to log a message of this kind about a primary's peer: each host gets a bounded
/// number of lines. Says how many were left out when there is room again.
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

/// The most characters of a reason that are logged.
const REASON: usize = 1000;

/// A reason, which may quote what a peer sent, cut where it is too long.
pub fn cut(reason: impl Display) -> String {
    let mut text = reason.to_string();
    if let Some((end, _)) = text.char_indices().nth(REASON) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// Which side of a connection is speaking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that ships.
    Primary,
    /// The one that applies.
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

/// The storage's path leads to another file than the storage has open.
pub(super) fn displaced(error: &StorageError) {
    critical(
        PRIMARY,
        &format!("{error}. Nothing is sent from it; what is committed now is in no named file"),
    );
}

/// A connection stands.
pub fn connected(side: Side, peer: &str) {
    log::info!(target: side.logger(), "{peer}: Connected");
}

/// A connection is over.
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

/// A connection is not taken; as many were not taken before without a line in the log.
pub fn not_taken(peer: &str, reason: impl Display, left_out: u64) {
    if left_out == 0 {
        log::warn!(target: PRIMARY, "{peer}: connection refused: {reason}");
    } else {
        log::warn!(
            target: PRIMARY,
            "{peer}: connection refused: {reason} (and {left_out} more refused before)"
        );
    }
}

/// A connection is given up that has not said in time where to start; returns what is
/// logged.
pub fn too_slow(findings: &Findings, peer: &str, deadline: Duration) -> String {
    let message = format!("no handshake within {} s", deadline.as_secs_f64());
    if has_room(findings, kinds::HANDSHAKES, peer) {
        log::warn!(target: PRIMARY, "{peer}: {message}");
    }
    message
}

/// A connection cannot be encrypted, or its peer's certificate is not trusted; returns
/// what is logged.
pub fn tls_failed(findings: &Findings, side: Side, peer: &str, reason: impl Display) -> String {
    let message = format!("TLS failed: {}", cut(reason));
    if side == Side::Secondary || has_room(findings, kinds::TLS, peer) {
        log::error!(target: side.logger(), "{peer}: {message}");
    }
    message
}

/// A secondary asked for what follows `start`.
pub fn start(peer: &str, start: Tid) {
    let bytes = python_bytes(start.as_bytes());
    let time = timestamp::display(start);
    log::info!(target: PRIMARY, "{peer}: start {bytes} ({time})");
}

/// A secondary is still there.
pub fn keep_alive(peer: &str) {
    log::debug!(target: PRIMARY, "{peer}: keep-alive");
}

/// A secondary broke the protocol.
pub fn refused(findings: &Findings, peer: &str, error: &PeerError) {
    if has_room(findings, kinds::PROTOCOL, peer) {
        log::error!(target: PRIMARY, "{peer}: {}{}", cut(error), remedy(error));
    }
}

/// What the operator can change about the error, as further sentences.
const fn remedy(error: &PeerError) -> &'static str {
    match error {
        PeerError::BlobsRequired(_) => {
            ". This primary stores blobs, and the secondary has no blob directory. Configure one \
             for the secondary (blob-dir), or do not replicate blobs (blobs none, on both sides)"
        }
        _ => "",
    }
}

/// A primary cannot go on with the stream to a secondary.
pub fn stream_failed(findings: &Findings, peer: &str, reason: impl Display) {
    if has_room(findings, kinds::STREAMS, peer) {
        log::error!(target: PRIMARY, "{peer}: {}", cut(reason));
    }
}

/// A secondary is refused, or leaves, because of a fork. Said once for each finding.
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

/// A secondary's last transaction is not in the file, and no list of a pack covers it. A
/// warning once for each finding.
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

/// A transaction's extension is not a pickle and is left out. A secondary that connects again
/// and again asks for it each time.
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

/// A blob's file is missing, and the blob is left out as was asked for.
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

/// A primary has ended a connection at once; returns what is logged.
pub fn hung_up(peer: &str) -> String {
    let message =
        "primary closed the connection without a reason. Check the primary's log. Common \
        causes: this address is not in `allow`, or the primary has blobs and this secondary has \
        no blob-dir"
            .to_owned();
    log::warn!(target: SECONDARY, "{peer}: {message}");
    message
}

/// A primary has ended the stream because of its own file; returns what is logged.
pub fn primary_failed(peer: &str, reason: FailureReason) -> String {
    let message = format!("{reason}: the stream has ended, and the primary's log says where");
    log::error!(target: SECONDARY, "{peer}: {message}");
    message
}

/// A secondary follows no further because of a fork. Said once for each finding.
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

/// What came from a primary cannot be applied; the transaction is aborted.
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
