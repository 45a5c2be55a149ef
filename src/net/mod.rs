//! The tokio driver: sockets and time for the peers of [`crate::proto`].
//!
//! It moves bytes and words reasons; what bytes mean is decided in `proto`, what is done
//! with them in [`crate::replica`]. Nothing here knows Python.

mod addr;
mod admission;
mod clock;
mod connect;
mod connection;
mod keep_alive;
mod meter;
mod patience;
mod primary;
mod primary_status;
mod runtime;
mod secondary;
mod secondary_status;
mod shipping;
mod speech;
mod target;
mod tls;
mod to_apply;

pub use addr::Address;
pub use admission::{Network, NotANetwork};
pub use meter::{TrafficStatus, Trouble, Troubles};
pub use primary::{PrimaryOptions, PrimaryServer};
pub use primary_status::{PeerState, PeerStatus, PrimaryStatus};
pub use runtime::shut_down;
pub use secondary::{SecondaryClient, SecondaryOptions};
pub use secondary_status::{SecondaryState, SecondaryStatus, SessionStatus};
/// Lets the log of what peers do be bounded in time.
pub fn install_clock() {
    crate::replica::journal::set_clock(clock::second);
}

pub use tls::{TlsClient, TlsError, TlsOptions, TlsServer};
