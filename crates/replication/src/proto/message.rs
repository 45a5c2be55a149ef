//! The header messages of a primary, with checked and typed fields.

use std::borrow::Cow;

use bytes::Bytes;

use super::PeerError;
use zrs_ids::{Oid, Tid};
use zrs_storage::pickle::{
    Dialect, Extension, Field, Header, HeaderWriter, PickleError, PlainHeader,
};

/// The header that begins a transaction: message `T`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionBegin {
    /// The transaction's id.
    pub tid: Tid,
    /// Its status: a space, or `p` if it was packed.
    pub status: u8,
    /// Its user name.
    pub user: Bytes,
    /// Its description.
    pub description: Bytes,
    /// Its extension, pickled.
    pub extension: Extension,
}

/// A record's header: message `S`, or `B` for one with a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The object's id.
    pub oid: Oid,
    /// The tid of the object's revision.
    pub tid: Tid,
    /// The transaction that has the data, if the record is a back pointer.
    pub data_txn: Option<Tid>,
}

/// A header message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A transaction begins.
    Transaction(TransactionBegin),
    /// A record. The next message is its data.
    Store(RecordHeader),
    /// A record with a blob. The next message is its data, followed by this many blocks.
    Blob(RecordHeader, u32),
    /// The transaction ends. Very old primaries omit the digest of the stream.
    Commit(Option<Bytes>),
}

impl Message {
    /// Parses a header message.
    ///
    /// # Errors
    /// [`PeerError::BadHeader`].
    pub(super) fn read(message: &[u8]) -> Result<Self, PeerError> {
        match Self::read_plain(message) {
            Some(message) => Ok(message),
            None => Self::read_any(message),
        }
    }

    /// Parses a header of the common shape; `None` for any other, which may be valid too.
    fn read_plain(message: &[u8]) -> Option<Self> {
        let mut header = PlainHeader::new(message)?;
        let message = match header.kind() {
            b'T' => {
                let tid = Tid::new(header.id()?);
                let status = status(&header.bytes()?)?;
                let (user, description) = (owned(header.bytes()?), owned(header.bytes()?));
                header.empty_dictionary()?;
                Self::Transaction(TransactionBegin {
                    tid,
                    status,
                    user,
                    description,
                    extension: Extension::default(),
                })
            }
            b'S' => {
                let (oid, tid) = (Oid::new(header.id()?), Tid::new(header.id()?));
                if !header.bytes()?.is_empty() {
                    return None;
                }
                let data_txn = header.optional_id()?.map(Tid::new);
                Self::Store(RecordHeader { oid, tid, data_txn })
            }
            b'C' => Self::Commit(Some(owned(header.bytes()?))),
            _ => return None,
        };
        header.end()?;
        Some(message)
    }

