//! Addresses: as users give them, and as the log shows peers.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use zrs_vfs::SocketPath;

/// Where a primary listens or a secondary connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host name or number, and a port.
    Tcp {
        /// Empty: all interfaces to listen on, this host to connect to.
        host: String,
        /// 0: any free port to listen on.
        port: u16,
    },
    /// A UNIX socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "('{host}', {port})"),
            Self::Unix(path) => write!(f, "'{}'", path.display()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

/// A TCP peer as zc.zrs's log shows it.
pub(super) fn peer_name(address: SocketAddr) -> String {
    let family = if address.is_ipv4() {
        "IPv4Address"
    } else {
        "IPv6Address"
    };
    format!("{family}(TCP, '{}', {})", address.ip(), address.port())
}

/// The peer at the other end of a UNIX socket, as the log shows it.
pub(super) fn unix_peer_name(path: &std::path::Path) -> String {
    format!("UNIXAddress('{}')", path.display())
}

/// A listening socket of either kind.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketPath),
}

impl Address {
    /// Binds and listens; returns the address that was bound.
    pub(super) fn listen(&self) -> io::Result<(Listener, Self)> {
        match self {
            Self::Tcp { host, port } => {
                let host = if host.is_empty() { "0.0.0.0" } else { host };
                let addresses: Vec<_> = (host, *port).to_socket_addrs()?.collect();
                let listener = TcpListener::bind(&addresses[..])?;
                listener.set_nonblocking(true)?;
                let bound = listener.local_addr()?.into();
                Ok((Listener::Tcp(listener), bound))
            }
            Self::Unix(path) => {
                let listener = match UnixListener::bind(path) {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        remove_stale(path, error)?;
                        UnixListener::bind(path)?
                    }
                    bound => bound?,
                };
                listener.set_nonblocking(true)?;
                let socket = SocketPath::of(path)?;
                Ok((Listener::Unix(listener, socket), self.clone()))
            }
        }
    }
}

/// Remove the socket at `path` if no server answers on it; `error` says that the path is in
/// use. A file that is not a socket refuses connections too, so what is there is looked at
/// before it is connected to, and again before it is removed.
fn remove_stale(path: &Path, error: io::Error) -> io::Result<()> {
    let socket = SocketPath::of(path)?;
    match UnixStream::connect(path) {
        Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => socket.remove(),
        _ => Err(error),
    }
}
