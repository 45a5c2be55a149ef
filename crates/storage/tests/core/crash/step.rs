//! Steps of workloads.

/// An operation on a storage.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Commit objects with data of about these lengths.
    Store(&'static [(u64, usize)]),
    /// Commit blobs with contents of these lengths.
    StoreBlobs(&'static [(u64, usize)]),
    /// Begin such a transaction, vote, and abort it.
    AbortBlobs(&'static [(u64, usize)]),
    /// Commit an undo of the last transaction.
    Undo,
    /// Commit copies: the data of the first object again, those of others as backpointers.
    Restore(&'static [(u64, usize)]),
    /// Commit the removal of an object.
    Delete(u64),
    /// Begin a transaction with these objects, and abort it.
    Abort(&'static [(u64, usize)]),
    /// The same after its vote.
    AbortVoted(&'static [(u64, usize)]),
    /// The same in the callback of its finish.
    AbortFinishing(&'static [(u64, usize)]),
    /// Vote for a transaction with these objects; the process dies and is restarted.
    VoteAndDie(&'static [(u64, usize)]),
    /// Restore transactions of these objects as a group; an object without a length keeps its
    /// data.
    Group(&'static [&'static [(u64, usize)]]),
    /// The same while another transaction has begun, which is finished after the group.
    GroupBefore(&'static [&'static [(u64, usize)]], &'static [(u64, usize)]),
    /// The same, but that transaction is aborted.
    GroupBeforeAbort(&'static [&'static [(u64, usize)]], &'static [(u64, usize)]),
    /// Sync the status of the last group.
    Settle,
    /// The process dies and is restarted.
    Die,
    /// Save the index.
    Save,
    /// Close, and open again.
    Reopen,
    /// Remove the index, as an operator may, and open without it.
    ReopenWithoutIndex,
    /// Pack to the time of the transaction this many transactions ago.
    Pack {
        ago: usize,
        gc: bool,
        keep_old: bool,
        meanwhile: &'static [(u64, usize)],
    },
}
