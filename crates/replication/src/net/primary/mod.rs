//! The primary's side: the listening socket, the connections of secondaries, and the status.

mod admission;
mod connection;
mod server;
mod shared;
mod status;
mod stream_writer;

pub use admission::{Network, NotANetwork};
pub use server::PrimaryServer;
pub use shared::PrimaryOptions;
pub use status::{PeerState, PeerStatus, PrimaryStatus};
