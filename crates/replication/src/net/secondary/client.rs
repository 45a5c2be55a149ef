//! A secondary's socket, and its patience.
//!
//! One task connects, reads, checks and reconnects; while connected a blocking thread
//! applies what was read. So much may be on the way between them and no more: when the
//! storage is slow, the task stops reading, and TCP tells the primary.

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

use super::apply_queue::{self, Diverged, Outbox, Work};
use super::connect::{self, CONNECT_TIMEOUT};
use super::retry_delay::Patience;
use super::sending::{Remarks, farewell, say, speak};
use super::status::{SecondaryCounters, SecondaryState, SecondaryStatus};
use super::target::{Next, Target, Targets};
use crate::net::addr::{Address, peer_name, unix_peer_name};
use crate::net::keep_alive as tcp_keep_alive;
use crate::net::runtime::{self, Host};
use crate::net::tls::{self, TlsClient};
use crate::proto::{NodeName, SecondaryPeer};
use crate::replica::log_messages::{self, Side};
use crate::replica::{Findings, ReplicaStorage};

/// The most that one read takes.
const READ_LENGTH: usize = 1 << 17;
/// Less room than this is not worth a read.
const LEAST_READ: usize = 1 << 14;
/// How long the end of a connection may take to be sent.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(100);
/// The least pause before connecting again to a primary with another history.
const DIVERGED_DELAY: Duration = Duration::from_secs(600);
/// How many times longer than others that pause is.
const DIVERGED_FACTOR: u32 = 10;

/// Why a connection is over that the primary has ended, as the log shows it.
const CLOSED_BY_PEER: &str = "'connection closed by peer'";

/// How a secondary behaves.
#[derive(Clone, Debug)]
pub struct SecondaryOptions {
    /// The longest pause before connecting again. The first ones are shorter.
    pub reconnect_delay: Duration,
    /// Whether a wrong checksum is an error.
    pub check_checksums: bool,
    /// The pause between keep-alive messages; `None` for no such messages.
    pub keep_alive_delay: Option<Duration>,
    /// The certificates, if the connection is to be encrypted.
    pub tls: Option<TlsClient>,
    /// The name that the secondary gives to primaries that read remarks.
    pub node_name: Option<NodeName>,
}

impl SecondaryOptions {
    /// The pause before connecting again to primaries whose history is another: only a
    /// person can put that right.
    fn diverged_delay(&self) -> Duration {
        let longer = self.reconnect_delay.saturating_mul(DIVERGED_FACTOR);
        longer.max(DIVERGED_DELAY)
    }
}

/// Keeps a storage up to date from a primary.
pub struct SecondaryClient {
    host: Host,
    target: watch::Sender<Target>,
    counters: Arc<SecondaryCounters>,
    tasks: TaskTracker,
}

impl SecondaryClient {
    /// Begins to replicate from one of `addresses` into the storages that `storage` makes, one for
    /// each connection.
    ///
    /// # Errors
    /// The system's, if there can be no threads.
    pub fn start<S, F>(
        storage: F,
        addresses: Vec<Address>,
        options: SecondaryOptions,
    ) -> io::Result<Self>
    where
        S: ReplicaStorage + 'static,
        F: Fn() -> S + Clone + Send + Sync + 'static,
    {
        let host = runtime::host()?;
        let (target, targets) = watch::channel(Target {
            addresses,
            stay: false,
            moves: 0,
            closed: false,
        });
        let counters = Arc::new(SecondaryCounters::new());
        let tasks = TaskTracker::new();
        let client = Client {
            host: host.clone(),
            targets: Targets::new(targets),
            storage,
            patience: Patience::new(options.reconnect_delay),
            options,
            counters: counters.clone(),
            findings: Arc::default(),
        };
        tasks.spawn_on(client.run(), &host.handle);
        tasks.close();
        Ok(Self {
            host,
            target,
            counters,
            tasks,
        })
    }

    /// Leaves the present primary and connects to this one at once.
    pub fn set_address(&self, address: Address) {
        self.target.send_modify(|target| {
            target.addresses = vec![address];
            target.moves += 1;
        });
    }

    /// Changes where a primary may be. A connection to one of these stays; any other is
    /// left for the first that answers. With no address and `stay`, the connection is kept
    /// until it ends.
    pub fn set_addresses(&self, addresses: Vec<Address>, stay: bool) {
        self.target.send_if_modified(|target| {
            let changed = target.addresses != addresses || target.stay != stay;
            target.addresses = addresses;
            target.stay = stay;
            changed
        });
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.counters.is_connected()
    }

