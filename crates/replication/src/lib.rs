//! Replication of ZODB storages.
//!
//! [`proto`] has the machines of the protocol: bytes in, events out. [`replica`] decides what a
//! primary streams, and applies what a secondary receives. Neither opens a socket or reads a
//! clock; `net` (a feature) drives them with tokio.

pub mod proto;
pub mod replica;

#[cfg(feature = "net")]
pub mod net;
