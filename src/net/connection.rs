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
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;

use super::primary::Shared;
use super::primary_status::Peer;
use super::tls::{self, TlsServer};
use crate::ids::Tid;
use crate::proto::{PrimaryEvent, PrimaryPeer, Remark};
use crate::replica::journal::{self, Side};
use crate::replica::{Divergence, StreamError, StreamHandle, StreamProgress, TransactionStream};
use crate::vfs::OsVfs;

/// Chunks made ahead of the socket.
const CHUNKS_AHEAD: usize = 2;
/// How long a closed connection may linger when the peer does not close its side.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// Why a connection ends.
enum End {
    /// The secondary closed it, or TLS did.
    Lost(String),
    /// The network did, with this error.
    Broken(io::Error),
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

    pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(self, socket: S) {
        journal::connected(Side::Primary, self.name());
        let deadline = Instant::now() + self.shared.options.handshake_deadline;
        let reason = match &self.shared.options.tls {
            None => self.serve(socket, deadline).await,
            Some(tls) => match self.encrypt(tls, socket, deadline).await {
                Ok(stream) => self.serve(stream, deadline).await,
                Err(reason) => reason,
            },
        };
        journal::disconnected(Side::Primary, self.name(), reason);
    }

    /// Makes an encrypted connection of a plain one; otherwise returns how that ended.
    async fn encrypt<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        tls: &TlsServer,
        socket: S,
        deadline: Instant,
    ) -> Result<TlsStream<S>, String> {
        let accepted = tokio::select! {
            accepted = timeout_at(deadline, tls.acceptor().accept(socket).into_fallible()) => accepted,
            () = self.shared.closing.cancelled() => return Err(self.closed()),
        };
        match accepted {
            Ok(Ok(stream)) => {
                self.peer.encrypted();
                Ok(stream)
            }
            Ok(Err((error, socket))) => {
                let reason = tls::handshake_reason(&error);
                let message = journal::tls_failed(Side::Primary, self.name(), reason);
                self.peer.trouble("tls", message);
                let closed = self.closed();
                // The alert that tells the secondary why is still on its way.
                let (mut reader, mut writer) = tokio::io::split(socket);
                self.drain(&mut reader, &mut writer).await;
                Err(closed)
            }
            Err(_) => {
                self.too_slow();
                Err(self.closed())
            }
        }
    }

    /// Serves until the end, and returns the reason of that.
    async fn serve<S: AsyncRead + AsyncWrite>(&self, socket: S, deadline: Instant) -> String {
        let (mut reader, mut writer) = tokio::io::split(socket);
        let mut peer = PrimaryPeer::new(self.shared.feed.ships_blobs());
        let end = tokio::select! {
            end = self.converse(&mut peer, &mut reader, &mut writer, deadline) => end,
            () = self.shared.abort.cancelled() => End::Closed,
        };
        match end {
            End::Lost(reason) => reason,
            End::Broken(error) => {
                self.peer.trouble("network", error.to_string());
                format!("'{error}'")
            }
            End::Closed => {
                let reason = self.closed();
                self.drain(&mut reader, &mut writer).await;
                reason
            }
        }
    }

    /// Notes that this side closes the connection, and returns that as a reason.
    fn closed(&self) -> String {
        journal::closed(self.name());
        "'connection closed'".to_owned()
    }

    fn name(&self) -> &str {
        &self.peer.name
    }

    async fn converse(
        &self,
        peer: &mut PrimaryPeer,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
        deadline: Instant,
    ) -> End {
        let start = tokio::select! {
            () = self.shared.closing.cancelled() => return End::Closed,
            start = timeout_at(deadline, self.listen(peer, reader, None)) => match start {
                Ok(Ok(start)) => start,
                Ok(Err(end)) => return end,
                Err(_) => {
                    self.too_slow();
                    return End::Closed;
                }
            },
        };
        let (start, knocked) = start;
        self.peer.started(start);
        let stream = TransactionStream::new(
            self.shared.feed.clone(),
            Arc::new(OsVfs),
            self.name().to_owned(),
            start,
            self.shared.options.dialect,
        );
        let stop = StopOnDrop(stream.handle());
        if knocked {
            stop.0.knocked();
        }
        let (chunks, to_send) = mpsc::channel(CHUNKS_AHEAD);
        let making = self
            .shared
            .host
            .handle
            .spawn_blocking(move || make_chunks(stream, &chunks));
        let end = tokio::select! {
            end = self.send(to_send, writer) => end,
            end = self.keep_listening(peer, reader, &stop.0) => end,
        };
        drop(stop);
        match making.await {
            // However it hung up when it heard of that: no error of the network's.
            Ok(Ok(Some(divergence))) => {
                self.peer.trouble("fork", divergence.to_string());
                End::Closed
            }
            Ok(Err(error)) => {
                self.peer.trouble("stream", error.to_string());
                journal::stream_failed(self.name(), error);
                End::Closed
            }
            _ => end,
        }
    }

    /// Notes a connection that has not said in time where to start.
    fn too_slow(&self) {
        let deadline = self.shared.options.handshake_deadline;
        self.peer
            .trouble("handshake", journal::too_slow(self.name(), deadline));
    }

    /// Notes a secondary that speaks TLS without being asked to.
    fn speaks_tls(&self) -> End {
        let reason = "it speaks TLS, and this primary has no certificate";
        let message = journal::tls_failed(Side::Primary, self.name(), reason);
        self.peer.trouble("tls", message);
        End::Closed
    }

    /// Reads up to the start tid, and whether the secondary has knocked by then; `stream`
    /// is told when it knocks later.
    async fn listen(
        &self,
        peer: &mut PrimaryPeer,
        reader: &mut (impl AsyncRead + Unpin),
        stream: Option<&StreamHandle>,
    ) -> Result<(Tid, bool), End> {
        // Room for a handshake and its knock in one piece.
        let mut buffer = [0; 256];
        loop {
            match peer.next_event() {
                Ok(Some(PrimaryEvent::Start { tid, knocked })) => {
                    journal::start(self.name(), tid);
                    return Ok((tid, knocked));
                }
                Ok(Some(PrimaryEvent::Knocked)) => {
                    if let Some(stream) = stream {
                        stream.knocked();
                    }
                }
                Ok(Some(PrimaryEvent::Remark(remark))) => self.hear(&remark)?,
                Ok(Some(PrimaryEvent::KeepAlive)) => journal::keep_alive(self.name()),
                Ok(None) => match reader.read(&mut buffer).await {
                    Ok(0) => return Err(End::Lost("'connection closed by peer'".to_owned())),
                    Ok(count) => {
                        let data = buffer.get(..count).unwrap_or_default();
                        if self.peer.heard() && tls::begins_tls(data) {
                            return Err(self.speaks_tls());
                        }
                        peer.receive_data(data);
                    }
                    Err(error) => return Err(self.lost(error)),
                },
                Err(error) => {
                    self.peer.trouble("protocol", error.to_string());
                    journal::refused(self.name(), &error);
                    return Err(End::Closed);
                }
            }
        }
    }

    /// Takes in what a secondary of our own kind says.
    fn hear(&self, remark: &Remark) -> Result<(), End> {
        match *remark {
            Remark::At(tid) => {
                self.peer.acknowledged(tid);
                Ok(())
            }
            Remark::Diverged(tid) => {
                let divergence = Divergence::Content(tid);
                self.peer.trouble("fork", divergence.to_string());
                journal::fork(self.shared.feed.findings(), self.name(), divergence);
                Err(End::Closed)
            }
            // A primary's own.
            Remark::Hello { .. } | Remark::Refused { .. } => Ok(()),
        }
    }

    /// Reads keep-alives and remarks for as long as the connection lasts.
    async fn keep_listening(
        &self,
        peer: &mut PrimaryPeer,
        reader: &mut (impl AsyncRead + Unpin),
        stream: &StreamHandle,
    ) -> End {
        loop {
            if let Err(end) = self.listen(peer, reader, Some(stream)).await {
                return end;
            }
        }
    }

    /// Why a connection ends that cannot be read or written any more.
    fn lost(&self, error: io::Error) -> End {
        match tls::reason(&error) {
            Some(reason) => {
                let message = journal::tls_failed(Side::Primary, self.name(), reason);
                self.peer.trouble("tls", message);
            }
            // An encrypted connection that ends without the word that ends it.
            None if error.kind() == io::ErrorKind::UnexpectedEof => {}
            None => return End::Broken(error),
        }
        End::Lost(format!("'{error}'"))
    }

    /// Sends chunks until there will be no more.
    async fn send(
        &self,
        mut chunks: mpsc::Receiver<Chunk>,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> End {
        while let Some((chunk, progress)) = chunks.recv().await {
            if let Err(error) = write(writer, &chunk).await {
                return self.lost(error);
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
struct StopOnDrop(StreamHandle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Makes chunks until there will be no more; the fork because of which there were none, if
/// there was one.
fn make_chunks(
    mut stream: TransactionStream,
    chunks: &mpsc::Sender<Chunk>,
) -> Result<Option<Divergence>, StreamError> {
    while let Some(chunk) = stream.next_chunk()? {
        if chunks.blocking_send((chunk, stream.progress())).is_err() {
            break;
        }
    }
    Ok(stream.refusal())
}
