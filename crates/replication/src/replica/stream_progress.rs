//! How far a primary's stream has come.

use zrs_ids::Tid;

/// How far a stream has come, by the chunks that it has given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamProgress {
    /// The last transaction that is in them whole, or the start.
    pub tid: Tid,
    /// Where it ends in the file, once that is known.
    pub position: Option<u64>,
    /// How many transactions are in them.
    pub transactions: u64,
    /// Nothing of the file up to this transaction is missing from them, although a pack may
    /// have dropped the last of these.
    pub complete_to: Tid,
    /// Whether the start is known to be in the file's history; `None` before it was looked
    /// for.
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

    /// The last transaction of which the secondary lacks nothing.
    pub fn has(&self) -> Tid {
        self.tid.max(self.complete_to)
    }
}

/// What is known of a secondary's last transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// It is in the primary's file, or a pack has listed it as dropped.
    Verified,
    /// A pack that has left no list may have dropped it, or it was never there.
    Unverified,
}
