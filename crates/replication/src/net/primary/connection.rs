//! One connection of a secondary to a primary.
//!
//! It is a task that reads, and a blocking thread that makes the bytes to write and writes
//! them: nobody has to be woken between the news of a commit and the socket. When the
//! secondary does not read, the thread waits, and nothing else does.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;

use super::shared::Shared;
use super::status::Peer;
use super::stream_writer::{Ended, Shipping, Stop};
use crate::net::tls::{self, TlsServer};
use crate::proto::{PrimaryEvent, PrimaryPeer, Remark};
use crate::replica::log_messages::{self, Side};
use crate::replica::{Divergence, Findings, StreamHandle, TransactionStream};
use zrs_ids::Tid;
use zrs_vfs::OsVfs;

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

/// A connection, plain or encrypted.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Socket for S {}

pub(super) struct Connection {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    /// Whether its beginning and its end are logged.
    logged: bool,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, peer: Arc<Peer>) -> Self {
        let findings = shared.feed.findings();
        let logged = log_messages::has_room(findings, log_messages::kinds::CONNECTIONS, &peer.name);
        Self {
            shared,
            peer,
            logged,
        }
    }

    pub(super) async fn run<S: Socket>(self, socket: S) {
        if self.logged {
            log_messages::connected(Side::Primary, self.name());
        }
        let deadline = Instant::now() + self.shared.options.handshake_deadline;
        let reason = match &self.shared.options.tls {
            None => self.serve(socket, deadline).await,
            Some(tls) => match self.encrypt(tls, socket, deadline).await {
                Ok(stream) => self.serve(stream, deadline).await,
                Err(reason) => reason,
            },
        };
        if self.logged {
            log_messages::disconnected(Side::Primary, self.name(), reason);
        }
    }

    /// Makes an encrypted connection of a plain one; otherwise returns how that ended.
    async fn encrypt<S: Socket>(
        &self,
        tls: &TlsServer,
        socket: S,
        deadline: Instant,
    ) -> Result<TlsStream<S>, String> {
        let accepted = tokio::select! {
            accepted = timeout_at(deadline, tls.accept(socket).into_fallible()) => accepted,
            () = self.shared.closing.cancelled() => return Err(self.closed()),
        };
        match accepted {
            Ok(Ok(stream)) => {
                self.peer.encrypted();
                Ok(stream)
            }
            Ok(Err((error, socket))) => {
                let reason = tls::handshake_reason(&error);
                let message =
                    log_messages::tls_failed(self.findings(), Side::Primary, self.name(), reason);
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
    async fn serve<S: Socket>(&self, socket: S, deadline: Instant) -> String {
        let (mut reader, writer) = tokio::io::split(socket);
        let mut peer = PrimaryPeer::new(self.shared.feed.ships_blobs());
        let (end, writer) = tokio::select! {
            ended = self.converse(&mut peer, &mut reader, writer, deadline) => ended,
            () = self.shared.abort.cancelled() => (End::Closed, None),
        };
        match end {
            End::Lost(reason) => reason,
            End::Broken(error) => {
                self.peer.trouble("network", error.to_string());
                format!("'{error}'")
            }
            End::Closed => {
                let reason = self.closed();
                if let Some(mut writer) = writer {
                    self.drain(&mut reader, &mut writer).await;
                }
                reason
            }
        }
    }

    /// Notes that this side closes the connection, and returns that as a reason.
    fn closed(&self) -> String {
        if self.logged {
            log_messages::closed(self.name());
        }
        "'connection closed'".to_owned()
    }

    fn findings(&self) -> &Findings {
        self.shared.feed.findings()
    }

    fn name(&self) -> &str {
        &self.peer.name
    }

    /// Listens and ships until the end; returns the sending side too, if it is not lost.
    async fn converse<S: Socket>(
        &self,
        peer: &mut PrimaryPeer,
        reader: &mut (impl AsyncRead + Unpin),
        writer: WriteHalf<S>,
        deadline: Instant,
    ) -> (End, Option<WriteHalf<S>>) {
        let start = tokio::select! {
            () = self.shared.closing.cancelled() => Err(End::Closed),
            start = timeout_at(deadline, self.listen(peer, reader, None)) => {
                start.unwrap_or_else(|_| {
                    self.too_slow();
                    Err(End::Closed)
                })
            }
        };
        let (start, knocked) = match start {
            Ok(start) => start,
            Err(end) => return (end, Some(writer)),
        };
        self.peer.started(start);
        let stream = TransactionStream::new(
            self.shared.feed.clone(),
            Arc::new(OsVfs),
            self.name().to_owned(),
            start,
            self.shared.options.dialect,
        )
        .with_pulse();
        let stop = Stop::new(stream.handle());
        if knocked {
            stop.stream().knocked();
        }
        let handle = &self.shared.host.handle;
        let peer_status = Arc::clone(&self.peer);
        let shipping = Shipping::new(stream, writer, peer_status, &stop, handle.clone());
        let mut shipped = handle.spawn_blocking(move || shipping.run());
        let (end, shipped) = tokio::select! {
            shipped = &mut shipped => (End::Closed, shipped),
            end = self.keep_listening(peer, reader, stop.stream()) => {
                drop(stop);
                (end, shipped.await)
            }
        };
        let Ok((ended, writer)) = shipped else {
            return (end, None);
        };
        (self.shipped(ended, end), Some(writer))
    }

    /// Notes how the shipping ended; the connection ends as it did, or with `end`.
    fn shipped(&self, ended: Ended, end: End) -> End {
        match ended {
            Ended::Done => end,
            Ended::Lost(error) => self.lost(error),
            // However it hung up when it heard of that: no error of the network's.
            Ended::Refused(divergence) => {
                self.peer.trouble("fork", divergence.to_string());
                End::Closed
            }
            Ended::Failed(error) => {
                self.peer.trouble("stream", error.to_string());
                log_messages::stream_failed(self.findings(), self.name(), error);
                End::Closed
            }
        }
    }

    /// Notes a connection that has not said in time where to start.
    fn too_slow(&self) {
        let deadline = self.shared.options.handshake_deadline;
        self.peer.trouble(
            "handshake",
            log_messages::too_slow(self.findings(), self.name(), deadline),
        );
    }

    /// Notes a secondary that speaks TLS without being asked to.
    fn speaks_tls(&self) -> End {
        let reason = "the secondary uses TLS, but this primary has no TLS configuration \
                      (--ssl-certificate or <ssl>)";
        let message = log_messages::tls_failed(self.findings(), Side::Primary, self.name(), reason);
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
                    if self.logged {
                        log_messages::start(self.name(), tid);
                    }
                    return Ok((tid, knocked));
                }
                Ok(Some(PrimaryEvent::Knocked)) => {
                    if let Some(stream) = stream {
                        stream.knocked();
                    }
                }
                Ok(Some(PrimaryEvent::Remark(Remark::List(after)))) => {
                    if let Some(stream) = stream {
                        stream.list(after);
                    }
                }
                Ok(Some(PrimaryEvent::Remark(remark))) => self.hear(&remark)?,
                Ok(Some(PrimaryEvent::KeepAlive)) => log_messages::keep_alive(self.name()),
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
                    log_messages::refused(self.findings(), self.name(), &error);
                    return Err(End::Closed);
                }
            }
        }
    }

    /// Takes in what a secondary of our own kind says.
    fn hear(&self, remark: &Remark) -> Result<(), End> {
        match remark {
            Remark::At(tid) => {
                self.peer.acknowledged(*tid);
                Ok(())
            }
            Remark::Named(name) => {
                self.peer.named(name);
                Ok(())
            }
            Remark::Diverged(tid) => {
                let divergence = Divergence::Content(*tid);
                self.peer.trouble("fork", divergence.to_string());
                log_messages::fork(self.shared.feed.findings(), self.name(), divergence);
                Err(End::Closed)
            }
            // Taken before, or a primary's own.
            Remark::List(_)
            | Remark::Hello { .. }
            | Remark::Dropped(_)
            | Remark::Pulse { .. }
            | Remark::Refused { .. }
            | Remark::Failed(_) => Ok(()),
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
                let message =
                    log_messages::tls_failed(self.findings(), Side::Primary, self.name(), reason);
                self.peer.trouble("tls", message);
            }
            // An encrypted connection that ends without the word that ends it.
            None if error.kind() == io::ErrorKind::UnexpectedEof => {}
            None => return End::Broken(error),
        }
        End::Lost(format!("'{error}'"))
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
