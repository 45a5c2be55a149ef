//! What may be done.

/// What is done to a storage.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Commit objects with data of about these lengths.
    Store(&'static [(u64, usize)]),
    /// Commit blobs with contents of these lengths.
    StoreBlobs(&'static [(u64, usize)]),
    /// Begin such a transaction, vote, and give it up.
    AbortBlobs(&'static [(u64, usize)]),
    /// Commit the undoing of the last transaction.
    Undo,
    /// Commit copies: of the first object's data once more, of others as they are.
    Restore(&'static [(u64, usize)]),
    /// Commit the removal of an object.
    Delete(u64),
    /// Begin a transaction with these objects, and give it up.
    Abort(&'static [(u64, usize)]),
    /// The same after its vote.
    AbortVoted(&'static [(u64, usize)]),
    /// The same in the callback of its end.
    AbortFinishing(&'static [(u64, usize)]),
    /// Vote for a transaction with these objects; the process dies, another one follows.
    VoteAndDie(&'static [(u64, usize)]),
    /// Restore transactions of these objects each as a group; of an object without a length
    /// the data that it has.
    Group(&'static [&'static [(u64, usize)]]),
    /// The same when another transaction has begun, which is finished after the group.
    GroupBefore(&'static [&'static [(u64, usize)]], &'static [(u64, usize)]),
    /// The same, but that transaction is given up.
    GroupBeforeAbort(&'static [&'static [(u64, usize)]], &'static [(u64, usize)]),
    /// Make durable that the last group is finished.
    Settle,
    /// The process dies, another one follows.
    Die,
    /// Save the index.
    Save,
    /// Close, and open again.
    Reopen,
    /// Remove the index, as an operator may, and open without it.
    ReopenWithoutIndex,
    /// Pack to the time of so many transactions ago.
    Pack {
        ago: usize,
        gc: bool,
        keep_old: bool,
        meanwhile: &'static [(u64, usize)],
    },
}
