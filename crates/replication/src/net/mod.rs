//! The tokio driver: sockets, TLS and timers for the state machines of [`crate::proto`].
//!
//! The driver moves bytes, and records the reasons of disconnections. `proto` interprets the
//! bytes, and [`crate::replica`] applies them. This module does not depend on Python.

mod addr;
mod clock;
mod keep_alive;
mod meter;
mod primary;
mod runtime;
mod secondary;
mod tls;

pub use addr::Address;
pub use meter::{ErrorStats, LastError, TrafficStatus};
pub use primary::{
    Network, NotANetwork, PeerState, PeerStatus, PrimaryOptions, PrimaryServer, PrimaryStatus,
};
pub use runtime::shut_down;
pub use secondary::{
    SecondaryClient, SecondaryOptions, SecondaryState, SecondaryStatus, SessionStatus,
};
pub use tls::{TlsClient, TlsError, TlsOptions, TlsServer};

/// Installs the clock that limits the rate of log messages about peers.
pub fn install_clock() {
    crate::replica::log_messages::set_clock(clock::second);
}
