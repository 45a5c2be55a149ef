//! Connecting to a host: tries each address of its name, with a timeout for each.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// Timeout for the look-up of a name, and for each attempt to connect.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to the first address of the host that accepts. Returns the error of the last address
/// if none does.
pub(super) async fn to_host(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = within(CONNECT_TIMEOUT, lookup_host((host, port))).await?;
    to_any(addresses, CONNECT_TIMEOUT).await
}

/// Like [`to_host`], for these addresses. Each has its own timeout, so that an address that does
/// not answer, for example because its machine is off, leaves time for the others.
async fn to_any(
    addresses: impl IntoIterator<Item = SocketAddr>,
    limit: Duration,
) -> io::Result<TcpStream> {
    let mut refusal = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match within(limit, TcpStream::connect(address)).await {
            Ok(socket) => return Ok(socket),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

/// Awaits an attempt, at most this long.
pub(super) async fn within<T>(
    limit: Duration,
    attempt: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(limit, attempt).await?
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpListener};

    use socket2::{Domain, Socket, Type};

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(100);

    fn run<T>(attempt: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(attempt)
    }

    fn listening(at: &str) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind(at).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn refusing() -> SocketAddr {
        listening("127.0.0.1:0").1
    }

    /// An address that does not answer, because its queue is full.
    fn silent() -> (Vec<Socket>, SocketAddr) {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let stream = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = stream();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut open = vec![listener];
        loop {
            let waiting = stream();
            let connected = waiting.connect_timeout(&address.into(), TIMEOUT);
            open.push(waiting);
            if connected.is_err() {
                return (open, address);
            }
        }
    }

    #[test]
    fn each_address_is_tried() {
        let (_listener, live) = listening("127.0.0.1:0");
        let socket = run(to_any([refusing(), refusing(), live], TIMEOUT)).unwrap();
        assert_eq!(socket.peer_addr().unwrap(), live);
    }

    #[test]
    fn an_address_that_does_not_answer_leaves_time_for_others() {
        // Regression test: all addresses shared one timeout, which the first one used up.
        let (_open, silent) = silent();
        let (_listener, live) = listening("127.0.0.1:0");
        let socket = run(to_any([silent, live], TIMEOUT)).unwrap();
        assert_eq!(socket.peer_addr().unwrap(), live);
    }

    #[test]
    fn an_ipv6_address_is_tried() {
        let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
            return; // this machine has no IPv6
        };
        let live = listener.local_addr().unwrap();
        let socket = run(to_any([refusing(), live], TIMEOUT)).unwrap();
        assert!(socket.peer_addr().unwrap().is_ipv6());
    }

    #[test]
    fn the_last_error_is_returned() {
        let (_open, silent) = silent();
        let of = |addresses: Vec<SocketAddr>| run(to_any(addresses, TIMEOUT)).unwrap_err().kind();
        assert_eq!(
            of(vec![silent, refusing()]),
            io::ErrorKind::ConnectionRefused
        );
        assert_eq!(of(vec![refusing(), silent]), io::ErrorKind::TimedOut);
        assert_eq!(of(vec![]), io::ErrorKind::NotFound);
    }
}
