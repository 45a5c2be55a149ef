//! Addresses: as users give them, and as the log shows peers.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use crate::vfs;

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
    Unix(UnixListener),
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
                let listener = UnixListener::bind(path).or_else(|error| {
                    let stale = error.kind() == io::ErrorKind::AddrInUse
                        && UnixStream::connect(path)
                            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
                    if !stale {
                        return Err(error);
                    }
                    vfs::os::remove_socket(path)?;
                    UnixListener::bind(path)
                })?;
                listener.set_nonblocking(true)?;
                Ok((Listener::Unix(listener), self.clone()))
            }
        }
    }
}
