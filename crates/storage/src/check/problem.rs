//! The problems that a check can find, with their positions.

use std::path::PathBuf;

use crate::format::Corruption;
use crate::pickle::refs::PickleError;
use zrs_ids::{Oid, Tid};

/// A problem in a file.
#[derive(Debug)]
pub struct Problem {
    /// Where the damaged structure begins; for the index, the position in question.
    pub position: u64,
    /// The transaction, if it is known.
    pub tid: Option<Tid>,
    /// The object, if the problem concerns a single record.
    pub oid: Option<Oid>,
    /// The number of bytes from that position on that cannot be divided into records; 0 if all
    /// can.
    pub skipped: u64,
    /// The kind of problem.
    pub fault: Fault,
}

/// The kind of a problem.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The structure breaks the format.
    #[error(transparent)]
    Format(#[from] Corruption),
    /// The file ends within a transaction's header.
    #[error("{left} bytes, too few for a transaction")]
    Fragment {
        /// The number of bytes left.
        left: u64,
    },
    /// A transaction would end after the file.
    #[error("transaction ends at {end}, but the file ends at {size}")]
    BeyondEnd {
        /// Where the transaction would end.
        end: u64,
        /// The file's length.
        size: u64,
    },
    /// A transaction was voted for but not finished.
    #[error("transaction was not finished: it has the status of a voted transaction")]
    Unfinished,
    /// A transaction's id differs from that of its records, which is plausible.
    #[error("transaction id {found}, but its records belong to {records}")]
    TransactionTid {
        /// The id in the transaction's header.
        found: Tid,
        /// The id in its first data record.
        records: Tid,
    },
    /// A data record names another transaction as its own.
    #[error("data record of transaction {found} within another transaction")]
    RecordTid {
        /// The id in the data record.
        found: Tid,
    },
    /// Bytes within a transaction are not a data record of it.
    #[error("no data record of this transaction, {left} bytes before its end")]
    NoRecord {
        /// How many bytes of the transaction are left.
        left: u64,
    },
    /// A data record's previous-record pointer does not lead to the object's latest earlier
    /// record.
    #[error("previous record at {found}, expected {expected}")]
    Previous {
        /// The position in the data record.
        found: u64,
        /// Position of the object's latest earlier record; 0 if it has no earlier record.
        expected: u64,
    },
    /// A backpointer leads to bytes that are not a data record.
    #[error("backpointer to {found}, which is not the position of a data record")]
    BackpointerTarget {
        /// The position in the data record.
        found: u64,
    },
    /// The file of a blob's revision is missing.
    #[error("the blob's file {path} is missing")]
    MissingBlob {
        /// The expected path of the file.
        path: PathBuf,
    },
    /// The index file cannot be read.
    #[error("the index cannot be read: {0}")]
    IndexUnreadable(String),
    /// The index ends at a position where no transaction of the file ends.
    #[error("the index ends at {end}, where no transaction ends")]
    IndexEnd {
        /// The position up to which the index claims to cover the file.
        end: u64,
    },
    /// The index and the file disagree about an object's position, 0 meaning that it has none.
    #[error("the index has position {found} for an object, expected {expected}")]
    IndexEntry {
        /// The position in the index.
        found: u64,
        /// Where the object's record is.
        expected: u64,
    },
    /// The index has more wrong positions, which are not reported individually.
    #[error("the index has {count} more wrong positions")]
    IndexEntries {
        /// The number of those.
        count: u64,
    },
    /// An object's references cannot be read from its record.
    #[error("the object's references cannot be read: {0}")]
    Pickle(#[from] PickleError),
    /// An object refers to one that cannot be loaded.
    #[error("refers to invalid object {to} ({state})")]
    Dangling {
        /// The object referred to.
        to: Oid,
        /// Why it cannot be loaded.
        state: Absence,
    },
}

/// Why an object cannot be loaded, in the words of ZODB's fsrefs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absence {
    /// The file has no record of it.
    #[error("missing")]
    Missing,
    /// Its creation was undone, or it was deleted.
    #[error("object creation was undone")]
    Undone,
    /// Its record is broken.
    #[error("failed to load")]
    Broken,
}

impl Fault {
    /// A short name of the kind of fault, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Format(corruption) => corruption_kind(corruption),
            Self::Fragment { .. } => "fragment",
            Self::BeyondEnd { .. } => "beyond-end",
            Self::Unfinished => "unfinished",
            Self::TransactionTid { .. } => "transaction-tid",
            Self::RecordTid { .. } => "record-tid",
            Self::NoRecord { .. } => "no-record",
            Self::Previous { .. } => "previous",
            Self::BackpointerTarget { .. } => "backpointer-target",
            Self::MissingBlob { .. } => "missing-blob",
            Self::IndexUnreadable(_) => "index-unreadable",
            Self::IndexEnd { .. } => "index-end",
            Self::IndexEntry { .. } => "index-entry",
            Self::IndexEntries { .. } => "index-entries",
            Self::Pickle(_) => "pickle",
            Self::Dangling { .. } => "dangling",
        }
    }
}

fn corruption_kind(corruption: &Corruption) -> &'static str {
    match corruption {
        Corruption::Status { .. } => "status",
        Corruption::TransactionLength { .. } => "transaction-length",
        Corruption::RedundantLength { .. } => "redundant-length",
        Corruption::NoTransactionEnds { .. } => "no-transaction-ends",
        Corruption::TidOrder { .. } => "tid-order",
        Corruption::Version { .. } => "version",
        Corruption::RecordTooShort { .. } => "record-too-short",
        Corruption::RecordTooLong { .. } => "record-too-long",
        Corruption::TransactionPosition { .. } => "tloc",
        Corruption::PreviousRecord { .. } => "previous",
        Corruption::Backpointer { .. } => "backpointer",
        Corruption::BackpointerOid { .. } => "backpointer-oid",
        Corruption::Truncated { .. } => "truncated",
    }
}
