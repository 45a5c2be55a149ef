//! The secondary's connection loop: connect, read, reconnect.
//!
//! One task connects, reads, checks and reconnects. During a connection a blocking thread
//! applies what was read. The queue between them is bounded: if the storage is slow, the task
//! stops reading, and TCP flow control slows the primary down.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

use super::apply_queue::{self, ApplyTask, Diverged, EventSender};
use super::connect::{self, CONNECT_TIMEOUT};
use super::retry_delay::RetryDelay;
use super::sending::{Pending, close, send, send_pending};
use super::status::{SecondaryCounters, SecondaryState, SecondaryStatus};
use super::target::{Next, Target, Targets};
use crate::net::addr::{Address, peer_name, unix_peer_name};
use crate::net::keep_alive as tcp_keep_alive;
use crate::net::runtime::{self, RuntimeHandle};
use crate::net::tls::{self, TlsClient};
use crate::proto::{NodeName, SecondaryPeer};
use crate::replica::log_messages::{self, Side};
use crate::replica::{Findings, ReplicaStorage};

/// Maximum size of one read, in bytes.
const READ_LENGTH: usize = 1 << 17;
/// Minimum free space for a read, in bytes.
const LEAST_READ: usize = 1 << 14;
/// Timeout for closing the sending side of a connection.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(100);
/// Minimum delay before reconnecting to a primary whose history has diverged.
const DIVERGED_DELAY: Duration = Duration::from_secs(600);
/// Ratio of that delay to the maximum of other delays.
const DIVERGED_FACTOR: u32 = 10;

/// The reason, in the log, of a disconnection by the primary.
const CLOSED_BY_PEER: &str = "'connection closed by peer'";

/// Options of a secondary.
#[derive(Clone, Debug)]
pub struct SecondaryOptions {
    /// Maximum delay before reconnecting. The first delays are shorter.
    pub reconnect_delay: Duration,
    /// Whether a wrong checksum is an error.
    pub check_checksums: bool,
    /// Time between keep-alive messages; `None` disables them.
    pub keep_alive_delay: Option<Duration>,
    /// The certificates of an encrypted connection; `None` for a plain connection.
    pub tls: Option<TlsClient>,
    /// The name that the secondary reports to zrs primaries.
    pub node_name: Option<NodeName>,
}

impl SecondaryOptions {
    /// Delay before reconnecting to primaries whose histories have diverged, which only an
    /// administrator can resolve.
    fn diverged_delay(&self) -> Duration {
        let longer = self.reconnect_delay.saturating_mul(DIVERGED_FACTOR);
        longer.max(DIVERGED_DELAY)
    }
}

/// Replicates a primary into a storage.
pub struct SecondaryClient {
    runtime: RuntimeHandle,
    target: watch::Sender<Target>,
    counters: Arc<SecondaryCounters>,
    tasks: TaskTracker,
}

impl SecondaryClient {
    /// Starts to replicate from one of `addresses`. `storage` creates the storage of each
    /// connection.
    ///
    /// # Errors
    /// The error of the system, if threads cannot be created.
    pub fn start<S, F>(
        storage: F,
        addresses: Vec<Address>,
        options: SecondaryOptions,
    ) -> io::Result<Self>
    where
        S: ReplicaStorage + 'static,
        F: Fn() -> S + Clone + Send + Sync + 'static,
    {
        let runtime = runtime::current()?;
        let (target, targets) = watch::channel(Target {
            addresses,
            stay: false,
            moves: 0,
            closed: false,
        });
        let counters = Arc::new(SecondaryCounters::new());
        let tasks = TaskTracker::new();
        let client = Client {
            runtime: runtime.clone(),
            targets: Targets::new(targets),
            storage,
            retry_delay: RetryDelay::new(options.reconnect_delay),
            options,
            counters: counters.clone(),
            findings: Arc::default(),
        };
        tasks.spawn_on(client.run(), &runtime.tokio);
        tasks.close();
        Ok(Self {
            runtime,
            target,
            counters,
            tasks,
        })
    }

    /// Disconnects from the current primary and connects to this address at once.
    pub fn set_address(&self, address: Address) {
        self.target.send_modify(|target| {
            target.addresses = vec![address];
            target.moves += 1;
        });
    }

    /// Replaces the addresses of the primary. A connection to one of them is kept. Any other is
    /// closed, and the first address that answers is used. Without addresses and with `stay`,
    /// the connection is kept until it ends.
    pub fn set_addresses(&self, addresses: Vec<Address>, stay: bool) {
        self.target.send_if_modified(|target| {
            let changed = target.addresses != addresses || target.stay != stay;
            target.addresses = addresses;
            target.stay = stay;
            changed
        });
    }

    /// Whether the client is connected.
    pub fn is_connected(&self) -> bool {
        self.counters.is_connected()
    }

    /// The client's state.
    pub fn status(&self) -> SecondaryStatus {
        self.counters.status()
    }

