//! What a primary sends, and how a secondary applies it, for every driver.
//!
//! [`Feed`] decides what may be sent, [`TransactionStream`] turns a file into the bytes for one
//! secondary, [`Applier`] turns events into calls of a storage, [`LocalStorage`] is the native
//! storage with its group commit, [`Divergence`] is a reason to refuse the other side, and
//! [`log_messages`] has the texts of the log. No sockets, no tokio, no Python.

mod applier;
mod blobs;
mod digest;
mod divergence;
mod feed;
mod group_decision;
mod list_keeper;
mod listing;
mod local;
mod log_bound;
pub mod log_messages;
mod replica_storage;
mod session;
mod stream;
mod stream_handle;
mod stream_progress;

pub use applier::{Applied, Applier, ApplyError};
pub use blobs::{BlobError, Blobs, MissingBlobs};
pub use digest::{digest_in_file, last_in_file};
pub use divergence::{Divergence, Findings};
pub use feed::{Feed, HEARTBEAT_INTERVAL, Lag, Published};
pub use group_decision::GroupDecision;
pub use list_keeper::{ListPlace, ListState, MAX_DROPPED};
pub use local::{Hooks, LocalStorage, LocalTarget};
pub use log_bound::LogBound;
pub use replica_storage::ReplicaStorage;
pub use session::SecondarySession;
pub use stream::{StreamError, TransactionStream};
pub use stream_handle::StreamHandle;
pub use stream_progress::{History, StreamProgress};
