//! A primary's sockets.
//!
//! Each connection is a task that reads and writes, and a blocking thread that makes the
//! bytes to write. The channel between them holds two chunks: when the secondary does not
//! read, the thread waits, and nothing else does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::addr::{Address, Listener, peer_name, unix_peer_name};
use super::runtime::{self, Host};
use crate::ids::Tid;
use crate::pickle::Dialect;
use crate::proto::{PrimaryEvent, PrimaryPeer};
use crate::replica::journal::{self, Side};
use crate::replica::{Feed, StopHandle, StreamError, TransactionStream};
use crate::vfs::{self, OsVfs};

/// Chunks made ahead of the socket.
const CHUNKS_AHEAD: usize = 2;
/// How long to wait after `accept` failed, for lack of file descriptors for example.
const ACCEPT_DELAY: Duration = Duration::from_millis(100);
/// How long a closed connection may linger when the peer does not close its side.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// Serves a feed to whoever connects.
pub struct PrimaryServer {
    shared: Arc<Shared>,
    address: Address,
    tasks: TaskTracker,
}

struct Shared {
    host: Host,
    feed: Arc<Feed>,
    dialect: Dialect,
    connections: AtomicUsize,
    /// No new connections; those that stream may finish.
    closing: CancellationToken,
    /// No more of anything.
    abort: CancellationToken,
}

impl PrimaryServer {
    /// Binds and begins to serve.
    ///
    /// # Errors
    /// The system's, if the address cannot be had.
    pub fn bind(feed: Arc<Feed>, address: &Address, dialect: Dialect) -> io::Result<Self> {
        let host = runtime::host()?;
        let (listener, bound) = address.listen()?;
        let shared = Arc::new(Shared {
            feed,
            dialect,
            connections: AtomicUsize::new(0),
            closing: host.exit.child_token(),
            abort: host.exit.child_token(),
            host,
        });
        let tasks = TaskTracker::new();
        let accept = Accept {
            shared: shared.clone(),
            tasks: tasks.clone(),
        };
        let entered = shared.host.handle.enter();
        match listener {
            Listener::Tcp(listener) => {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                tasks.spawn_on(accept.tcp(listener), &shared.host.handle);
            }
            Listener::Unix(listener) => {
                let listener = tokio::net::UnixListener::from_std(listener)?;
                tasks.spawn_on(accept.unix(listener, bound.clone()), &shared.host.handle);
            }
        }
        drop(entered);
        Ok(Self {
            shared,
            address: bound,
            tasks,
        })
    }

    /// The bound address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// Stops listening, lets streams ship what was published, and ends all of them after
    /// `deadline`. In a process that was forked off it does nothing.
    pub fn close(&self, deadline: Duration) {
        if !self.shared.host.is_current() {
            return;
        }
        self.shared.feed.finish();
        self.shared.closing.cancel();
        self.tasks.close();
        let (tasks, abort) = (self.tasks.clone(), self.shared.abort.clone());
        let waited = self.shared.host.handle.spawn(async move {
            if tokio::time::timeout(deadline, tasks.wait()).await.is_err() {
                abort.cancel();
                tasks.wait().await;
            }
        });
        // An error means that the runtime has gone, and the tasks with it.
        let _ = runtime::block_on(&self.shared.host, waited);
        if let Address::Unix(path) = &self.address {
            // Another process may have removed it: then there is nothing to do.
            let _ = vfs::os::remove_socket(path);
        }
    }
}

struct Accept {
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

impl Accept {
    async fn tcp(self, listener: tokio::net::TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.shared.closing.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, address)) => {
                    // Without it small transactions wait for acknowledgements.
                    let _ = socket.set_nodelay(true);
                    self.serve(socket, peer_name(address));
                }
                Err(error) => pause_accepting(&error).await,
            }
        }
    }

    async fn unix(self, listener: tokio::net::UnixListener, address: Address) {
        let Address::Unix(path) = address else { return };
        loop {
            let accepted = tokio::select! {
                () = self.shared.closing.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, _)) => self.serve(socket, unix_peer_name(&path)),
                Err(error) => pause_accepting(&error).await,
            }
        }
    }

    fn serve<S>(&self, socket: S, name: String)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let connection = Connection {
            shared: self.shared.clone(),
            name,
        };
        self.tasks
            .spawn_on(connection.run(socket), &self.shared.host.handle);
    }
}

async fn pause_accepting(error: &io::Error) {
    log::error!(target: journal::REACTOR, "cannot accept a connection: {error}");
    tokio::time::sleep(ACCEPT_DELAY).await;
}

/// Why a connection ends.
enum End {
    /// The secondary closed it, or the network did.
    Lost(String),
    /// We close it.
    Closed,
}

struct Connection {
    shared: Arc<Shared>,
    name: String,
}

impl Connection {
    async fn run<S: AsyncRead + AsyncWrite>(self, socket: S) {
        self.shared.connections.fetch_add(1, Ordering::AcqRel);
        journal::connected(Side::Primary, &self.name);
        let (mut reader, mut writer) = tokio::io::split(socket);
        let mut peer = PrimaryPeer::new(self.shared.feed.ships_blobs());
        let end = tokio::select! {
            end = self.converse(&mut peer, &mut reader, &mut writer) => end,
            () = self.shared.abort.cancelled() => End::Closed,
        };
        let reason = match end {
            End::Lost(reason) => reason,
            End::Closed => {
                journal::closed(&self.name);
                self.drain(&mut reader, &mut writer).await;
                "'connection closed'".to_owned()
            }
        };
        journal::disconnected(Side::Primary, &self.name, reason);
        self.shared.connections.fetch_sub(1, Ordering::AcqRel);
    }

    async fn converse(
        &self,
        peer: &mut PrimaryPeer,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> End {
        let start = tokio::select! {
            () = self.shared.closing.cancelled() => return End::Closed,
            start = self.listen(peer, reader) => match start {
                Ok(start) => start,
                Err(end) => return end,
            },
        };
        let stream = TransactionStream::new(
            self.shared.feed.clone(),
            Arc::new(OsVfs),
            start,
            self.shared.dialect,
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
                journal::stream_failed(&self.name, error);
                End::Closed
            }
            _ => end,
        }
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
                    journal::start(&self.name, start);
                    return Ok(start);
                }
                Ok(Some(PrimaryEvent::KeepAlive)) => journal::keep_alive(&self.name),
                Ok(None) => match reader.read(&mut buffer).await {
                    Ok(0) => return Err(End::Lost("'connection closed by peer'".to_owned())),
                    Ok(count) => peer.receive_data(buffer.get(..count).unwrap_or_default()),
                    Err(error) => return Err(End::Lost(format!("'{error}'"))),
                },
                Err(error) => {
                    journal::refused(&self.name, &error);
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
        mut chunks: mpsc::Receiver<Bytes>,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> End {
        while let Some(chunk) = chunks.recv().await {
            if let Err(error) = writer.write_all(&chunk).await {
                return End::Lost(format!("'{error}'"));
            }
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

/// Ends a stream when its connection does, however that ends.
struct StopOnDrop(StopHandle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn make_chunks(
    mut stream: TransactionStream,
    chunks: &mpsc::Sender<Bytes>,
) -> Result<(), StreamError> {
    while let Some(chunk) = stream.next_chunk()? {
        if chunks.blocking_send(chunk).is_err() {
            break;
        }
    }
    Ok(())
}
