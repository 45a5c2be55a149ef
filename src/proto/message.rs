//! The messages of a primary that are headers: their fields, checked and typed.

use bytes::Bytes;

use super::PeerError;
use crate::ids::{Oid, Tid};
use crate::pickle::{Dialect, Extension, Field, Header, HeaderWriter, PickleError};

/// A transaction's header: message `T`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionMeta {
    /// The transaction's id.
    pub tid: Tid,
    /// Its status: a space, or `p` for one that was packed.
    pub status: u8,
    /// Who made it.
    pub user: Bytes,
    /// What it did.
    pub description: Bytes,
    /// Its extension, pickled.
    pub extension: Extension,
}

/// A record's header: message `S`, or `B` for one with a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The object's id.
    pub oid: Oid,
    /// The tid of the revision.
    pub tid: Tid,
    /// The transaction that holds the data, if this one only points there.
    pub data_txn: Option<Tid>,
}

/// A header message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A transaction begins.
    Transaction(TransactionMeta),
    /// A record; its data follow as a message of their own.
    Store(RecordHeader),
    /// A record with a blob; its data follow, then so many blocks.
    Blob(RecordHeader, u32),
    /// The transaction ends; with the stream's digest, which very old primaries leave out.
    Commit(Option<Bytes>),
}

impl Message {
    /// Reads a header message.
    ///
    /// # Errors
    /// [`PeerError::BadHeader`].
    pub fn read(message: &[u8]) -> Result<Self, PeerError> {
        let Header {
            kind,
            fields,
            extension,
        } = Header::read(message)?;
        let message = match (kind, &fields[..], extension) {
            (b'T', [tid, status, user, description], Some(extension)) => {
                Self::Transaction(TransactionMeta {
                    tid: id(tid, Tid::from_slice)?,
                    status: status_byte(status)?,
                    user: bytes(user)?,
                    description: bytes(description)?,
                    extension,
                })
            }
            (b'S', [oid, tid, version, data_txn], None) => {
                Self::Store(record(oid, tid, version, data_txn)?)
            }
            (b'B', [oid, tid, version, data_txn, Field::Number(blocks)], None) => {
                let blocks = u32::try_from(*blocks)
                    .map_err(|error| malformed(&format!("{blocks} blocks: {error}")))?;
                Self::Blob(record(oid, tid, version, data_txn)?, blocks)
            }
            (b'C', [], None) => Self::Commit(None),
            (b'C', [digest], None) => Self::Commit(Some(bytes(digest)?)),
            _ => {
                let kind = char::from(kind).escape_default();
                return Err(malformed(&format!(
                    "kind '{kind}' with {} fields",
                    fields.len()
                )));
            }
        };
        Ok(message)
    }

    /// Writes the message as a primary of this dialect sends it.
    ///
    /// # Errors
    /// [`PickleError`] for an extension that is not a pickle.
    pub fn write(&self, dialect: Dialect) -> Result<Vec<u8>, PickleError> {
        let header = |kind| HeaderWriter::new(dialect, kind);
        Ok(match self {
            Self::Transaction(meta) => {
                let extension = meta.extension.value(dialect)?;
                let mut writer = header(b'T');
                writer
                    .bytes(meta.tid.as_bytes())
                    .text(char::from(meta.status).encode_utf8(&mut [0; 4]))
                    .bytes(&meta.user)
                    .bytes(&meta.description)
                    .pickled(&extension);
                writer.finish()
            }
            Self::Store(record) => {
                let mut writer = header(b'S');
                write_record(record, &mut writer);
                writer.finish()
            }
            Self::Blob(record, blocks) => {
                let mut writer = header(b'B');
                write_record(record, &mut writer);
                writer.number(*blocks);
                writer.finish()
            }
            Self::Commit(digest) => {
                let mut writer = header(b'C');
                if let Some(digest) = digest {
                    writer.bytes(digest);
                    // A tuple of one is written as any other.
                }
                writer.finish()
            }
        })
    }

    /// The letter that names the kind.
    pub const fn kind(&self) -> char {
        match self {
            Self::Transaction(_) => 'T',
            Self::Store(_) => 'S',
            Self::Blob(..) => 'B',
            Self::Commit(_) => 'C',
        }
    }
}

fn write_record(record: &RecordHeader, writer: &mut HeaderWriter) {
    writer
        .bytes(record.oid.as_bytes())
        .bytes(record.tid.as_bytes())
        .text("");
    match record.data_txn {
        Some(tid) => writer.bytes(tid.as_bytes()),
        None => writer.nothing(),
    };
}

fn record(
    oid: &Field,
    tid: &Field,
    version: &Field,
    data_txn: &Field,
) -> Result<RecordHeader, PeerError> {
    if !bytes(version)?.is_empty() {
        return Err(malformed("a record in a version"));
    }
    Ok(RecordHeader {
        oid: id(oid, Oid::from_slice)?,
        tid: id(tid, Tid::from_slice)?,
        data_txn: match data_txn {
            Field::Nothing => None,
            other => Some(id(other, Tid::from_slice)?),
        },
    })
}

fn id<T>(field: &Field, from_slice: fn(&[u8]) -> Option<T>) -> Result<T, PeerError> {
    let bytes = bytes(field)?;
    from_slice(&bytes).ok_or_else(|| malformed(&format!("an id of {} bytes", bytes.len())))
}

/// Bytes as they are, text as UTF-8: Python 2 applications stored either as user and
/// description.
fn bytes(field: &Field) -> Result<Bytes, PeerError> {
    match field {
        Field::Bytes(bytes) => Ok(Bytes::copy_from_slice(bytes)),
        Field::Text(text) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        Field::Nothing | Field::Number(_) => Err(malformed("a field that is not bytes")),
    }
}

fn status_byte(field: &Field) -> Result<u8, PeerError> {
    match bytes(field)?[..] {
        [status @ (b' ' | b'p')] => Ok(status),
        _ => Err(malformed(
            "a transaction status that is neither ' ' nor 'p'",
        )),
    }
}

fn malformed(what: &str) -> PeerError {
    PeerError::BadHeader(PickleError::NotAHeader(what.to_owned()))
}
