//! Replication for ZODB: the native core of `zc.zrs`.
//!
//! The modules are layers; ARCHITECTURE.md draws them and says who may use whom.
//! Everything up to [`replica`] is plain Rust without sockets, tokio or Python;
//! `net` drives it with tokio and `py` binds it.

pub mod dobbin;
pub mod error;
pub mod format;
pub mod ids;
pub mod pickle;
pub mod proto;
pub mod replica;
pub mod storage;
pub mod timestamp;
pub mod vfs;

#[cfg(feature = "net")]
pub mod net;
#[cfg(feature = "python")]
mod py;
