//! What a secondary says after its handshake: keep-alives, and remarks to a primary of ours.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

use crate::proto::SecondaryPeer;

/// The pause between remarks that say how far the storage has got.
const REMARK_PAUSE: Duration = Duration::from_millis(50);
/// How long a primary may take to hear of a fork.
const FAREWELL: Duration = Duration::from_secs(2);

/// What to say to the primary.
#[derive(Clone, Default)]
pub(super) struct Remarks {
    /// What is sent once, before anything else; empty for nothing.
    pub(super) introduction: Bytes,
    /// A question that is sent once; empty for none.
    pub(super) question: Bytes,
    /// The message; a later one takes its place.
    pub(super) latest: Bytes,
    /// Whether nothing will follow.
    pub(super) farewell: bool,
}

/// Sends keep-alives, and remarks as they come, until that fails.
pub(super) async fn speak(
    writer: &mut (impl AsyncWrite + Unpin),
    keep_alive_delay: Option<Duration>,
    remarks: &mut watch::Receiver<Remarks>,
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
                say(writer, &SecondaryPeer::keep_alive()).await?;
            }
            () = changed(remarks) => {
                let said = next_words(remarks, &mut sent);
                say(writer, &said).await?;
            }
        }
        // Remarks that come meanwhile take each other's place.
        sleep(REMARK_PAUSE).await;
    }
}

async fn next_tick(ticks: Option<&mut Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

/// Waits until there is something that was not sent.
async fn changed(remarks: &mut watch::Receiver<Remarks>) {
    if remarks.changed().await.is_err() {
        // The applying side has ended, which the reader finds out.
        std::future::pending::<()>().await;
    }
}

/// Which of the messages that are sent once have been sent.
#[derive(Default)]
struct Sent {
    introduction: bool,
    question: bool,
}

/// The latest remark, behind what is sent once and was not sent.
fn next_words(remarks: &mut watch::Receiver<Remarks>, sent: &mut Sent) -> Bytes {
    let Remarks {
        introduction,
        question,
        latest,
        ..
    } = remarks.borrow_and_update().clone();
    let mut words = BytesMut::new();
    for (once, was_sent) in [
        (introduction, &mut sent.introduction),
        (question, &mut sent.question),
    ] {
        if !once.is_empty() && !std::mem::replace(was_sent, true) {
            words.extend_from_slice(&once);
        }
    }
    words.extend_from_slice(&latest);
    words.freeze()
}

/// Says all, and does not leave it in a buffer.
pub(super) async fn say(writer: &mut (impl AsyncWrite + Unpin), words: &[u8]) -> io::Result<()> {
    writer.write_all(words).await?;
    writer.flush().await
}

/// Tells the primary of a fork, if that is why the session ends and it does not know, and
/// waits a little for it to hang up: closing while it sends would take the remark from it.
pub(super) async fn farewell(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    remarks: &watch::Receiver<Remarks>,
) {
    let Remarks {
        latest, farewell, ..
    } = remarks.borrow().clone();
    let told = async {
        let mut rest = [0; 1 << 12];
        if say(writer, &latest).await.is_ok() {
            while matches!(reader.read(&mut rest).await, Ok(count) if count > 0) {}
        }
    };
    if farewell {
        // Whether it heard or not, the session ends.
        let _ = timeout(FAREWELL, told).await;
    }
}
