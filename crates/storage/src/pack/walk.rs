//! Walks over the headers of a `Data.fs` without reading the data.

use std::io;

use bytes::Bytes;

use crate::error::{StorageError, StorageResult};
use crate::format::data::parse_backpointer;
use crate::format::{BACKPOINTER_LEN, Corruption, DATA_HEADER_LEN, DataHeader, TransactionStatus};
use crate::reader::{Reader, TransactionRecord};
use zrs_ids::{Oid, Tid};

/// A data record without its data.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordHead {
    /// Where the record begins.
    pub(super) position: u64,
    pub(super) header: DataHeader,
    /// The target of the backpointer, if the record has one that is not 0.
    pub(super) back: Option<u64>,
}

impl RecordHead {
    /// Whether the record undoes the object's creation.
    pub(super) const fn undoes_creation(&self) -> bool {
        self.header.has_backpointer() && self.back.is_none()
    }

    fn data(&self) -> Data {
        Data {
            position: self.position + DATA_HEADER_LEN as u64,
            len: self.header.data_len,
        }
    }
}

/// The location of data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Data {
    pub(super) position: u64,
    /// Never 0.
    pub(super) len: u64,
}

impl Data {
    /// The number of bytes of memory that the data take.
    pub(super) fn memory_len(self, reader: &Reader) -> StorageResult<usize> {
        usize::try_from(self.len).map_err(|error| {
            let source = io::Error::new(io::ErrorKind::OutOfMemory, error);
            reader.file.io_error(source)
        })
    }

    /// The data in memory.
    pub(super) fn read(self, reader: &Reader) -> StorageResult<Bytes> {
        let len = self.memory_len(reader)?;
        match reader.window.get(self.position, len) {
            Some(held) => Ok(Bytes::copy_from_slice(held)),
            None => reader.file.read_bytes(self.position, len),
        }
    }
}

/// The finished transaction at `position`, which is before the committed end.
pub(super) fn transaction(
    reader: &mut Reader,
    position: u64,
    previous: Tid,
) -> StorageResult<TransactionRecord> {
    if let Some(transaction) = reader.transaction(position, previous)? {
        return Ok(transaction);
    }
    let found = TransactionStatus::Voted.as_byte();
    Err(reader.file.corrupt(position, Corruption::Status { found }))
}

/// Calls `visit` with each data record of a transaction, in file order.
pub(super) fn records<E: From<StorageError>>(
    reader: &mut Reader,
    transaction: &TransactionRecord,
    mut visit: impl FnMut(&mut Reader, RecordHead) -> Result<(), E>,
) -> Result<(), E> {
    let mut position = transaction.data_start();
    while position < transaction.data_end() {
        let (record, end) = next_record(reader, transaction, position)?;
        visit(reader, record)?;
        position = end;
    }
    Ok(())
}

/// The data record at `position` of a transaction, and where it ends.
fn next_record(
    reader: &mut Reader,
    transaction: &TransactionRecord,
    position: u64,
) -> StorageResult<(RecordHead, u64)> {
    let limit = transaction.data_end();
    let left = limit - position;
    if left < DATA_HEADER_LEN as u64 {
        let corruption = Corruption::RecordTooShort { left };
        return Err(reader.file.corrupt(position, corruption));
    }
    let Some(bytes) = reader.array(position)? else {
        return Err(reader.file.truncated(position)?);
    };
    let corrupt = |corruption| reader.file.corrupt(position, corruption);
    let header = DataHeader::parse(&bytes).map_err(corrupt)?;
    let end = header
        .check(position, transaction.position, limit)
        .map_err(corrupt)?;
    let mut back = None;
    if header.has_backpointer() {
        let content = position + DATA_HEADER_LEN as u64;
        let Some(bytes) = reader.array::<BACKPOINTER_LEN>(content)? else {
            return Err(reader.file.truncated(content)?);
        };
        back = parse_backpointer(bytes, position).map_err(|e| reader.file.corrupt(position, e))?;
    }
    let record = RecordHead {
        position,
        header,
        back,
    };
    Ok((record, end))
}

/// The data record that begins at `position`, a position found in another record. Does not move
/// the reader's window.
pub(super) fn record_at(reader: &Reader, position: u64, limit: u64) -> StorageResult<RecordHead> {
    let mut bytes = [0; DATA_HEADER_LEN + BACKPOINTER_LEN];
    let count = match reader.window.get(position, bytes.len()) {
        Some(held) => {
            bytes.copy_from_slice(held);
            bytes.len()
        }
        // A record at the end of the file may be shorter.
        None => reader.file.read_at_most(&mut bytes, position)?,
    };
    if count < DATA_HEADER_LEN {
        return Err(reader.file.truncated(position)?);
    }
    let (mut header, mut back) = ([0; DATA_HEADER_LEN], [0; BACKPOINTER_LEN]);
    header.copy_from_slice(&bytes[..DATA_HEADER_LEN]);
    back.copy_from_slice(&bytes[DATA_HEADER_LEN..]);
    let corrupt = |corruption| reader.file.corrupt(position, corruption);
    let header = DataHeader::parse(&header).map_err(corrupt)?;
    header.end(position, limit).map_err(corrupt)?;
    let back = if header.has_backpointer() {
        parse_backpointer(back, position).map_err(corrupt)?
    } else {
        None
    };
    Ok(RecordHead {
        position,
        header,
        back,
    })
}

/// The record of `oid` to which a backpointer of the record at `from` leads.
pub(super) fn follow(reader: &Reader, oid: Oid, from: u64, back: u64) -> StorageResult<RecordHead> {
    let record = record_at(reader, back, from)?;
    if record.header.oid == oid {
        return Ok(record);
    }
    let corruption = Corruption::BackpointerOid {
        found: record.header.oid,
        expected: oid,
    };
    Err(reader.file.corrupt(back, corruption))
}

/// The location of a record's data, after following its backpointers; `None` if the last record
/// undoes the object's creation.
pub(super) fn data_of(reader: &Reader, mut record: RecordHead) -> StorageResult<Option<Data>> {
    while let Some(back) = record.back {
        record = follow(reader, record.header.oid, record.position, back)?;
    }
    Ok((!record.header.has_backpointer()).then(|| record.data()))
}
