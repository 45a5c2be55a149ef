//! One connection of a secondary to a primary.
//!
//! A task reads, and a blocking thread encodes and writes. A commit wakes this thread, which
//! writes to the socket itself, without another task in between. If the secondary does not
//! read, only this thread waits.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;

use super::shared::Shared;
use super::status::Peer;
use super::stream_writer::{StopOnDrop, StreamEnd, StreamWriter};
use crate::net::tls::{self, TlsServer};
use crate::proto::{ControlMessage, PrimaryEvent, PrimaryPeer};
use crate::replica::log_messages::{self, Side};
use crate::replica::{Divergence, Findings, StreamHandle, TransactionStream};
use zrs_ids::Tid;
use zrs_vfs::OsVfs;

/// Maximum time to wait until the peer closes its side of a closed connection.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// Why a connection ends.
enum End {
    /// The secondary closed it, or TLS failed.
    Lost(String),
    /// The network failed with this error.
    Broken(io::Error),
    /// The primary closes it.
    Closed,
}

/// A connection, plain or encrypted.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Socket for S {}

pub(super) struct Connection {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    /// Whether the start and end of the connection are logged.
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

    /// Encrypts the connection, or returns the reason of its end.
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
                self.peer.record_error("tls", message);
                let closed = self.closed();
                // The alert that reports the error to the secondary is still being sent.
                let (mut reader, mut writer) = tokio::io::split(socket);
                self.drain(&mut reader, &mut writer).await;
                Err(closed)
            }
            Err(_) => {
                self.handshake_timed_out();
                Err(self.closed())
            }
        }
    }

    /// Serves until the connection ends. Returns the reason.
    async fn serve<S: Socket>(&self, socket: S, deadline: Instant) -> String {
        let (mut reader, writer) = tokio::io::split(socket);
        let mut peer = PrimaryPeer::new(self.shared.feed.ships_blobs());
        let (end, writer) = tokio::select! {
            ended = self.serve_stream(&mut peer, &mut reader, writer, deadline) => ended,
            () = self.shared.abort.cancelled() => (End::Closed, None),
        };
        match end {
            End::Lost(reason) => reason,
            End::Broken(error) => {
                self.peer.record_error("network", error.to_string());
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

    /// Logs that this side closes the connection. Returns the reason for the log.
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

    /// Reads messages and writes the stream until the connection ends. Also returns the writer
    /// if the connection is not lost.
    async fn serve_stream<S: Socket>(
        &self,
        peer: &mut PrimaryPeer,
        reader: &mut (impl AsyncRead + Unpin),
        writer: WriteHalf<S>,
        deadline: Instant,
    ) -> (End, Option<WriteHalf<S>>) {
        let start = tokio::select! {
            () = self.shared.closing.cancelled() => Err(End::Closed),
            start = timeout_at(deadline, self.read_until_start(peer, reader, None)) => {
                start.unwrap_or_else(|_| {
                    self.handshake_timed_out();
                    Err(End::Closed)
                })
            }
        };
        let (start, offer) = match start {
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
        .with_heartbeat();
        let stop = StopOnDrop::new(stream.handle());
        if offer {
            stop.stream().capability_offered();
        }
        let runtime = &self.shared.runtime.tokio;
        let peer_counters = Arc::clone(&self.peer);
        let stream_writer =
            StreamWriter::new(stream, writer, peer_counters, &stop, runtime.clone());
        let mut written = runtime.spawn_blocking(move || stream_writer.run());
        let (end, written) = tokio::select! {
            written = &mut written => (End::Closed, written),
            end = self.read_messages(peer, reader, stop.stream()) => {
                drop(stop);
                (end, written.await)
            }
        };
        let Ok((ended, writer)) = written else {
            return (end, None);
        };
        (self.stream_ended(ended, end), Some(writer))
    }

    /// Records why the stream writer ended. Returns why the connection ends: for the same
    /// reason, or `end`.
    fn stream_ended(&self, ended: StreamEnd, end: End) -> End {
        match ended {
            StreamEnd::Done => end,
            StreamEnd::Lost(error) => self.lost(error),
            // The way in which the secondary closed the connection then is not an error.
            StreamEnd::Refused(divergence) => {
                self.peer.record_error("fork", divergence.to_string());
                End::Closed
            }
            StreamEnd::Failed(error) => {
                self.peer.record_error("stream", error.to_string());
                log_messages::stream_failed(self.findings(), self.name(), error);
                End::Closed
            }
        }
    }

    /// Records that the secondary has not completed the handshake in time.
    fn handshake_timed_out(&self) {
        let deadline = self.shared.options.handshake_deadline;
        self.peer.record_error(
            "handshake",
            log_messages::handshake_timed_out(self.findings(), self.name(), deadline),
        );
    }

    /// Records that the secondary uses TLS although this primary has no certificate.
    fn unexpected_tls(&self) -> End {
        let reason = "the secondary uses TLS, but this primary has no TLS configuration \
                      (--ssl-certificate or <ssl>)";
        let message = log_messages::tls_failed(self.findings(), Side::Primary, self.name(), reason);
        self.peer.record_error("tls", message);
        End::Closed
    }

    /// Reads messages up to the start tid. Returns it, and whether a capability offer arrived
    /// with it. `stream` is notified of a later offer.
    async fn read_until_start(
        &self,
        peer: &mut PrimaryPeer,
        reader: &mut (impl AsyncRead + Unpin),
        stream: Option<&StreamHandle>,
    ) -> Result<(Tid, bool), End> {
        // Large enough for a handshake with its capability offer.
        let mut buffer = [0; 256];
        loop {
            match peer.next_event() {
                Ok(Some(PrimaryEvent::Start { tid, offer })) => {
                    if self.logged {
                        log_messages::start(self.name(), tid);
                    }
                    return Ok((tid, offer));
                }
                Ok(Some(PrimaryEvent::CapabilityOffer)) => {
                    if let Some(stream) = stream {
                        stream.capability_offered();
                    }
                }
                Ok(Some(PrimaryEvent::ControlMessage(ControlMessage::List(after)))) => {
                    if let Some(stream) = stream {
                        stream.list(after);
                    }
                }
                Ok(Some(PrimaryEvent::ControlMessage(control_message))) => {
                    self.receive(&control_message)?;
                }
                Ok(Some(PrimaryEvent::KeepAlive)) => log_messages::keep_alive(self.name()),
                Ok(None) => match reader.read(&mut buffer).await {
                    Ok(0) => return Err(End::Lost("'connection closed by peer'".to_owned())),
                    Ok(count) => {
                        let data = buffer.get(..count).unwrap_or_default();
                        if self.peer.received() && tls::begins_tls(data) {
                            return Err(self.unexpected_tls());
                        }
                        peer.receive_data(data);
                    }
                    Err(error) => return Err(self.lost(error)),
                },
                Err(error) => {
                    self.peer.record_error("protocol", error.to_string());
                    log_messages::refused(self.findings(), self.name(), &error);
                    return Err(End::Closed);
                }
            }
        }
    }

    /// Handles a control message.
    fn receive(&self, control_message: &ControlMessage) -> Result<(), End> {
        match control_message {
            ControlMessage::At(tid) => {
                self.peer.acknowledged(*tid);
                Ok(())
            }
            ControlMessage::Named(name) => {
                self.peer.named(name);
                Ok(())
            }
            ControlMessage::Diverged(tid) => {
                let divergence = Divergence::Content(*tid);
                self.peer.record_error("fork", divergence.to_string());
                log_messages::fork(self.shared.feed.findings(), self.name(), divergence);
                Err(End::Closed)
            }
            // Handled by the caller, or sent only by primaries.
            ControlMessage::List(_)
            | ControlMessage::Hello { .. }
            | ControlMessage::Dropped(_)
            | ControlMessage::Heartbeat { .. }
            | ControlMessage::Refused { .. }
            | ControlMessage::Failed(_) => Ok(()),
        }
    }

    /// Reads keep-alives and control messages until the connection ends.
    async fn read_messages(
        &self,
        peer: &mut PrimaryPeer,
        reader: &mut (impl AsyncRead + Unpin),
        stream: &StreamHandle,
    ) -> End {
        loop {
            if let Err(end) = self.read_until_start(peer, reader, Some(stream)).await {
                return end;
            }
        }
    }

    /// Why a connection that failed while reading or writing ends.
    fn lost(&self, error: io::Error) -> End {
        match tls::reason(&error) {
            Some(reason) => {
                let message =
                    log_messages::tls_failed(self.findings(), Side::Primary, self.name(), reason);
                self.peer.record_error("tls", message);
            }
            // An encrypted connection that was closed without a TLS close notification.
            None if error.kind() == io::ErrorKind::UnexpectedEof => {}
            None => return End::Broken(error),
        }
        End::Lost(format!("'{error}'"))
    }

    /// Closes the sending side and waits until the secondary closes its own, so that no data in
    /// transit is lost. Stops at the server's deadline.
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
