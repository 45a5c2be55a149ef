//! What the storage's state lock protects, and copies of it for readers.

use std::thread::ThreadId;

use crate::file::DataFile;
use crate::index::Index;
use zrs_ids::Tid;

/// What readers see, changed at once when a transaction is finished or a pack done.
pub(super) struct State {
    /// The file, for writing too unless the storage is read-only.
    pub(super) file: DataFile,
    pub(super) index: Index,
    /// Where the last finished transaction ends.
    pub(super) end: u64,
    /// The last finished transaction.
    pub(super) last_tid: Tid,
    /// Where the transactions end that are durable, and the last of them.
    pub(super) durable: (u64, Tid),
    /// Whether that later ones are finished is not durable.
    pub(super) has_unsynced_status: bool,
    /// The thread that is finishing a transaction, which may read meanwhile.
    pub(super) finishing: Option<ThreadId>,
    pub(super) condition: Condition,
    /// The end when the index was last saved, or that was tried.
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

/// A file and how far it is committed.
#[derive(Clone)]
pub struct Snapshot {
    /// The file; it stays readable when a pack replaces it.
    pub file: DataFile,
    /// Where the last finished transaction ends.
    pub end: u64,
    /// The last finished transaction.
    pub last_tid: Tid,
}
