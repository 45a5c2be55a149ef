//! The tokio driver: sockets and time for the peers of [`crate::proto`].
//!
//! It moves bytes and words reasons; what bytes mean is decided in `proto`, what is done
//! with them in [`crate::replica`]. Nothing here knows Python.

mod addr;
mod clock;
mod keep_alive;
mod meter;
mod primary;
mod runtime;
mod secondary;
mod tls;

pub use addr::Address;
pub use meter::{TrafficStatus, Trouble, Troubles};
pub use primary::{
    Network, NotANetwork, PeerState, PeerStatus, PrimaryOptions, PrimaryServer, PrimaryStatus,
};
pub use runtime::shut_down;
pub use secondary::{
    SecondaryClient, SecondaryOptions, SecondaryState, SecondaryStatus, SessionStatus,
};
pub use tls::{TlsClient, TlsError, TlsOptions, TlsServer};

/// Lets the log of what peers do be bounded in time.
pub fn install_clock() {
    crate::replica::log_messages::set_clock(clock::second);
}
