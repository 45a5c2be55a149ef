//! What a log cannot do.

use std::io;
use std::path::{Path, PathBuf};

use crate::ids::Oid;

/// Where warnings go.
pub(super) const LOGGER: &str = "dobbin";

/// What is wrong with the bytes at some place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The head of a record is not what was written.
    #[error("a record's head does not match its checksum")]
    Head,
    /// The payload of a record is not what was written.
    #[error("a record's payload does not match its checksum")]
    Payload,
    /// The record is sound, but does not belong where it is.
    #[error("a record of another kind, object or transaction than expected")]
    Unexpected,
    /// It is unknown whether the transaction of the record was committed.
    #[error("the end of the transaction is lost")]
    NoEnd,
    /// The file ends within a record.
    #[error("the file ends within a record")]
    Cut,
}

/// What a log cannot do.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file in question.
        path: PathBuf,
        /// The system's error, errno included.
        #[source]
        source: io::Error,
    },
    /// The file is no log of ours.
    #[error("{}: not a dobbin database: it begins with {found:02x?}", path.display())]
    UnknownMagic {
        /// The file in question.
        path: PathBuf,
        /// Its first bytes, at most eight.
        found: Vec<u8>,
    },
    /// The file has a format that is not known here.
    #[error("{}: dobbin format {version} is not known here", path.display())]
    UnknownVersion {
        /// The file in question.
        path: PathBuf,
        /// The version that it gives.
        version: u32,
    },
    /// The file's header is damaged.
    #[error("{}: the file's header does not match its checksum", path.display())]
    CorruptHeader {
        /// The file in question.
        path: PathBuf,
    },
    /// A record is damaged.
    #[error(
        "{}: at offset {position}, transaction {}: {damage}",
        path.display(),
        transaction.map_or_else(|| "unknown".to_owned(), |number| number.to_string())
    )]
    Corrupt {
        /// The file in question.
        path: PathBuf,
        /// Where the damaged record begins.
        position: u64,
        /// The transaction that wrote it, if that can be told.
        transaction: Option<u64>,
        /// What is wrong.
        damage: Damage,
    },
    /// There is no such object, or stream.
    #[error("no object {}", .0.as_u64())]
    NoSuchObject(Oid),
    /// An object, or the root, that would refer to an object or stream that is not there.
    #[error(
        "{}: {} cannot refer to object {}, which is not in the database any more: it was \
         unreachable when the database was compacted; store a copy of it",
        path.display(),
        oid.map_or_else(|| "the root".to_owned(), |oid| format!("object {}", oid.as_u64())),
        target.as_u64()
    )]
    Dangling {
        /// The file in question.
        path: PathBuf,
        /// The object that refers to it; `None` for the root.
        oid: Option<Oid>,
        /// The object that is not there.
        target: Oid,
    },
    /// A state was asked for that a compaction has removed.
    #[error(
        "{}: nothing is known of the state at {}: a compaction has removed all that is older \
         than {} (seconds since 1970)",
        path.display(), seconds(*time), seconds(*oldest)
    )]
    Compacted {
        /// The file in question.
        path: PathBuf,
        /// The time that was asked for, in microseconds since 1970.
        time: i64,
        /// The time of the oldest state that there is, in microseconds since 1970.
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
        /// The file in question.
        path: PathBuf,
        /// How long it is.
        len: u64,
        /// How long it was, at least.
        durable: u64,
        /// The last transaction that was in it then.
        transaction: u64,
    },
    /// The file is empty, though its index shows that it was not.
    #[error(
        "{}: the file is empty, but had {durable} bytes, up to transaction {transaction}, as \
         its index shows; restore the file, or remove the index to begin a new database",
        path.display()
    )]
    Emptied {
        /// The file in question.
        path: PathBuf,
        /// How long it was, at least.
        durable: u64,
        /// The last transaction that was in it then.
        transaction: u64,
    },
    /// An object's pickle has more bytes than a record can have.
    #[error("a record of {0} bytes is too long")]
    TooLong(usize),
    /// A copy can only be made into a new database.
    #[error("{}: a snapshot goes into an empty database", .0.display())]
    NotEmpty(PathBuf),
    /// Where the file was there is another one, which is no later state of it.
    #[error("{}: the file was replaced by another database", .0.display())]
    Replaced(PathBuf),
    /// An earlier sync failed, or a write that could not be undone, so what the file holds is
    /// unknown until it is opened again.
    #[error("{}: an earlier write failed; reopen the database", .0.display())]
    Failed(PathBuf),
    /// The log was opened for reading only.
    #[error("{}: the database is read-only", .0.display())]
    ReadOnly(PathBuf),
    /// A call of a commit outside of one.
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

/// A result of a log.
pub type LogResult<T> = Result<T, LogError>;

pub(super) fn io_error(path: &Path) -> impl Fn(io::Error) -> LogError + use<> {
    let path = path.to_owned();
    move |source| LogError::Io {
        path: path.clone(),
        source,
    }
}
