//! The tokio driver: sockets and time for the peers of [`crate::proto`].
//!
//! It moves bytes and words reasons; what bytes mean is decided in `proto`, what is done
//! with them in [`crate::replica`]. Nothing here knows Python.

mod addr;
mod primary;
mod runtime;
mod secondary;

pub use addr::Address;
pub use primary::PrimaryServer;
pub use runtime::shut_down;
pub use secondary::{SecondaryClient, SecondaryOptions};
