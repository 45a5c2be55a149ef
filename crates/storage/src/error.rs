//! What can go wrong, by the side that is at fault: the disk or file
//! ([`StorageError`]) or the peer (`PeerError` of `zrs-replication`).
//!
//! Errors carry data, not prose made for one caller. `py::errors` alone knows
//! which Python exception each becomes.

use std::io;
use std::path::PathBuf;

use crate::format::Corruption;
use zrs_ids::{Oid, Tid};

/// What a storage, or a reader of its file, cannot do.
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
    #[error("{}: not a ZODB file storage: it begins with \"{}\"{}", path.display(), found.escape_ascii(), hint(found))]
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
    /// A file that is being opened has a transaction that breaks the format, with others
    /// after it.
    #[error("{} has {corruption} at {position}", path.display())]
    CorruptTransaction {
        /// The file in question.
        path: PathBuf,
        /// Where the broken structure begins.
        position: u64,
        /// What was found there.
        corruption: Corruption,
    },
    /// What an index or another record leads to is not a record of the object.
    #[error("{}: no record of {oid} at position {position}", path.display())]
    CorruptRecord {
        /// The file in question.
        path: PathBuf,
        /// The object.
        oid: Oid,
        /// Where its record should begin.
        position: u64,
        /// The bytes that are there instead of a data header.
        found: Vec<u8>,
    },
    /// An object is not there, or was not at the time asked for.
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
    /// The object was changed by another transaction.
    #[error("{oid} was changed by {committed}")]
    Conflict {
        /// The object.
        oid: Oid,
        /// The transaction that last wrote it.
        committed: Tid,
        /// The transaction that the caller took for that.
        supplied: Option<Tid>,
    },
    /// An object that was read, not changed, was changed by another transaction.
    #[error("{oid}, which was read, was changed by {committed}")]
    ReadConflict {
        /// The object.
        oid: Oid,
        /// The transaction that last wrote it.
        committed: Tid,
        /// The transaction that the caller took for that.
        supplied: Option<Tid>,
    },
    /// The storage was opened for reading only.
    #[error("the storage is read-only")]
    ReadOnly,
    /// A record was to be restored without a transaction.
    #[error("no transaction was begun")]
    NotBegun,
    /// A transaction was to be finished that was not voted for.
    #[error("tpc_finish called before tpc_vote")]
    NotVoted,
    /// A transaction cannot be undone.
    #[error("{0}")]
    Undo(UndoFailure),
    /// Records of a transaction cannot be undone, each for its reason.
    #[error("{} objects cannot be undone", .0.len())]
    MultipleUndo(Vec<(Oid, UndoFailure)>),
    /// A caller's function failed; the caller knows how.
    #[error("a callback failed")]
    Callback,
    /// User, description or extension have more bytes than the format has room for.
    #[error("{0}")]
    FieldTooLong(&'static str),
    /// A record without data cannot be stored: it would read as a backpointer.
    #[error("a record of {0} without data")]
    NoData(Oid),
    /// A pack is going on.
    #[error("Already packing")]
    AlreadyPacking,
    /// The file may not grow so much.
    #[error("The storage quota has been exceeded.")]
    Quota,
    /// The file was to be cut to its last good transaction, but what would be cut off
    /// could not be saved.
    #[error("couldn't save truncated data: {0}")]
    TailNotSaved(#[source] Box<StorageError>),
    /// An earlier write or sync failed, so what the file holds is unknown until it is
    /// opened anew.
    #[error("{}: an earlier write failed; reopen the storage", path.display())]
    Failed {
        /// The file in question.
        path: PathBuf,
    },
    /// The storage was opened by another process, from which this one was forked. Both would
    /// write to the same place of the file.
    #[error(
        "{}: this process was forked after the storage was opened; only the process that \
         opened it may change it",
        path.display()
    )]
    Inherited {
        /// The file in question.
        path: PathBuf,
    },
    /// The storage's path no longer leads to the file that it has open.
    #[error(
        "{}: this is not the file that the storage has open, which was removed or replaced by \
         another; stop the server before its file is exchanged",
        path.display()
    )]
    Displaced {
        /// The path.
        path: PathBuf,
    },
    /// All object ids have been given out.
    #[error("there is no object id after {0}")]
    NoMoreOids(Oid),
    /// The storage is closed.
    #[error("closed")]
    Closed,
}

/// What is to be said of a file that begins so.
fn hint(magic: &[u8]) -> &'static str {
    if magic == b"FS21" {
        ", as files of Python 2 do, which can only be read"
    } else {
        ""
    }
}

impl StorageError {
    /// Whether the file breaks its format. A damaged length may lead to an offset that the
    /// system rejects as invalid.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. } | Self::CorruptTransaction { .. } | Self::CorruptRecord { .. } => {
                true
            }
            Self::Io { source, .. } => source.kind() == io::ErrorKind::InvalidInput,
            _ => false,
        }
    }

    /// Whether it was only asked for what is at hand, and something had to be waited for.
    pub fn would_block(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Why a transaction, or one of its records, cannot be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UndoFailure {
    /// There is no such transaction, or a pack removed what came before it.
    #[error("Invalid transaction id")]
    NoTransaction,
    /// The transaction was packed, or its records are broken.
    #[error("non-undoable transaction")]
    NotUndoable,
    /// The object was made by the transaction and changed later.
    #[error("Can't undo an add transaction followed by conflicting transactions.")]
    LaterThanAddition,
    /// The object was changed later, and the changes cannot be reconciled.
    #[error("Some data were modified by a later transaction")]
    ModifiedLater,
    /// Data that are needed to judge are not there.
    #[error("_loadBack() failed")]
    DataMissing,
    /// A pack is going on.
    #[error("Undo is currently disabled for database maintenance.<p>")]
    Packing,
}

/// A result of a storage or of a reader of its file.
pub type StorageResult<T> = Result<T, StorageError>;
