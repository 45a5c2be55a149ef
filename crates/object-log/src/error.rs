//! Errors of a log.

use std::io;
use std::path::{Path, PathBuf};

use zrs_ids::Oid;

/// The logger that warnings are sent to.
pub(super) const LOGGER: &str = "dobbin";

/// The kind of damage at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The head of a record does not match its checksum.
    #[error("a record's head does not match its checksum")]
    Head,
    /// The payload of a record does not match its checksum.
    #[error("a record's payload does not match its checksum")]
    Payload,
    /// A sound record that does not belong at this position.
    #[error("a record of another kind, object or transaction than expected")]
    Unexpected,
    /// It is unknown whether the transaction of the record was committed.
    #[error("the end of the transaction is lost")]
    NoEnd,
    /// The file ends within a record.
    #[error("the file ends within a record")]
    Cut,
}

/// An error of a log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// An error of the operating system.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error, with its errno.
        #[source]
        source: io::Error,
    },
    /// The file is not a log.
    #[error("{}: not a dobbin database: it begins with {found:02x?}", path.display())]
    UnknownMagic {
        /// The file.
        path: PathBuf,
        /// Its first bytes, at most eight.
        found: Vec<u8>,
    },
    /// The file has an unknown format.
    #[error("{}: unknown dobbin format version {version}", path.display())]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// The version of its format.
        version: u32,
    },
    /// The file's header is damaged.
    #[error("{}: the file's header does not match its checksum", path.display())]
    CorruptHeader {
        /// The file.
        path: PathBuf,
    },
    /// A record is damaged.
    #[error(
        "{}: at offset {position}, transaction {}: {damage}",
        path.display(),
        transaction.map_or_else(|| "unknown".to_owned(), |number| number.to_string())
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The position of the damaged record.
        position: u64,
        /// The transaction that wrote it, if known.
        transaction: Option<u64>,
        /// The kind of damage.
        damage: Damage,
    },
    /// The object or stream does not exist.
    #[error("no object {}", .0.as_u64())]
    NoSuchObject(Oid),
    /// An object, or the root, would refer to an object or stream that does not exist.
    #[error(
        "{}: {} cannot refer to object {}, which is not in the database any more: it was \
         unreachable when the database was compacted; store a copy of it",
        path.display(),
        oid.map_or_else(|| "the root".to_owned(), |oid| format!("object {}", oid.as_u64())),
        target.as_u64()
    )]
    Dangling {
        /// The file.
        path: PathBuf,
        /// The object that refers to it; `None` for the root.
        oid: Option<Oid>,
        /// The object that does not exist.
        target: Oid,
    },
    /// The requested state was removed by a compaction.
    #[error(
        "{}: nothing is known of the state at {}: a compaction has removed all that is older \
         than {} (seconds since 1970)",
        path.display(), seconds(*time), seconds(*oldest)
    )]
    Compacted {
        /// The file.
        path: PathBuf,
        /// The requested time, in microseconds since 1970.
        time: i64,
        /// The time of the oldest state in the file, in microseconds since 1970.
        oldest: i64,
    },
    /// The file is shorter than it was when it was durable.
    #[error(
        "{}: the end of the file is lost: it has {len} bytes, but had {durable}, up to \
         transaction {transaction}, when they were durable; restore the file, or go on with \
         what is left with `dobbin recover`",
        path.display()
    )]
    Shortened {
        /// The file.
        path: PathBuf,
        /// Its length.
        len: u64,
        /// The length up to which it was durable.
        durable: u64,
        /// The last transaction that it had then.
        transaction: u64,
    },
    /// The file is empty, although its index shows that it was not.
    #[error(
        "{}: the file is empty, but had {durable} bytes, up to transaction {transaction}, as \
         its index shows; restore the file, or remove the index to begin a new database",
        path.display()
    )]
    Emptied {
        /// The file.
        path: PathBuf,
        /// The length up to which it was durable.
        durable: u64,
        /// The last transaction that it had then.
        transaction: u64,
    },
    /// The pickle of an object is too long for a record.
    #[error("a record of {0} bytes is too long")]
    TooLong(usize),
    /// A copy can only be made into a new database.
    #[error("{}: a snapshot can only be written into an empty database", .0.display())]
    NotEmpty(PathBuf),
    /// Another file is at the path, and it is not a later state of this one.
    #[error("{}: the file was replaced by another database", .0.display())]
    Replaced(PathBuf),
    /// An earlier sync failed, or a write that could not be undone. The contents of the file are
    /// unknown until it is opened again.
    #[error("{}: an earlier write failed; reopen the database", .0.display())]
    Failed(PathBuf),
    /// The log was opened for reading only.
    #[error("{}: the database is read-only", .0.display())]
    ReadOnly(PathBuf),
    /// A call that requires a transaction was made outside of one.
    #[error("no transaction is being written")]
    NoTransaction,
    /// The log is closed.
    #[error("the database is closed")]
    Closed,
}

fn seconds(microseconds: i64) -> String {
    let (whole, rest) = (
        microseconds.div_euclid(1_000_000),
        microseconds.rem_euclid(1_000_000),
    );
    format!("{whole}.{rest:06}")
}

/// The result of an operation on a log.
pub type LogResult<T> = Result<T, LogError>;

/// A function that makes a [`LogError::Io`] for a file.
pub(super) fn io_error(path: &Path) -> impl Fn(io::Error) -> LogError + use<> {
    let path = path.to_owned();
    move |source| LogError::Io {
        path: path.clone(),
        source,
    }
}
