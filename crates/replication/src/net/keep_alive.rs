//! Noticing peers that have died without a word.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// How long a silent connection is trusted.
const IDLE: Duration = Duration::from_secs(60);
/// The time between questions to a peer that does not answer.
const INTERVAL: Duration = Duration::from_secs(15);
/// How many of them remain unanswered before the connection is given up.
const RETRIES: u32 = 4;
/// How long what was sent may go without an acknowledgement, or without room for it at the
/// peer. As long as the questions take: a system that has this asks no longer than it says.
const UNACKNOWLEDGED: Duration = Duration::from_secs(120);

/// Makes the system ask a silent peer whether it is there: one that is gone is noticed
/// after two minutes, whether or not something is being sent to it.
pub(super) fn enable(socket: &TcpStream) {
    let options = TcpKeepalive::new()
        .with_time(IDLE)
        .with_interval(INTERVAL)
        .with_retries(RETRIES);
    let socket = SockRef::from(socket);
    // A system that refuses leaves its own, longer times in place.
    let _ = socket.set_tcp_keepalive(&options);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_system_takes_the_times() {
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
