//! The blocking side of a primary's connection: makes the bytes and writes them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::status::Peer;
use crate::replica::{Divergence, StreamError, StreamHandle, TransactionStream};

/// A secondary that takes longer than this for a chunk is waited for with little memory.
const MEMORY_DELAY: Duration = Duration::from_millis(5);

/// How the shipping ended.
pub(super) enum Ended {
    /// There will be no more, or it was stopped.
    Done,
    /// The network does not take any more.
    Lost(io::Error),
    /// There was nothing to ship, because of a fork.
    Refused(Divergence),
    /// The stream cannot go on.
    Failed(StreamError),
}

/// Stops the shipping when it is dropped, as when the connection ends, however it does.
pub(super) struct Stop {
    stream: StreamHandle,
    writing: CancellationToken,
}

impl Stop {
    pub(super) fn new(stream: StreamHandle) -> Self {
        let writing = CancellationToken::new();
        Self { stream, writing }
    }

    pub(super) fn stream(&self) -> &StreamHandle {
        &self.stream
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.stream.stop();
        self.writing.cancel();
    }
}

/// A stream on its way into a socket.
pub(super) struct Shipping<W> {
    stream: TransactionStream,
    writer: W,
    peer: Arc<Peer>,
    /// What is being written is given up then.
    stopped: CancellationToken,
    handle: Handle,
}

impl<W: AsyncWrite + Unpin> Shipping<W> {
    pub(super) fn new(
        stream: TransactionStream,
        writer: W,
        peer: Arc<Peer>,
        stop: &Stop,
        handle: Handle,
    ) -> Self {
        let stopped = stop.writing.clone();
        Self {
            stream,
            writer,
            peer,
            stopped,
            handle,
        }
    }

    /// Makes chunks and writes them until there will be no more; returns the socket too.
    pub(super) fn run(mut self) -> (Ended, W) {
        let ended = loop {
            let chunk = match self.stream.next_chunk() {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break Ended::Done,
                Err(error) => break Ended::Failed(error),
            };
            let length = chunk.len();
            match self.write(chunk) {
                Some(Ok(())) => self.peer.sent(self.stream.progress(), length),
                Some(Err(error)) => break Ended::Lost(error),
                None => break Ended::Done,
            }
        };
        let ended = match (self.stream.refusal(), ended) {
            (Some(divergence), Ended::Done | Ended::Lost(_)) => Ended::Refused(divergence),
            (_, ended) => ended,
        };
        (ended, self.writer)
    }

    /// Writes all, and does not leave it in a buffer; `None` if it was stopped before.
    fn write(&mut self, chunk: Bytes) -> Option<io::Result<()>> {
        let (writer, stream) = (&mut self.writer, &mut self.stream);
        let written = write_all(writer, chunk, || stream.release_memory());
        self.handle.block_on(async {
            tokio::select! {
                biased;
                written = written => Some(written),
                () = self.stopped.cancelled() => None,
            }
        })
    }
}

/// Writes a chunk and what is in the writer's buffer. If that takes long, `release` is called,
/// and of the chunk only what is left stays in memory.
async fn write_all(
    writer: &mut (impl AsyncWrite + Unpin),
    mut chunk: Bytes,
    release: impl FnOnce(),
) -> io::Result<()> {
    // Both are given up between two writes, so that nothing is written twice.
    let first = async {
        writer.write_all_buf(&mut chunk).await?;
        writer.flush().await
    };
    if let Ok(written) = timeout(MEMORY_DELAY, first).await {
        return written;
    }
    let mut rest = Bytes::copy_from_slice(&chunk);
    drop(chunk);
    release();
    writer.write_all_buf(&mut rest).await?;
    writer.flush().await
}
