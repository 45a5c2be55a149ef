//! Errors of storages and their files. Errors of a peer are `PeerError` of `zrs-replication`.
//!
//! Errors carry data instead of a text for one caller. Only the binding's `errors` module maps
//! them to Python exceptions.

use std::io;
use std::path::PathBuf;

use crate::format::Corruption;
use zrs_ids::{Oid, Tid};

/// An error of a storage, or of a reader of its file.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A system call failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error, with its errno.
        #[source]
        source: io::Error,
    },
    /// The file is not a `Data.fs`.
    #[error("{}: not a ZODB file storage: it begins with \"{}\"{}", path.display(), found.escape_ascii(), hint(found))]
    UnknownMagic {
        /// The file.
        path: PathBuf,
        /// Its first bytes, at most four.
        found: Vec<u8>,
    },
    /// The file is damaged.
    #[error("{}: corrupt at position {position}: {corruption}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the damaged structure begins.
        position: u64,
        /// The kind of damage.
        corruption: Corruption,
    },
    /// The transaction after which a reader should start is later than the last one.
    #[error("transaction id too high: {start}, the last is {last}")]
    TidTooHigh {
        /// The requested transaction.
        start: Tid,
        /// The last transaction.
        last: Tid,
    },
    /// While a file was opened, a damaged transaction was found that is followed by others.
    #[error("{} has {corruption} at {position}", path.display())]
    CorruptTransaction {
        /// The file.
        path: PathBuf,
        /// Where the damaged structure begins.
        position: u64,
        /// The kind of damage.
        corruption: Corruption,
    },
    /// The position in an index or another record does not lead to a record of the object.
    #[error("{}: no record of {oid} at position {position}", path.display())]
    CorruptRecord {
        /// The file.
        path: PathBuf,
        /// The object.
        oid: Oid,
        /// The position.
        position: u64,
        /// The bytes at that position instead of a data header.
        found: Vec<u8>,
    },
    /// The object does not exist, or did not exist at the requested time.
    #[error("no object {oid}")]
    NoSuchObject {
        /// The object.
        oid: Oid,
    },
    /// The references of a record cannot be read without Python.
    #[error("references of object {oid}: {reason}")]
    References {
        /// The object.
        oid: Oid,
        /// The reason.
        reason: String,
    },
    /// The object was changed by another transaction.
    #[error("{oid} was changed by {committed}")]
    Conflict {
        /// The object.
        oid: Oid,
        /// The transaction that last wrote it.
        committed: Tid,
        /// The transaction that the caller expected.
        supplied: Option<Tid>,
    },
    /// An object that was read but not changed was changed by another transaction.
    #[error("{oid}, which was read, was changed by {committed}")]
    ReadConflict {
        /// The object.
        oid: Oid,
        /// The transaction that last wrote it.
        committed: Tid,
        /// The transaction that the caller expected.
        supplied: Option<Tid>,
    },
    /// The storage is open for reading only.
    #[error("the storage is read-only")]
    ReadOnly,
    /// A record was restored outside of a transaction.
    #[error("no transaction was begun")]
    NotBegun,
    /// `finish` was called before `vote`.
    #[error("tpc_finish called before tpc_vote")]
    NotVoted,
    /// The transaction cannot be undone.
    #[error("{0}")]
    Undo(UndoFailure),
    /// Several records of a transaction cannot be undone, each for its own reason.
    #[error("{} objects cannot be undone", .0.len())]
    MultipleUndo(Vec<(Oid, UndoFailure)>),
    /// A function of the caller failed; the caller has its error.
    #[error("a callback failed")]
    Callback,
    /// The user, description or extension is too long for the format.
    #[error("{0}")]
    FieldTooLong(&'static str),
    /// A record without data cannot be stored, since it would be read as a backpointer.
    #[error("cannot store a record of {0} without data")]
    NoData(Oid),
    /// A pack is already running.
    #[error("Already packing")]
    AlreadyPacking,
    /// The file would exceed the storage's quota.
    #[error("The storage quota has been exceeded.")]
    Quota,
    /// The bytes after the last good transaction could not be saved, so they were not cut off.
    #[error("couldn't save truncated data: {0}")]
    TailNotSaved(#[source] Box<StorageError>),
    /// An earlier write or sync failed, so the contents of the file are unknown until it is
    /// opened again.
    #[error("{}: an earlier write failed; reopen the storage", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
    },
    /// The storage was opened by the parent of this forked process. Both would write to the same
    /// place in the file.
    #[error(
        "{}: this process was forked after the storage was opened; only the process that \
         opened it may change it",
        path.display()
    )]
    Inherited {
        /// The file.
        path: PathBuf,
    },
    /// The path of the storage no longer leads to the file that it has open.
    #[error(
        "{}: this is not the file that the storage has open, which was removed or replaced by \
         another; stop the server before its file is exchanged",
        path.display()
    )]
    Displaced {
        /// The path.
        path: PathBuf,
    },
    /// All object ids are in use.
    #[error("there is no object id after {0}")]
    NoMoreOids(Oid),
    /// The storage is closed.
    #[error("closed")]
    Closed,
}

/// A hint for files that begin with these bytes.
fn hint(magic: &[u8]) -> &'static str {
    if magic == b"FS21" {
        ", as files of Python 2 do, which can only be read"
    } else {
        ""
    }
}

impl StorageError {
    /// Whether the file is damaged. A damaged length may lead to an offset that the system
    /// rejects as invalid.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. } | Self::CorruptTransaction { .. } | Self::CorruptRecord { .. } => {
                true
            }
            Self::Io { source, .. } => source.kind() == io::ErrorKind::InvalidInput,
            _ => false,
        }
    }

    /// Whether a nonblocking operation would have had to wait.
    pub fn would_block(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Why a transaction, or one of its records, cannot be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UndoFailure {
    /// The transaction does not exist, or a pack has removed the state before it.
    #[error("Invalid transaction id")]
    NoTransaction,
    /// The transaction was packed, or its records are damaged.
    #[error("non-undoable transaction")]
    NotUndoable,
    /// The transaction created the object, which was changed later.
    #[error("Can't undo an add transaction followed by conflicting transactions.")]
    LaterThanAddition,
    /// The object was changed later, and the conflict cannot be resolved.
    #[error("Some data were modified by a later transaction")]
    ModifiedLater,
    /// Data that the decision requires do not exist.
    #[error("_loadBack() failed")]
    DataMissing,
    /// A pack is running.
    #[error("Undo is currently disabled for database maintenance.<p>")]
    Packing,
}

/// The result of an operation on a storage or of reading its file.
pub type StorageResult<T> = Result<T, StorageError>;