    /// Disconnects, and waits until the storage is no longer used. Does nothing in a forked
    /// child.
    pub fn close(&self) {
        if !self.runtime.is_current() {
            return;
        }
        self.target.send_modify(|target| target.closed = true);
        let tasks = self.tasks.clone();
        let waited = self.runtime.tokio.spawn(async move { tasks.wait().await });
        // An error means that the runtime, and with it the tasks, has ended.
        let _ = runtime::block_on(&self.runtime, waited);
    }
}

struct Client<F> {
    runtime: RuntimeHandle,
    targets: Targets,
    storage: F,
    options: SecondaryOptions,
    retry_delay: RetryDelay,
    counters: Arc<SecondaryCounters>,
    /// The forks that were detected.
    findings: Arc<Findings>,
}

/// Why a session ended.
enum End {
    /// The connection was lost or closed, for this reason in the log.
    Over(String),
    /// The connection was closed because the histories have diverged.
    Diverged,
    /// The client had to leave the address.
    Left,
}

impl<S, F> Client<F>
where
    S: ReplicaStorage + 'static,
    F: Fn() -> S + Clone + Send + Sync + 'static,
{
    async fn run(mut self) {
        // Whether every address tried since the last pause has a diverged history.
        let mut forks_only = true;
        loop {
            let next = self.targets.next(&self.runtime);
            let (delay, state) = match next {
                Next::Connect(address) => {
                    self.counters.without_connection(SecondaryState::Connecting);
                    match self.attempt(&address).await {
                        End::Left => {
                            forks_only = true;
                            self.restart();
                        }
                        End::Over(_) => {
                            forks_only = false;
                            self.targets.failed();
                        }
                        End::Diverged => self.targets.failed(),
                    }
                    continue;
                }
                Next::Pause if forks_only => (
                    Some(self.options.diverged_delay()),
                    SecondaryState::Diverged,
                ),
                Next::Pause => (Some(self.retry_delay.advance()), SecondaryState::Waiting),
                Next::Wait => (None, SecondaryState::Waiting),
                Next::End => break,
            };
            forks_only = true;
            self.counters.without_connection(state);
            tokio::select! {
                () = pause(delay) => self.targets.resume(),
                () = self.targets.changed(&self.runtime) => self.restart(),
            }
        }
        self.counters.without_connection(SecondaryState::Stopped);
    }

    /// Starts again with the first address and the first delay.
    fn restart(&mut self) {
        self.targets.restart();
        self.retry_delay.reset();
    }

    async fn attempt(&mut self, address: &Address) -> End {
        let attempted = match address {
            Address::Tcp { host, port } => self.attempt_tcp(address, host, *port).await,
            Address::Unix(path) => match self.connect(UnixStream::connect(path)).await {
                Ok(Some(socket)) => Ok(self
                    .start_session(socket, address, unix_peer_name(path))
                    .await),
                Ok(None) => Ok(End::Left),
                Err(error) => Err(error),
            },
        };
        attempted.unwrap_or_else(|error| {
            self.counters
                .cannot_connect(address.to_string(), error.to_string());
            log_messages::cannot_connect(address, &error);
            End::Over(error.to_string())
        })
    }

    async fn attempt_tcp(&mut self, address: &Address, host: &str, port: u16) -> io::Result<End> {
        let host = if host.is_empty() { "localhost" } else { host };
        let Some(socket) = self.unless_leaving(connect::to_host(host, port)).await? else {
            return Ok(End::Left);
        };
        // Otherwise keep-alives are delayed until the previous data is acknowledged.
        let _ = socket.set_nodelay(true);
        tcp_keep_alive::enable(&socket);
        let peer = socket.peer_addr()?;
        Ok(self.start_session(socket, address, peer_name(peer)).await)
    }

    /// Encrypts the connection if TLS is configured, and runs the session.
    async fn start_session<T>(&mut self, socket: T, address: &Address, name: String) -> End
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let Some(tls) = self.options.tls.clone() else {
            return self.session(socket, name, false).await;
        };
        let server = match tls.name_at(address) {
            Ok(server) => server,
            Err(error) => return self.tls_failed(&name, error.to_string()),
        };
        match self.connect(tls.connector().connect(server, socket)).await {
            Ok(Some(stream)) => self.session(stream, name, true).await,
            Ok(None) => End::Left,
            Err(error) => self.tls_failed(&name, tls::handshake_reason(&error)),
        }
    }

    fn tls_failed(&self, name: &str, reason: String) -> End {
        let message = log_messages::tls_failed(&self.findings, Side::Secondary, name, &reason);
        self.counters.record_error("tls", name, message);
        End::Over(reason)
    }

    /// Connects, with a timeout; `None` if the client has to leave first.
    async fn connect<T>(
        &mut self,
        connecting: impl Future<Output = io::Result<T>>,
    ) -> io::Result<Option<T>> {
        self.unless_leaving(connect::within(CONNECT_TIMEOUT, connecting))
            .await
    }

    /// Connects; `None` if the client has to leave first.
    async fn unless_leaving<T>(
        &mut self,
        connecting: impl Future<Output = io::Result<T>>,
    ) -> io::Result<Option<T>> {
        tokio::select! {
            connected = connecting => connected.map(Some),
            () = self.targets.leave(&self.runtime) => Ok(None),
        }
    }

    async fn session<T>(&mut self, socket: T, name: String, tls: bool) -> End
    where
        T: AsyncRead + AsyncWrite,
    {
        let begun = Instant::now();
        log_messages::connected(Side::Secondary, &name);
        self.counters.connected(name.clone(), tls);
        let (sender, receiver) = apply_queue::channel();
        let (peer_sender, peer_receiver) = oneshot::channel();
        let (pending, to_send) = watch::channel(Pending::default());
        let stop = Arc::<AtomicBool>::default();
        let task = ApplyTask {
            name: name.clone(),
            check_checksums: self.options.check_checksums,
            node_name: self.options.node_name.clone(),
            receiver,
            stop: stop.clone(),
            counters: self.counters.clone(),
            pending,
            findings: self.findings.clone(),
        };
        let storage = self.storage.clone();
        let applying = self
            .runtime
            .tokio
            .spawn_blocking(move || task.run(storage(), peer_sender));
        let (end, by_peer) = match self.exchange(socket, peer_receiver, sender, to_send).await {
            Ok(End::Over(reason)) => {
                let by_peer = reason == CLOSED_BY_PEER;
                (End::Over(reason), by_peer)
            }
            Ok(end) => (end, false),
            Err(error) => (self.lost(&name, &error), tls::reason(&error).is_none()),
        };
        if by_peer && self.counters.was_closed_early() {
            let message = log_messages::closed_without_reason(&name);
            self.counters.record_error("refused", &name, message);
        }
        // What a lost connection has delivered is still applied: a primary that closes relies on
        // it.
        stop.store(matches!(end, End::Left), Ordering::Release);
        // The thread must have ended before another connection uses the storage. An error is a
        // panic, which has been reported already.
        let diverged = matches!(applying.await, Ok(Err(Diverged)));
        let reason = match &end {
            End::Over(reason) => reason,
            End::Left | End::Diverged => "'connection closed'",
        };
        log_messages::disconnected(Side::Secondary, &name, reason);
        self.retry_delay.session_ended(begun.elapsed());
        match end {
            End::Over(_) if diverged => End::Diverged,
            end => end,
        }
    }

    async fn exchange<T: AsyncRead + AsyncWrite>(
        &mut self,
        socket: T,
        peer: oneshot::Receiver<SecondaryPeer>,
        sender: EventSender,
        mut pending: watch::Receiver<Pending>,
    ) -> io::Result<End> {
        let (mut reader, mut writer) = tokio::io::split(socket);
        let (targets, runtime, counters) = (&mut self.targets, &self.runtime, &*self.counters);
        let work = async {
            let Ok(mut peer) = peer.await else {
                return Ok(failed());
            };
            send(&mut writer, &peer.greeting(true)).await?;
            let keep_alive_delay = self.options.keep_alive_delay;
            let reason = tokio::select! {
                reason = read(&mut reader, &mut peer, &sender, counters) => reason,
                reason = send_pending(&mut writer, keep_alive_delay, &mut pending) => reason,
            };
            close(&mut reader, &mut writer, &pending).await;
            reason
        };
        tokio::select! {
            reason = work => reason.map(End::Over),
            () = targets.leave(runtime) => {
                // The client does not wait for data that cannot be sent at once.
                let _ = timeout(SHUTDOWN_TIMEOUT, writer.shutdown()).await;
                Ok(End::Left)
            }
        }
    }

    /// Records an error of the connection. Returns the end of the session.
    fn lost(&self, name: &str, error: &io::Error) -> End {
        if let Some(reason) = tls::reason(error) {
            return self.tls_failed(name, reason);
        }
        // An encrypted connection may be closed without a TLS close notification.
        if error.kind() != io::ErrorKind::UnexpectedEof {
            self.counters
                .record_error("network", name, error.to_string());
        }
        End::Over(format!("'{error}'"))
    }
}

