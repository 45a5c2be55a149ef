//! A primary's listening socket: who may connect, and the server's end.

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
use crate::replica::{Feed, PULSE, log_messages};
use zrs_vfs::{OsVfs, SocketPath};

/// How long to wait after `accept` failed, for lack of file descriptors for example.
const ACCEPT_DELAY: Duration = Duration::from_millis(100);

/// Serves a feed to whoever connects.
pub struct PrimaryServer {
    shared: Arc<Shared>,
    address: Address,
    socket: Option<SocketPath>,
    tasks: TaskTracker,
}

impl PrimaryServer {
    /// Binds and begins to serve.
    ///
    /// # Errors
    /// The system's, if the address cannot be had.
    pub fn bind(feed: Arc<Feed>, address: &Address, options: PrimaryOptions) -> io::Result<Self> {
        let host = runtime::host()?;
        let (listener, bound) = address.listen()?;
        let shared = Arc::new(Shared {
            feed,
            admission: Admission::new(options.allow.clone(), options.max_connections),
            options,
            counters: Arc::new(PrimaryCounters::new()),
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
        let socket = match listener {
            Listener::Tcp(listener) => {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                tasks.spawn_on(accept.tcp(listener), &shared.host.handle);
                None
            }
            Listener::Unix(listener, socket) => {
                let listener = tokio::net::UnixListener::from_std(listener)?;
                tasks.spawn_on(accept.unix(listener, bound.clone()), &shared.host.handle);
                Some(socket)
            }
        };
        drop(entered);
        tasks.spawn_on(pulse(shared.clone()), &shared.host.handle);
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

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.shared.counters.connections()
    }

    /// What the server and its connections are at.
    pub fn status(&self) -> PrimaryStatus {
        let listening = !self.shared.closing.is_cancelled();
        self.shared.counters.status(&self.shared.feed, listening)
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
        if let Some(socket) = &self.socket {
            // Another process may have removed it, or put something else in its place.
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
                    // Without it small transactions wait for acknowledgements.
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
        if let Some(left_out) = admission.to_log("accept errors", clock::second()) {
            log_messages::cannot_accept(error, left_out);
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
            if let Some(left_out) = admission.to_log(refusal.kind(), clock::second()) {
                log_messages::not_taken(&name, refusal, left_out);
            }
            return;
        }
        let connection = Connection::new(Arc::clone(&self.shared), counters.accept(name, host));
        self.tasks
            .spawn_on(connection.run(socket), &self.shared.host.handle);
    }
}

/// Lets the streams say every so often how far the primary is, until the server closes.
async fn pulse(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(PULSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shared.closing.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if shared.counters.connections() > 0 {
            shared.feed.pulse();
        }
        let feed = Arc::clone(&shared.feed);
        // The file system may be slow. An error means that the runtime is ending.
        let _ = tokio::task::spawn_blocking(move || feed.check_place(&OsVfs)).await;
    }
}