    fn read_any(message: &[u8]) -> Result<Self, PeerError> {
        let Header {
            kind,
            fields,
            extension,
        } = Header::read(message)?;
        let message = match (kind, &fields[..], extension) {
            (b'T', [tid, status, user, description], Some(extension)) => {
                Self::Transaction(TransactionBegin {
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

    /// Encodes the message in a dialect.
    ///
    /// # Errors
    /// [`PickleError`] for an extension that is not a pickle.
    #[cfg(test)]
    pub(super) fn write(&self, dialect: Dialect) -> Result<Vec<u8>, PickleError> {
        let mut out = Vec::with_capacity(192);
        self.write_to(dialect, &mut out)?;
        Ok(out)
    }

    /// Like [`Self::write`], but appends to a buffer, which is unchanged after an error.
    ///
    /// # Errors
    /// As for [`Self::write`].
    pub(super) fn write_to(&self, dialect: Dialect, out: &mut Vec<u8>) -> Result<(), PickleError> {
        match self {
            Self::Transaction(meta) => {
                let extension = meta.extension.value(dialect)?;
                let mut writer = HeaderWriter::new(dialect, b'T', out);
                writer
                    .bytes(meta.tid.as_bytes())
                    .text(char::from(meta.status).encode_utf8(&mut [0; 4]))
                    .bytes(&meta.user)
                    .bytes(&meta.description)
                    .pickled(&extension);
                writer.finish();
            }
            Self::Store(record) => {
                let mut writer = HeaderWriter::new(dialect, b'S', out);
                write_record(record, &mut writer);
                writer.finish();
            }
            Self::Blob(record, blocks) => {
                let mut writer = HeaderWriter::new(dialect, b'B', out);
                write_record(record, &mut writer);
                writer.number(*blocks);
                writer.finish();
            }
            Self::Commit(digest) => {
                let mut writer = HeaderWriter::new(dialect, b'C', out);
                if let Some(digest) = digest {
                    writer.bytes(digest);
                }
                writer.finish();
            }
        }
        Ok(())
    }

    /// The letter of the message kind.
    pub(super) const fn kind(&self) -> char {
        match self {
            Self::Transaction(_) => 'T',
            Self::Store(_) => 'S',
            Self::Blob(..) => 'B',
            Self::Commit(_) => 'C',
        }
    }
}

fn write_record(record: &RecordHeader, writer: &mut HeaderWriter<'_>) {
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

/// Bytes unchanged, text as UTF-8: Python 2 applications stored both as user and description.
fn bytes(field: &Field) -> Result<Bytes, PeerError> {
    match field {
        Field::Bytes(bytes) => Ok(Bytes::copy_from_slice(bytes)),
        Field::Text(text) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        Field::Nothing | Field::Number(_) => Err(malformed("a field that is not bytes")),
    }
}

fn status_byte(field: &Field) -> Result<u8, PeerError> {
    status(&bytes(field)?)
        .ok_or_else(|| malformed("a transaction status that is neither ' ' nor 'p'"))
}

fn status(bytes: &[u8]) -> Option<u8> {
    match *bytes {
        [status @ (b' ' | b'p')] => Some(status),
        _ => None,
    }
}

fn owned(bytes: Cow<'_, [u8]>) -> Bytes {
    match bytes {
        Cow::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
        Cow::Owned(bytes) => bytes.into(),
    }
}

fn malformed(what: &str) -> PeerError {
    PeerError::BadHeader(PickleError::NotAHeader(what.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id() -> impl Strategy<Value = [u8; 8]> {
        any::<[u8; 8]>()
    }

    fn message() -> impl Strategy<Value = Message> {
        let field = || proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        let extension = prop_oneof![
            3 => Just(Extension::default()),
            1 => Just(Extension::new(&b"}X\x01\0\0\0aK\x01s."[..])),
        ];
        let meta = (
            id(),
            prop_oneof![Just(b' '), Just(b'p')],
            field(),
            field(),
            extension,
        );
        let record = || {
            (id(), id(), proptest::option::of(id())).prop_map(|(oid, tid, data_txn)| RecordHeader {
                oid: Oid::new(oid),
                tid: Tid::new(tid),
                data_txn: data_txn.map(Tid::new),
            })
        };
        prop_oneof![
            meta.prop_map(|(tid, status, user, description, extension)| {
                Message::Transaction(TransactionBegin {
                    tid: Tid::new(tid),
                    status,
                    user,
                    description,
                    extension,
                })
            }),
            record().prop_map(Message::Store),
            (record(), any::<u32>().prop_map(|blocks| blocks >> 1))
                .prop_map(|(record, blocks)| Message::Blob(record, blocks)),
            proptest::option::of(field()).prop_map(Message::Commit),
        ]
    }

    fn is_plain(message: &Message) -> bool {
        match message {
            Message::Transaction(meta) => meta.extension.as_bytes().is_empty(),
            Message::Store(_) | Message::Commit(Some(_)) => true,
            Message::Blob(..) | Message::Commit(None) => false,
        }
    }

    proptest! {
        #[test]
        fn written_messages_parse_to_the_same_value(message in message(), python2: bool) {
            let dialect = if python2 { Dialect::Python2 } else { Dialect::Python3 };
            let written = message.write(dialect).unwrap();
            prop_assert_eq!(Message::read_any(&written), Ok(message.clone()));
            let plain = is_plain(&message).then_some(message);
            prop_assert_eq!(Message::read_plain(&written), plain);
        }

        #[test]
        fn plain_and_general_parsers_agree(
            message in message(), python2: bool, at: prop::sample::Index, byte: u8, cut: bool,
        ) {
            let dialect = if python2 { Dialect::Python2 } else { Dialect::Python3 };
            let mut written = message.write(dialect).unwrap();
            let at = at.index(written.len());
            written[at] = byte;
            if cut {
                written.truncate(at);
            }
            if let Some(plain) = Message::read_plain(&written) {
                prop_assert_eq!(Message::read_any(&written), Ok(plain));
            }
        }
    }
}
