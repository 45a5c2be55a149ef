//! Sends what follows the handshake: keep-alives, and control messages to a zrs primary.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

use crate::proto::SecondaryPeer;

/// Minimum time between acknowledgements.
const MESSAGE_DELAY: Duration = Duration::from_millis(50);
/// Maximum time to wait until the primary has closed the connection after the report of a fork.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Encoded control messages that are to be sent to the primary.
#[derive(Clone, Default)]
pub(super) struct Pending {
    /// Sent once, before the others: the name of the secondary. May be empty.
    pub(super) introduction: Bytes,
    /// Sent once: a request for the list of dropped transactions. May be empty.
    pub(super) request: Bytes,
    /// The latest message; replaces an earlier one that was not sent.
    pub(super) latest: Bytes,
    /// Whether the session ends because the histories have diverged. `latest` then reports it, or
    /// is empty if the primary has already detected it.
    pub(super) is_final: bool,
}

/// Sends keep-alives and pending control messages until that fails.
pub(super) async fn send_pending(
    writer: &mut (impl AsyncWrite + Unpin),
    keep_alive_delay: Option<Duration>,
    pending: &mut watch::Receiver<Pending>,
) -> io::Result<String> {
    let mut ticks = keep_alive_delay.map(interval);
    if let Some(ticks) = &mut ticks {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
    }
    let mut sent = Sent::default();
    loop {
        tokio::select! {
            () = next_tick(ticks.as_mut()) => {
                send(writer, &SecondaryPeer::keep_alive()).await?;
            }
            () = changed(pending) => {
                let messages = take_pending(pending, &mut sent);
                send(writer, &messages).await?;
            }
        }
        // Of the acknowledgements that arrive meanwhile, only the latest is sent.
        sleep(MESSAGE_DELAY).await;
    }
}

async fn next_tick(ticks: Option<&mut Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

/// Waits for a control message that has not been sent.
async fn changed(pending: &mut watch::Receiver<Pending>) {
    if pending.changed().await.is_err() {
        // The applying thread has ended; reading fails then.
        std::future::pending::<()>().await;
    }
}

/// Which of the one-time messages have been sent.
#[derive(Default)]
struct Sent {
    introduction: bool,
    request: bool,
}

/// The messages to send: one-time messages that have not been sent, then the latest one.
fn take_pending(pending: &mut watch::Receiver<Pending>, sent: &mut Sent) -> Bytes {
    let Pending {
        introduction,
        request,
        latest,
        ..
    } = pending.borrow_and_update().clone();
    let mut messages = BytesMut::new();
    for (once, was_sent) in [
        (introduction, &mut sent.introduction),
        (request, &mut sent.request),
    ] {
        if !once.is_empty() && !std::mem::replace(was_sent, true) {
            messages.extend_from_slice(&once);
        }
    }
    messages.extend_from_slice(&latest);
    messages.freeze()
}

/// Writes all bytes and flushes.
pub(super) async fn send(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}

/// If the session ends because the histories have diverged, reports it to the primary and waits
/// until the primary closes the connection. Closing while the primary still sends would
/// discard the report.
pub(super) async fn close(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    pending: &watch::Receiver<Pending>,
) {
    let Pending {
        latest, is_final, ..
    } = pending.borrow().clone();
    let reported = async {
        let mut rest = [0; 1 << 12];
        if send(writer, &latest).await.is_ok() {
            while matches!(reader.read(&mut rest).await, Ok(count) if count > 0) {}
        }
    };
    if is_final {
        // The session ends even if the primary has not received the report.
        let _ = timeout(CLOSE_TIMEOUT, reported).await;
    }
}
