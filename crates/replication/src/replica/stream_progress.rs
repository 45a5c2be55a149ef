//! The progress of a primary's stream.

use zrs_ids::Tid;

/// The progress of a stream, by the chunks that it has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamProgress {
    /// The last transaction that is completely in them, or the start.
    pub tid: Tid,
    /// Its end in the file, once known.
    pub position: Option<u64>,
    /// The number of transactions in them.
    pub transactions: u64,
    /// Everything in the file up to this transaction is in them. A pack may have dropped the last
    /// of these transactions.
    pub complete_to: Tid,
    /// Whether the start is in the file's history; `None` before the search.
    pub history: Option<History>,
}

impl StreamProgress {
    /// A stream that begins after `start`.
    pub const fn new(start: Tid) -> Self {
        Self {
            tid: start,
            position: None,
            transactions: 0,
            complete_to: Tid::ZERO,
            history: None,
        }
    }

    /// The last transaction up to which the secondary has everything.
    pub fn has(&self) -> Tid {
        self.tid.max(self.complete_to)
    }
}

/// The result of the search for a secondary's last transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// It is in the primary's file, or a pack has listed it as dropped.
    Verified,
    /// A pack without a list may have dropped it, or it never existed.
    Unverified,
}
