//! The kinds of damage in the bytes of a `Data.fs`.

use zrs_ids::{Oid, Tid};

/// A damaged structure, with the value that was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corruption {
    /// Unknown transaction status byte.
    #[error("invalid transaction status {found:#04x}")]
    Status {
        /// The byte.
        found: u8,
    },
    /// A transaction is shorter than its own header, or longer than any file.
    #[error("invalid transaction length {length} with a header of {header} bytes")]
    TransactionLength {
        /// The length in the header.
        length: u64,
        /// The length of header, user, description and extension.
        header: u64,
    },
    /// The length at the end of a transaction differs from that in its header.
    #[error(
        "redundant transaction length does not match initial transaction length: \
         {redundant} != {length}"
    )]
    RedundantLength {
        /// The length in the header.
        length: u64,
        /// The length at the end.
        redundant: u64,
    },
    /// No transaction begins where the length at the end of a transaction leads.
    #[error("no transaction of length {length} ends here")]
    NoTransactionEnds {
        /// The length at the end.
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
    /// A data record belongs to a version, a feature that ZODB no longer has.
    #[error("data record with a version of {length} bytes")]
    Version {
        /// The length of the version's name.
        length: u16,
    },
    /// The bytes left in a transaction are too few for another data record.
    #[error("{left} bytes, too few for a data record")]
    RecordTooShort {
        /// The number of bytes left.
        left: u64,
    },
    /// A data record extends beyond its transaction, or beyond the record that refers to it.
    #[error("data record of {length} bytes of data reaches beyond {limit}")]
    RecordTooLong {
        /// The length of the data in the header.
        length: u64,
        /// The position at which the record must end.
        limit: u64,
    },
    /// A data record has the position of another transaction as its own.
    #[error("data record has the transaction position {found}, expected {expected}")]
    TransactionPosition {
        /// The position in the data record.
        found: u64,
        /// Where its transaction begins.
        expected: u64,
    },
    /// The previous record of a data record is not before it.
    #[error("previous record at {found}, which is not before this one")]
    PreviousRecord {
        /// The position in the data record.
        found: u64,
    },
    /// A backpointer leads to a position where no earlier record can be.
    #[error("backpointer to {found}, which cannot be the position of an earlier record")]
    Backpointer {
        /// The position in the data record.
        found: u64,
    },
    /// A backpointer leads to a record of another object.
    #[error("backpointer from a record of {expected} to one of {found}")]
    BackpointerOid {
        /// The object of the record at the target.
        found: Oid,
        /// The object of the record.
        expected: Oid,
    },
    /// Committed transactions were cut off.
    #[error("the file was cut to {length} bytes")]
    Truncated {
        /// The length of the file.
        length: u64,
    },
}
