//! The data protected by the storage's state lock, and snapshots of it for readers.

use std::thread::ThreadId;

use crate::file::DataFile;
use crate::index::Index;
use zrs_ids::Tid;

/// The state that readers see; it changes atomically when a transaction or pack is finished.
pub(super) struct State {
    /// The file, open for writing unless the storage is read-only.
    pub(super) file: DataFile,
    pub(super) index: Index,
    /// Where the last finished transaction ends.
    pub(super) end: u64,
    /// The last finished transaction.
    pub(super) last_tid: Tid,
    /// End offset and id of the last durable transaction.
    pub(super) durable: (u64, Tid),
    /// Whether the status byte of a later transaction is not yet synced.
    pub(super) has_unsynced_status: bool,
    /// The thread that is finishing a transaction, which may read during that time.
    pub(super) finishing: Option<ThreadId>,
    pub(super) condition: Condition,
    /// The committed end at the last attempt to save the index.
    pub(super) saved_end: u64,
}

/// Whether the storage can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Open,
    Failed,
    Closed,
}

impl State {
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            file: self.file.clone(),
            end: self.end,
            last_tid: self.last_tid,
        }
    }
}

/// A file with its committed end.
#[derive(Clone)]
pub struct Snapshot {
    /// The file; it stays readable after a pack has replaced it.
    pub file: DataFile,
    /// Where the last finished transaction ends.
    pub end: u64,
    /// The last finished transaction.
    pub last_tid: Tid,
}
