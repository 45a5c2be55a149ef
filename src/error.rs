//! What can go wrong, by the side that is at fault: the disk or file
//! ([`StorageError`]) or the peer ([`PeerError`]).
//!
//! Errors carry data, not prose made for one caller. `py::errors` alone knows
//! which Python exception each becomes.

use std::io;
use std::path::PathBuf;

use crate::format::Corruption;
use crate::ids::{Oid, Tid};

/// A file that cannot be read, or does not hold what its format says.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file in question.
        path: PathBuf,
        /// The system's error, errno included.
        #[source]
        source: io::Error,
    },
    /// The file is not a `Data.fs`.
    #[error("{}: not a ZODB file storage: it begins with {found:02x?}", path.display())]
    UnknownMagic {
        /// The file in question.
        path: PathBuf,
        /// Its first bytes, at most four.
        found: Vec<u8>,
    },
    /// The file breaks its format.
    #[error("{}: corrupt at position {position}: {corruption}", path.display())]
    Corrupt {
        /// The file in question.
        path: PathBuf,
        /// Where the broken structure begins.
        position: u64,
        /// What was found there.
        corruption: Corruption,
    },
    /// A reader was asked to start after a transaction later than the last one.
    #[error("transaction id too high: {start}, the last is {last}")]
    TidTooHigh {
        /// The transaction asked for.
        start: Tid,
        /// The last transaction there is.
        last: Tid,
    },
    /// An object is not there.
    #[error("no object {oid}")]
    NoSuchObject {
        /// The object asked for.
        oid: Oid,
    },
    /// What a record refers to cannot be read without Python.
    #[error("references of object {oid}: {reason}")]
    References {
        /// The object.
        oid: Oid,
        /// What stood in the way.
        reason: String,
    },
}

/// A result of reading a file.
pub type StorageResult<T> = Result<T, StorageError>;
