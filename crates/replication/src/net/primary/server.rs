//! A primary's server: accepts connections, sends heartbeats, and closes.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::MissedTickBehavior;
use tokio_util::task::TaskTracker;

use super::admission::Admission;
use super::connection::Connection;
use super::shared::{PrimaryOptions, Shared};
use super::status::{PrimaryCounters, PrimaryStatus};
use crate::net::addr::{Address, Listener, peer_name, unix_peer_name};
use crate::net::clock;
use crate::net::keep_alive;
use crate::net::runtime;
use crate::replica::{Feed, HEARTBEAT_INTERVAL, log_messages};
use zrs_vfs::{OsVfs, SocketPath};

/// Delay after `accept` has failed, for example because no file descriptor is left.
const ACCEPT_DELAY: Duration = Duration::from_millis(100);

/// Serves a feed to secondaries.
pub struct PrimaryServer {
    shared: Arc<Shared>,
    address: Address,
    socket: Option<SocketPath>,
    tasks: TaskTracker,
}

impl PrimaryServer {
    /// Binds the address and starts to serve.
    ///
    /// # Errors
    /// The error of the system, if the address cannot be bound.
    pub fn bind(feed: Arc<Feed>, address: &Address, options: PrimaryOptions) -> io::Result<Self> {
        let runtime = runtime::current()?;
        let (listener, bound) = address.listen()?;
        let shared = Arc::new(Shared {
            feed,
            admission: Admission::new(options.allow.clone(), options.max_connections),
            options,
            counters: Arc::new(PrimaryCounters::new()),
            closing: runtime.exit.child_token(),
            abort: runtime.exit.child_token(),
            runtime,
        });
        let tasks = TaskTracker::new();
        let accept = Accept {
            shared: shared.clone(),
            tasks: tasks.clone(),
        };
        let entered = shared.runtime.tokio.enter();
        let socket = match listener {
            Listener::Tcp(listener) => {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                tasks.spawn_on(accept.tcp(listener), &shared.runtime.tokio);
                None
            }
            Listener::Unix(listener, socket) => {
                let listener = tokio::net::UnixListener::from_std(listener)?;
                tasks.spawn_on(accept.unix(listener, bound.clone()), &shared.runtime.tokio);
                Some(socket)
            }
        };
        drop(entered);
        tasks.spawn_on(send_heartbeats(shared.clone()), &shared.runtime.tokio);
        Ok(Self {
            shared,
            address: bound,
            socket,
            tasks,
        })
    }

    /// The bound address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Number of connections.
    pub fn connections(&self) -> usize {
        self.shared.counters.connections()
    }

    /// The state of the server and its connections.
    pub fn status(&self) -> PrimaryStatus {
        let listening = !self.shared.closing.is_cancelled();
        self.shared.counters.status(&self.shared.feed, listening)
    }

    /// Stops listening, lets streams send all published transactions, and ends all connections
    /// after `deadline`. Does nothing in a forked child.
    pub fn close(&self, deadline: Duration) {
        if !self.shared.runtime.is_current() {
            return;
        }
        self.shared.feed.finish();
        self.shared.closing.cancel();
        self.tasks.close();
        let (tasks, abort) = (self.tasks.clone(), self.shared.abort.clone());
        let waited = self.shared.runtime.tokio.spawn(async move {
            if tokio::time::timeout(deadline, tasks.wait()).await.is_err() {
                abort.cancel();
                tasks.wait().await;
            }
        });
        // An error means that the runtime, and with it the tasks, has ended.
        let _ = runtime::block_on(&self.shared.runtime, waited);
        if let Some(socket) = &self.socket {
            // Another process may have removed or replaced it.
            let _ = socket.remove();
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
                    // Otherwise small transactions wait until the previous data is acknowledged.
                    let _ = socket.set_nodelay(true);
                    keep_alive::enable(&socket);
                    let host = address.ip().to_canonical().to_string();
                    self.serve(socket, Some(address.ip()), host, peer_name(address));
                }
                Err(error) => self.pause(&error).await,
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
                Ok((socket, _)) => {
                    let host = path.display().to_string();
                    self.serve(socket, None, host, unix_peer_name(&path));
                }
                Err(error) => self.pause(&error).await,
            }
        }
    }

    /// Waits after `accept` failed.
    async fn pause(&self, error: &io::Error) {
        let admission = &self.shared.admission;
        if let Some(suppressed) = admission.to_log("accept errors", clock::second()) {
            log_messages::cannot_accept(error, suppressed);
        }
        tokio::time::sleep(ACCEPT_DELAY).await;
    }

    fn serve<S>(&self, socket: S, address: Option<IpAddr>, host: String, name: String)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (admission, counters) = (&self.shared.admission, &self.shared.counters);
        if let Err(refusal) = admission.check(address, counters.connections()) {
            counters.refuse(refusal.kind());
            if let Some(suppressed) = admission.to_log(refusal.kind(), clock::second()) {
                log_messages::connection_refused(&name, refusal, suppressed);
            }
            return;
        }
        let connection = Connection::new(Arc::clone(&self.shared), counters.accept(name, host));
        self.tasks
            .spawn_on(connection.run(socket), &self.shared.runtime.tokio);
    }
}

/// Makes the streams send heartbeats until the server closes, and checks that the file is still
/// at its path.
async fn send_heartbeats(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(HEARTBEAT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shared.closing.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if shared.counters.connections() > 0 {
            shared.feed.heartbeat();
        }
        let feed = Arc::clone(&shared.feed);
        // On a blocking thread, because the file system may be slow. An error means that the
        // runtime is ending.
        let _ = tokio::task::spawn_blocking(move || feed.check_place(&OsVfs)).await;
    }
}
