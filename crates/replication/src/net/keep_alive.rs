//! TCP keep-alive: detects peers that have gone without closing the connection.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Time without data before the first probe.
const IDLE: Duration = Duration::from_secs(60);
/// Time between probes to a peer that does not answer.
const INTERVAL: Duration = Duration::from_secs(15);
/// Number of unanswered probes before the connection is closed.
const RETRIES: u32 = 4;
/// Maximum time that sent data may stay unacknowledged, or that the peer may have no room for
/// it. Equals the time that all probes take: systems that support this option stop probing
/// after it.
const UNACKNOWLEDGED: Duration = Duration::from_secs(120);

/// Makes the system detect a peer that has gone after two minutes, whether or not data is
/// being sent to it.
pub(super) fn enable(socket: &TcpStream) {
    let options = TcpKeepalive::new()
        .with_time(IDLE)
        .with_interval(INTERVAL)
        .with_retries(RETRIES);
    let socket = SockRef::from(socket);
    // Without the option the system's longer default times apply.
    let _ = socket.set_tcp_keepalive(&options);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_system_accepts_the_times() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let socket = TcpStream::connect(listener.local_addr().unwrap())
                .await
                .unwrap();
            enable(&socket);
            let socket = SockRef::from(&socket);
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), IDLE);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), INTERVAL);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), RETRIES);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
            assert_eq!(UNACKNOWLEDGED, IDLE + INTERVAL * RETRIES);
        });
    }
}
