//! What can be wrong with the bytes of a `Data.fs`.

use zrs_ids::{Oid, Tid};

/// A structure that breaks the format, with what was found in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corruption {
    /// The status byte of a transaction is none that there is.
    #[error("invalid transaction status {found:#04x}")]
    Status {
        /// The byte.
        found: u8,
    },
    /// A transaction is shorter than its own header, or longer than any file.
    #[error("invalid transaction length {length} with a header of {header} bytes")]
    TransactionLength {
        /// The length that the header gives.
        length: u64,
        /// The length of header, user, description and extension.
        header: u64,
    },
    /// The length at the end of a transaction is not that of its header.
    #[error(
        "redundant transaction length does not match initial transaction length: \
         {redundant} != {length}"
    )]
    RedundantLength {
        /// The length that the header gives.
        length: u64,
        /// The length found at the end.
        redundant: u64,
    },
    /// A length at the end of a transaction leads to no transaction.
    #[error("no transaction of length {length} ends here")]
    NoTransactionEnds {
        /// The length found.
        length: u64,
    },
    /// A transaction is not later than the one before it.
    #[error("transaction id {found} is not later than {previous} before it")]
    TidOrder {
        /// The transaction's id.
        found: Tid,
        /// The id of the one before it.
        previous: Tid,
    },
    /// A data record belongs to a version, which ZODB dropped long ago.
    #[error("data record with a version of {length} bytes")]
    Version {
        /// The length of the version's name.
        length: u16,
    },
    /// The bytes left in a transaction are too few for another data record.
    #[error("{left} bytes where a data record should be")]
    RecordTooShort {
        /// How many bytes are left.
        left: u64,
    },
    /// A data record does not fit into its transaction, or before the record that leads to it.
    #[error("data record of {length} bytes of data reaches beyond {limit}")]
    RecordTooLong {
        /// The length of the data that the header gives.
        length: u64,
        /// Where it must have ended.
        limit: u64,
    },
    /// A data record names another transaction's position as its own.
    #[error("data record says that its transaction is at {found}, it is at {expected}")]
    TransactionPosition {
        /// The position in the data record.
        found: u64,
        /// Where its transaction begins.
        expected: u64,
    },
    /// A data record's previous record is not before it.
    #[error("previous record at {found}, which is not before this one")]
    PreviousRecord {
        /// The position in the data record.
        found: u64,
    },
    /// A backpointer leads to no place where an earlier record can be.
    #[error("backpointer to {found}, where no earlier record can be")]
    Backpointer {
        /// The position in the data record.
        found: u64,
    },
    /// A backpointer leads to another object's record.
    #[error("backpointer from a record of {expected} to one of {found}")]
    BackpointerOid {
        /// The object at the other end.
        found: Oid,
        /// The object of the record.
        expected: Oid,
    },
    /// Committed transactions are gone.
    #[error("the file was cut to {length} bytes")]
    Truncated {
        /// The length of the file.
        length: u64,
    },
}