    /// What the client is at.
    pub fn status(&self) -> SecondaryStatus {
        self.counters.status()
    }

    /// Disconnects and waits until the storage is left alone. In a process that was forked
    /// off it does nothing.
    pub fn close(&self) {
        if !self.host.is_current() {
            return;
        }
        self.target.send_modify(|target| target.closed = true);
        let tasks = self.tasks.clone();
        let waited = self.host.handle.spawn(async move { tasks.wait().await });
        // An error means that the runtime has gone, and the tasks with it.
        let _ = runtime::block_on(&self.host, waited);
    }
}

struct Client<F> {
    host: Host,
    targets: Targets,
    storage: F,
    options: SecondaryOptions,
    patience: Patience,
    counters: Arc<SecondaryCounters>,
    /// The forks that were found.
    findings: Arc<Findings>,
}

/// How a session ended.
enum End {
    /// The connection was lost, or given up; the reason as the log shows it.
    Over(String),
    /// It was given up because of a fork.
    Diverged,
    /// The client was told to leave.
    Left,
}

impl<S, F> Client<F>
where
    S: ReplicaStorage + 'static,
    F: Fn() -> S + Clone + Send + Sync + 'static,
{
    async fn run(mut self) {
        // Whether each address that was tried since the last pause has another history.
        let mut forks_only = true;
        loop {
            let next = self.targets.next(&self.host);
            let (delay, state) = match next {
                Next::Connect(address) => {
                    self.counters.without_connection(SecondaryState::Connecting);
                    match self.attempt(&address).await {
                        End::Left => {
                            forks_only = true;
                            self.begin_anew();
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
                Next::Pause => (Some(self.patience.pause()), SecondaryState::Waiting),
                Next::Wait => (None, SecondaryState::Waiting),
                Next::End => break,
            };
            forks_only = true;
            self.counters.without_connection(state);
            tokio::select! {
                () = pause(delay) => self.targets.resume(),
                () = self.targets.changed(&self.host) => self.begin_anew(),
            }
        }
        self.counters.without_connection(SecondaryState::Stopped);
    }

    /// Goes to another target, with the first address and short pauses.
    fn begin_anew(&mut self) {
        self.targets.begin();
        self.patience.reset();
    }

    async fn attempt(&mut self, address: &Address) -> End {
        let attempted = match address {
            Address::Tcp { host, port } => self.attempt_tcp(address, host, *port).await,
            Address::Unix(path) => match self.connect(UnixStream::connect(path)).await {
                Ok(Some(socket)) => Ok(self.begin(socket, address, unix_peer_name(path)).await),
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
        let Some(socket) = self.unless_told(connect::to_host(host, port)).await? else {
            return Ok(End::Left);
        };
        // Without it keep-alives wait for acknowledgements.
        let _ = socket.set_nodelay(true);
        tcp_keep_alive::enable(&socket);
        let peer = socket.peer_addr()?;
        Ok(self.begin(socket, address, peer_name(peer)).await)
    }

    /// Encrypts the connection if it is to be, and goes on with it.
    async fn begin<T>(&mut self, socket: T, address: &Address, name: String) -> End
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
        self.counters.trouble("tls", name, message);
        End::Over(reason)
    }

    /// Connects within a time; `None` if told to leave meanwhile.
    async fn connect<T>(
        &mut self,
        connecting: impl Future<Output = io::Result<T>>,
    ) -> io::Result<Option<T>> {
        self.unless_told(connect::within(CONNECT_TIMEOUT, connecting))
            .await
    }

    /// Connects; `None` if told to leave meanwhile.
    async fn unless_told<T>(
        &mut self,
        connecting: impl Future<Output = io::Result<T>>,
    ) -> io::Result<Option<T>> {
        tokio::select! {
            connected = connecting => connected.map(Some),
            () = self.targets.leave(&self.host) => Ok(None),
        }
    }

    async fn session<T>(&mut self, socket: T, name: String, tls: bool) -> End
    where
        T: AsyncRead + AsyncWrite,
    {
        let begun = Instant::now();
        log_messages::connected(Side::Secondary, &name);
        self.counters.connected(name.clone(), tls);
        let (outbox, inbox) = apply_queue::channel();
        let (greeting, greet) = oneshot::channel();
        let (remarks, to_say) = watch::channel(Remarks::default());
        let stop = Arc::<AtomicBool>::default();
        let work = Work {
            name: name.clone(),
            check_checksums: self.options.check_checksums,
            node_name: self.options.node_name.clone(),
            inbox,
            stop: stop.clone(),
            counters: self.counters.clone(),
            remarks,
            findings: self.findings.clone(),
        };
        let storage = self.storage.clone();
        let applying = self
            .host
            .handle
            .spawn_blocking(move || work.run(storage(), greeting));
        let (end, by_peer) = match self.converse(socket, greet, outbox, to_say).await {
            Ok(End::Over(reason)) => {
                let by_peer = reason == CLOSED_BY_PEER;
                (End::Over(reason), by_peer)
            }
            Ok(end) => (end, false),
            Err(error) => (self.lost(&name, &error), tls::reason(&error).is_none()),
        };
        if by_peer && self.counters.was_hung_up_on() {
            let message = log_messages::hung_up(&name);
            self.counters.trouble("refused", &name, message);
        }
        // What a lost connection has brought is still to be applied: a primary that closes
        // counts on it.
        stop.store(matches!(end, End::Left), Ordering::Release);
        // The storage is left alone before another connection gets at it. An error would be
        // a panic, which has been reported by then.
        let diverged = matches!(applying.await, Ok(Err(Diverged)));
        let reason = match &end {
            End::Over(reason) => reason,
            End::Left | End::Diverged => "'connection closed'",
        };
        log_messages::disconnected(Side::Secondary, &name, reason);
        self.patience.session_ended(begun.elapsed());
        match end {
            End::Over(_) if diverged => End::Diverged,
            end => end,
        }
    }

    async fn converse<T: AsyncRead + AsyncWrite>(
        &mut self,
        socket: T,
        greet: oneshot::Receiver<SecondaryPeer>,
        outbox: Outbox,
        mut remarks: watch::Receiver<Remarks>,
    ) -> io::Result<End> {
        let (mut reader, mut writer) = tokio::io::split(socket);
        let (targets, host, counters) = (&mut self.targets, &self.host, &*self.counters);
        let work = async {
            let Ok(mut peer) = greet.await else {
                return Ok(failed());
            };
            say(&mut writer, &peer.greeting(true)).await?;
            let keep_alive_delay = self.options.keep_alive_delay;
            let reason = tokio::select! {
                reason = read(&mut reader, &mut peer, &outbox, counters) => reason,
                reason = speak(&mut writer, keep_alive_delay, &mut remarks) => reason,
            };
            farewell(&mut reader, &mut writer, &remarks).await;
            reason
        };
        tokio::select! {
            reason = work => reason.map(End::Over),
            () = targets.leave(host) => {
                // What cannot be sent at once is not waited for.
                let _ = timeout(GOODBYE_TIMEOUT, writer.shutdown()).await;
                Ok(End::Left)
            }
        }
    }

    /// Notes what the network did.
    fn lost(&self, name: &str, error: &io::Error) -> End {
        if let Some(reason) = tls::reason(error) {
            return self.tls_failed(name, reason);
        }
        // An encrypted connection may end without the word that ends it.
        if error.kind() != io::ErrorKind::UnexpectedEof {
            self.counters.trouble("network", name, error.to_string());
        }
        End::Over(format!("'{error}'"))
    }
}

/// Waits so long, or for ever.
async fn pause(delay: Option<Duration>) {
    match delay {
        Some(delay) => sleep(delay).await,
        None => std::future::pending().await,
    }
}

/// The reason when the applying side has given up; it has logged why.
fn failed() -> String {
    "'replication failed'".to_owned()
}

/// Reads and checks, until there is no more to be had or to be done.
async fn read(
    reader: &mut (impl AsyncRead + Unpin),
    peer: &mut SecondaryPeer,
    outbox: &Outbox,
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
            () = outbox.closed() => return Ok(failed()),
        }?;
        if count == 0 {
            return Ok(CLOSED_BY_PEER.to_owned());
        }
        if std::mem::take(&mut first) && tls::begins_tls(&buffer) {
            return Err(tls::unexpected());
        }
        counters.received(count);
        peer.receive_bytes(buffer.split().freeze());
        if !outbox.send(peer).await {
            return Ok(failed());
        }
    }
}