/// Waits for this delay, or forever.
async fn pause(delay: Option<Duration>) {
    match delay {
        Some(delay) => sleep(delay).await,
        None => std::future::pending().await,
    }
}

/// The reason if the applying thread has failed, which it has logged.
fn failed() -> String {
    "'replication failed'".to_owned()
}

/// Reads and checks messages until the connection ends or the applying thread has ended.
async fn read(
    reader: &mut (impl AsyncRead + Unpin),
    peer: &mut SecondaryPeer,
    sender: &EventSender,
    counters: &SecondaryCounters,
) -> io::Result<String> {
    let mut buffer = BytesMut::new();
    let mut first = true;
    loop {
        if buffer.capacity() < LEAST_READ {
            buffer.reserve(READ_LENGTH);
        }
        let count = tokio::select! {
            count = reader.read_buf(&mut buffer) => count,
            () = sender.closed() => return Ok(failed()),
        }?;
        if count == 0 {
            return Ok(CLOSED_BY_PEER.to_owned());
        }
        if std::mem::take(&mut first) && tls::begins_tls(&buffer) {
            return Err(tls::unexpected());
        }
        counters.received(count);
        peer.receive_bytes(buffer.split().freeze());
        if !sender.send(peer).await {
            return Ok(failed());
        }
    }
}
