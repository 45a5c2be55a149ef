//! Addresses of primaries, and the names of peers in the log.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use zrs_vfs::SocketPath;

/// An address that a primary listens on or a secondary connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host name or number, and a port.
    Tcp {
        /// Empty: a primary listens on all interfaces, a secondary connects to this host.
        host: String,
        /// 0: a primary listens on any free port.
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

/// The name of a TCP peer, in the format of zc.zrs's log.
pub(super) fn peer_name(address: SocketAddr) -> String {
    let family = if address.is_ipv4() {
        "IPv4Address"
    } else {
        "IPv6Address"
    };
    format!("{family}(TCP, '{}', {})", address.ip(), address.port())
}

/// The name of a peer that is connected through a UNIX socket, in the same format.
pub(super) fn unix_peer_name(path: &std::path::Path) -> String {
    format!("UNIXAddress('{}')", path.display())
}

/// A listening socket of either kind.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketPath),
}

impl Address {
    /// Binds and listens. Also returns the bound address.
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

/// Removes the socket at `path` if no server accepts connections on it; otherwise returns `error`,
/// the error of `bind`. A file that is not a socket refuses connections too, so the file is
/// checked before the connection, and again before it is removed.
fn remove_stale(path: &Path, error: io::Error) -> io::Result<()> {
    let socket = SocketPath::of(path)?;
    match UnixStream::connect(path) {
        Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => socket.remove(),
        _ => Err(error),
    }
}
