//! One connection of a secondary to a primary.
//!
//! It is a task that reads and writes, and a blocking thread that makes the bytes to
//! write. The channel between them holds two chunks: when the secondary does not read, the
//! thread waits, and nothing else does.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::primary::Shared;
use super::primary_status::Peer;
use crate::ids::Tid;
use crate::proto::{PrimaryEvent, PrimaryPeer};
use crate::replica::journal::{self, Side};
use crate::replica::{StopHandle, StreamError, StreamProgress, TransactionStream};
use crate::vfs::OsVfs;

/// Chunks made ahead of the socket.
const CHUNKS_AHEAD: usize = 2;
/// How long a closed connection may linger when the peer does not close its side.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// Why a connection ends.
enum End {
    /// The secondary closed it, or the network did.
    Lost(String),
    /// We close it.
    Closed,
}

/// Bytes to send, and how far the stream has come with them.
type Chunk = (Bytes, StreamProgress);

pub(super) struct Connection {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, peer: Arc<Peer>) -> Self {
        Self { shared, peer }
    }

    pub(super) async fn run<S: AsyncRead + AsyncWrite>(self, socket: S) {
        journal::connected(Side::Primary, self.name());
        let (mut reader, mut writer) = tokio::io::split(socket);
        let mut peer = PrimaryPeer::new(self.shared.feed.ships_blobs());
        let end = tokio::select! {
            end = self.converse(&mut peer, &mut reader, &mut writer) => end,
            () = self.shared.abort.cancelled() => End::Closed,
        };
        let reason = match end {
            End::Lost(reason) => reason,
            End::Closed => {
                journal::closed(self.name());
                self.drain(&mut reader, &mut writer).await;
                "'connection closed'".to_owned()
            }
        };
        journal::disconnected(Side::Primary, self.name(), reason);
    }

    fn name(&self) -> &str {
        &self.peer.name
    }

    async fn converse(
        &self,
        peer: &mut PrimaryPeer,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> End {
        let deadline = self.shared.options.handshake_deadline;
        let start = tokio::select! {
            () = self.shared.closing.cancelled() => return End::Closed,
            start = timeout(deadline, self.listen(peer, reader)) => match start {
                Ok(Ok(start)) => start,
                Ok(Err(end)) => return end,
                Err(_) => return self.too_slow(),
            },
        };
        self.peer.started(start);
        let stream = TransactionStream::new(
            self.shared.feed.clone(),
            Arc::new(OsVfs),
            start,
            self.shared.options.dialect,
        );
        let stop = StopOnDrop(stream.stop_handle());
        let (chunks, to_send) = mpsc::channel(CHUNKS_AHEAD);
        let making = self
            .shared
            .host
            .handle
            .spawn_blocking(move || make_chunks(stream, &chunks));
        let end = tokio::select! {
            end = self.send(to_send, writer) => end,
            end = self.keep_listening(peer, reader) => end,
        };
        drop(stop);
        match making.await {
            Ok(Err(error)) => {
                self.peer.trouble("stream", error.to_string());
                journal::stream_failed(self.name(), error);
                End::Closed
            }
            _ => end,
        }
    }

    /// Ends a connection that has not said in time where to start.
    fn too_slow(&self) -> End {
        let deadline = self.shared.options.handshake_deadline;
        self.peer
            .trouble("handshake", journal::too_slow(self.name(), deadline));
        End::Closed
    }

    /// Reads up to the start tid.
    async fn listen(
        &self,
        peer: &mut PrimaryPeer,
        reader: &mut (impl AsyncRead + Unpin),
    ) -> Result<Tid, End> {
        let mut buffer = [0; 64];
        loop {
            match peer.next_event() {
                Ok(Some(PrimaryEvent::Start(start))) => {
                    journal::start(self.name(), start);
                    return Ok(start);
                }
                Ok(Some(PrimaryEvent::KeepAlive)) => journal::keep_alive(self.name()),
                Ok(None) => match reader.read(&mut buffer).await {
                    Ok(0) => return Err(End::Lost("'connection closed by peer'".to_owned())),
                    Ok(count) => {
                        self.peer.heard();
                        peer.receive_data(buffer.get(..count).unwrap_or_default());
                    }
                    Err(error) => return Err(End::Lost(format!("'{error}'"))),
                },
                Err(error) => {
                    self.peer.trouble("protocol", error.to_string());
                    journal::refused(self.name(), &error);
                    return Err(End::Closed);
                }
            }
        }
    }

    /// Reads keep-alives for as long as the connection lasts.
    async fn keep_listening(
        &self,
        peer: &mut PrimaryPeer,
        reader: &mut (impl AsyncRead + Unpin),
    ) -> End {
        loop {
            if let Err(end) = self.listen(peer, reader).await {
                return end;
            }
        }
    }

    /// Sends chunks until there will be no more.
    async fn send(
        &self,
        mut chunks: mpsc::Receiver<Chunk>,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> End {
        while let Some((chunk, progress)) = chunks.recv().await {
            if let Err(error) = write(writer, &chunk).await {
                return End::Lost(format!("'{error}'"));
            }
            self.peer.sent(progress, chunk.len());
        }
        End::Closed
    }

    /// Ends the sending side and waits for the secondary to end its own, so that nothing on
    /// the way is lost; not beyond the server's deadline.
    async fn drain(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) {
        let drain = async {
            let mut rest = [0; 64];
            if writer.shutdown().await.is_ok() {
                while matches!(reader.read(&mut rest).await, Ok(count) if count > 0) {}
            }
        };
        tokio::select! {
            () = drain => {}
            () = self.shared.abort.cancelled() => {}
            () = tokio::time::sleep(DRAIN_DEADLINE) => {}
        }
    }
}

/// Writes all, and does not leave it in a buffer.
async fn write(writer: &mut (impl AsyncWrite + Unpin), chunk: &[u8]) -> io::Result<()> {
    writer.write_all(chunk).await?;
    writer.flush().await
}

/// Ends a stream when its connection does, however that ends.
struct StopOnDrop(StopHandle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn make_chunks(
    mut stream: TransactionStream,
    chunks: &mpsc::Sender<Chunk>,
) -> Result<(), StreamError> {
    while let Some(chunk) = stream.next_chunk()? {
        if chunks.blocking_send((chunk, stream.progress())).is_err() {
            break;
        }
    }
    Ok(())
}
