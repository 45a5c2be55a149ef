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

/// Makes the system ask a silent peer whether it is there: one that is gone is noticed
/// after two minutes, though nothing is sent to it.
pub(super) fn enable(socket: &TcpStream) {
    let options = TcpKeepalive::new()
        .with_time(IDLE)
        .with_interval(INTERVAL)
        .with_retries(RETRIES);
    // A system that refuses leaves its own, longer times in place.
    let _ = SockRef::from(socket).set_tcp_keepalive(&options);
}
