//! The blocking thread of a primary's connection, which encodes transactions and writes them.

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

/// While a write takes longer than this, the thread releases its buffers.
const MEMORY_DELAY: Duration = Duration::from_millis(5);

/// Why a stream writer ended.
pub(super) enum StreamEnd {
    /// The stream has ended, or it was stopped.
    Done,
    /// The connection is lost.
    Lost(io::Error),
    /// The secondary was refused, because the histories have diverged.
    Refused(Divergence),
    /// The stream cannot continue.
    Failed(StreamError),
}

/// Stops the stream writer when it is dropped, so on every way that a connection can end.
pub(super) struct StopOnDrop {
    stream: StreamHandle,
    stopped: CancellationToken,
}

impl StopOnDrop {
    pub(super) fn new(stream: StreamHandle) -> Self {
        let stopped = CancellationToken::new();
        Self { stream, stopped }
    }

    pub(super) fn stream(&self) -> &StreamHandle {
        &self.stream
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.stream.stop();
        self.stopped.cancel();
    }
}

/// Writes a stream to a socket.
pub(super) struct StreamWriter<W> {
    stream: TransactionStream,
    writer: W,
    peer: Arc<Peer>,
    /// Cancels a write.
    stopped: CancellationToken,
    runtime: Handle,
}

impl<W: AsyncWrite + Unpin> StreamWriter<W> {
    pub(super) fn new(
        stream: TransactionStream,
        writer: W,
        peer: Arc<Peer>,
        stop: &StopOnDrop,
        runtime: Handle,
    ) -> Self {
        let stopped = stop.stopped.clone();
        Self {
            stream,
            writer,
            peer,
            stopped,
            runtime,
        }
    }

    /// Writes chunks until the stream ends. Also returns the socket.
    pub(super) fn run(mut self) -> (StreamEnd, W) {
        let ended = loop {
            let chunk = match self.stream.next_chunk() {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break StreamEnd::Done,
                Err(error) => break StreamEnd::Failed(error),
            };
            let length = chunk.len();
            match self.write(chunk) {
                Some(Ok(())) => self.peer.sent(self.stream.progress(), length),
                Some(Err(error)) => break StreamEnd::Lost(error),
                None => break StreamEnd::Done,
            }
        };
        let ended = match (self.stream.refusal(), ended) {
            (Some(divergence), StreamEnd::Done | StreamEnd::Lost(_)) => {
                StreamEnd::Refused(divergence)
            }
            (_, ended) => ended,
        };
        (ended, self.writer)
    }

    /// Writes a chunk and flushes; `None` if stopped before it was written.
    fn write(&mut self, chunk: Bytes) -> Option<io::Result<()>> {
        let (writer, stream) = (&mut self.writer, &mut self.stream);
        let written = write_all(writer, chunk, || stream.release_memory());
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                written = written => Some(written),
                () = self.stopped.cancelled() => None,
            }
        })
    }
}

/// Writes a chunk and flushes. After [`MEMORY_DELAY`] calls `release`, and keeps only the rest
/// of the chunk in memory.
async fn write_all(
    writer: &mut (impl AsyncWrite + Unpin),
    mut chunk: Bytes,
    release: impl FnOnce(),
) -> io::Result<()> {
    // Both futures can only be dropped between two writes, so no byte is written twice.
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
