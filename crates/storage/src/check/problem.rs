//! What can be wrong with a file, and where.

use std::path::PathBuf;

use crate::format::Corruption;
use crate::pickle::refs::PickleError;
use zrs_ids::{Oid, Tid};

/// Something wrong with a file.
#[derive(Debug)]
pub struct Problem {
    /// Where the broken structure begins; for an index, the position that it is about.
    pub position: u64,
    /// The transaction, if it is known.
    pub tid: Option<Tid>,
    /// The object, if it is one record's problem.
    pub oid: Option<Oid>,
    /// How many bytes from there on cannot be told apart as records, 0 if all can.
    pub skipped: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a structure.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It breaks the format.
    #[error(transparent)]
    Format(#[from] Corruption),
    /// The file ends amid a transaction's header.
    #[error("{left} bytes where a transaction should be")]
    Fragment {
        /// How many bytes are left.
        left: u64,
    },
    /// A transaction would end after the file.
    #[error("transaction ends at {end}, but the file at {size}")]
    BeyondEnd {
        /// Where the transaction would end.
        end: u64,
        /// The file's length.
        size: u64,
    },
    /// A transaction was voted for and not finished.
    #[error("transaction was not finished: its status is still that of a vote")]
    Unfinished,
    /// A transaction's id is not that of its records, which fits better.
    #[error("transaction id {found}, while its records are of {records}")]
    TransactionTid {
        /// The id in the transaction's header.
        found: Tid,
        /// The id in its first data record.
        records: Tid,
    },
    /// A data record says that it is another transaction's.
    #[error("data record of transaction {found} in another one")]
    RecordTid {
        /// The id in the data record.
        found: Tid,
    },
    /// The bytes where a data record should be are none of this transaction's.
    #[error("no data record of this transaction, {left} bytes before its end")]
    NoRecord {
        /// How many bytes of the transaction are left.
        left: u64,
    },
    /// A data record's previous record is another one than the object's last.
    #[error("previous record at {found}, while the object's is at {expected}")]
    Previous {
        /// The position in the data record.
        found: u64,
        /// Where the object's last record before this one is, 0 if there is none.
        expected: u64,
    },
    /// A backpointer leads to bytes that are no data record.
    #[error("backpointer to {found}, where no data record is")]
    BackpointerTarget {
        /// The position in the data record.
        found: u64,
    },
    /// The file of a blob's revision is missing.
    #[error("the blob's file {path} is missing")]
    MissingBlob {
        /// Where it should be.
        path: PathBuf,
    },
    /// The index file cannot be read.
    #[error("the index cannot be read: {0}")]
    IndexUnreadable(String),
    /// The index is of a file that ended where no transaction of this one ends.
    #[error("the index ends at {end}, where no transaction ends")]
    IndexEnd {
        /// The position up to which the index claims to know the file.
        end: u64,
    },
    /// The index has another position for an object than the file, 0 standing for none.
    #[error("the index has position {found} for an object whose record is at {expected}")]
    IndexEntry {
        /// The position in the index.
        found: u64,
        /// Where the object's record is.
        expected: u64,
    },
    /// The index has more wrong positions, which are not told one by one.
    #[error("the index has {count} more wrong positions")]
    IndexEntries {
        /// How many.
        count: u64,
    },
    /// What an object refers to cannot be read from its record.
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
    /// A short name for the kind of fault, for programs.
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
