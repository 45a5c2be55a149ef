//! Reads the data records of a transaction, one at a time.

use std::io;

use bytes::Bytes;

use super::reader::{READ_AHEAD, Reader, TransactionRecord};
use crate::error::StorageResult;
use crate::format::data::parse_backpointer;
use crate::format::{BACKPOINTER_LEN, Corruption, DATA_HEADER_LEN, DataHeader};
use zrs_ids::{Oid, Tid};

/// A data record with its data, which may be those of an earlier record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataRecord {
    /// Where the record begins.
    pub position: u64,
    /// The object.
    pub oid: Oid,
    /// The transaction that wrote the record.
    pub tid: Tid,
    /// The object's pickles, read at the end of the backpointers if the record has one; `None` if
    /// the record undoes the object's creation.
    pub data: Option<Bytes>,
    /// The transaction of the record to which the backpointer leads, one link back; `None`
    /// without backpointer.
    pub data_txn: Option<Tid>,
}

/// A position among the data records of a transaction.
#[derive(Clone, Debug)]
pub struct RecordCursor {
    /// Where the transaction begins.
    transaction: u64,
    /// Where the next record begins.
    position: u64,
    /// Where the last record ends.
    end: u64,
}

/// Data of a record that were not read with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestOfData {
    position: u64,
    len: u64,
}

impl RestOfData {
    /// The number of bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether all data were read.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The position and length of a record's data.
#[derive(Clone, Copy)]
struct Extent {
    position: u64,
    len: u64,
    /// Whether to move the window there.
    follows: bool,
}

impl RecordCursor {
    /// The position before the first record.
    pub(super) fn new(transaction: &TransactionRecord) -> Self {
        Self {
            transaction: transaction.position,
            position: transaction.data_start(),
            end: transaction.data_end(),
        }
    }
}

impl TransactionRecord {
    /// The position before the first data record, for [`Tail::record`](crate::Tail::record).
    pub fn cursor(&self) -> RecordCursor {
        RecordCursor::new(self)
    }

    /// An independent iterator over the data records. It stays valid when the file is replaced.
    pub fn records(&self) -> DataRecords<'static> {
        // A window longer than the transaction would read more than is needed.
        let len = usize::try_from(self.length).unwrap_or(READ_AHEAD);
        let reader = Reader::with_read_ahead(self.file().clone(), len.min(READ_AHEAD));
        DataRecords::owned(reader, self)
    }
}

/// The data records of one transaction in file order, each read on demand. It ends after an
/// error.
pub struct DataRecords<'reader> {
    reader: Source<'reader>,
    cursor: RecordCursor,
}

enum Source<'reader> {
    Shared(&'reader mut Reader),
    Owned(Box<Reader>),
}

impl<'reader> DataRecords<'reader> {
    /// The records of `transaction`, which is in the reader's file.
    pub(super) fn shared(reader: &'reader mut Reader, transaction: &TransactionRecord) -> Self {
        Self {
            reader: Source::Shared(reader),
            cursor: RecordCursor::new(transaction),
        }
    }
}

impl DataRecords<'static> {
    pub(super) fn owned(reader: Reader, transaction: &TransactionRecord) -> Self {
        Self {
            reader: Source::Owned(Box::new(reader)),
            cursor: RecordCursor::new(transaction),
        }
    }
}

impl Iterator for DataRecords<'_> {
    type Item = StorageResult<DataRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = match &mut self.reader {
            Source::Shared(reader) => reader,
            Source::Owned(reader) => &mut **reader,
        };
        reader.record(&mut self.cursor).transpose()
    }
}

impl Reader {
    /// The record at the cursor, which moves to the next one, or to the end after an error;
    /// `None` at the end. The cursor's transaction must be in this reader's file.
    pub(super) fn record(
        &mut self,
        cursor: &mut RecordCursor,
    ) -> StorageResult<Option<DataRecord>> {
        let record = self.record_up_to(cursor, usize::MAX)?;
        Ok(record.map(|(record, _)| record))
    }

    /// Like [`Self::record`], but reads at most `most` bytes of the data; [`Self::more_data`]
    /// returns the others.
    pub(super) fn record_up_to(
        &mut self,
        cursor: &mut RecordCursor,
        most: usize,
    ) -> StorageResult<Option<(DataRecord, RestOfData)>> {
        if cursor.position >= cursor.end {
            return Ok(None);
        }
        let record = self.read_record(cursor, most);
        if record.is_err() {
            cursor.position = cursor.end;
        }
        record.map(Some)
    }

    /// The next bytes of a record's data, at most `most`; `None` after the last.
    pub(super) fn more_data(
        &self,
        rest: &mut RestOfData,
        most: usize,
    ) -> StorageResult<Option<Bytes>> {
        if rest.is_empty() {
            return Ok(None);
        }
        let len = rest.len.min(most as u64);
        let data = self.data_once(rest.position, len)?;
        rest.position += len;
        rest.len -= len;
        Ok(Some(data))
    }

    fn read_record(
        &mut self,
        cursor: &mut RecordCursor,
        most: usize,
    ) -> StorageResult<(DataRecord, RestOfData)> {
        let position = cursor.position;
        let left = cursor.end - position;
        if left < DATA_HEADER_LEN as u64 {
            let corruption = Corruption::RecordTooShort { left };
            return Err(self.file.corrupt(position, corruption));
        }
        let Some(bytes) = self.array(position)? else {
            return Err(self.file.truncated(position)?);
        };
        let corrupt = |corruption| self.file.corrupt(position, corruption);
        let header = DataHeader::parse(&bytes).map_err(corrupt)?;
        let corrupt = |corruption| self.file.corrupt(position, corruption);
        let end = header
            .check(position, cursor.transaction, cursor.end)
            .map_err(corrupt)?;
        cursor.position = end;

        let content = position + DATA_HEADER_LEN as u64;
        let (extent, data_txn) = if header.has_backpointer() {
            let Some(bytes) = self.array(content)? else {
                return Err(self.file.truncated(content)?);
            };
            self.follow(header.oid, position, bytes)?
        } else {
            let extent = Extent {
                position: content,
                len: header.data_len,
                follows: true,
            };
            (Some(extent), None)
        };
        let (data, rest) = match extent {
            Some(extent) => {
                let (data, rest) = self.beginning(extent, most)?;
                (Some(data), rest)
            }
            None => (None, RestOfData::default()),
        };
        let record = DataRecord {
            position,
            oid: header.oid,
            tid: header.tid,
            data,
            data_txn,
        };
        Ok((record, rest))
    }

    /// The first bytes of a record's data, at most `most`, and the position of the others.
    fn beginning(&mut self, extent: Extent, most: usize) -> StorageResult<(Bytes, RestOfData)> {
        let Extent { position, len, .. } = extent;
        let first = len.min(most as u64);
        let data = if extent.follows && first == len {
            self.data(position, len)?
        } else {
            self.data_once(position, first)?
        };
        let rest = RestOfData {
            position: position.saturating_add(first),
            len: len - first,
        };
        Ok((data, rest))
    }

    /// The position of the data to which a backpointer leads, and the transaction one link back.
    /// `bytes` is the backpointer of the record of `oid` at `position`.
    fn follow(
        &self,
        oid: Oid,
        position: u64,
        bytes: [u8; BACKPOINTER_LEN],
    ) -> StorageResult<(Option<Extent>, Option<Tid>)> {
        let (mut position, mut bytes) = (position, bytes);
        let mut data_txn = None;
        loop {
            let found = parse_backpointer(bytes, position);
            let Some(found) = found.map_err(|e| self.file.corrupt(position, e))? else {
                return Ok((None, data_txn));
            };
            let corrupt = |corruption| self.file.corrupt(found, corruption);
            let (header, backpointer) = self.linked_record(found)?;
            let header = DataHeader::parse(&header).map_err(corrupt)?;
            if header.oid != oid {
                return Err(corrupt(Corruption::BackpointerOid {
                    found: header.oid,
                    expected: oid,
                }));
            }
            header.end(found, position).map_err(corrupt)?;
            data_txn = data_txn.or(Some(header.tid));
            if !header.has_backpointer() {
                let extent = Extent {
                    position: found + DATA_HEADER_LEN as u64,
                    len: header.data_len,
                    follows: false,
                };
                return Ok((Some(extent), data_txn));
            }
            (position, bytes) = (found, backpointer);
        }
    }

    /// The header at `position` and the eight bytes after it, in one read.
    ///
    /// Every record is at least as long, except one with a few bytes of data.
    fn linked_record(
        &self,
        position: u64,
    ) -> StorageResult<([u8; DATA_HEADER_LEN], [u8; BACKPOINTER_LEN])> {
        let mut bytes = [0; DATA_HEADER_LEN + BACKPOINTER_LEN];
        if let Some(held) = self.window.get(position, bytes.len()) {
            bytes.copy_from_slice(held);
        } else if self.file.read_at_most(&mut bytes, position)? < DATA_HEADER_LEN {
            return Err(self.file.truncated(position)?);
        }
        let mut header = [0; DATA_HEADER_LEN];
        let mut backpointer = [0; BACKPOINTER_LEN];
        header.copy_from_slice(&bytes[..DATA_HEADER_LEN]);
        backpointer.copy_from_slice(&bytes[DATA_HEADER_LEN..]);
        Ok((header, backpointer))
    }

    /// The data at `position`, which must be within a finished transaction.
    fn data(&mut self, position: u64, len: u64) -> StorageResult<Bytes> {
        let len = self.data_len(len)?;
        if self.window.get(position, len).is_some() || len >= self.read_ahead / 2 {
            return self.data_once(position, len as u64);
        }
        match self.bytes(position, len)? {
            Some(data) => Ok(Bytes::copy_from_slice(data)),
            None => Err(self.file.truncated(position)?),
        }
    }

    /// Like [`Self::data`], without changing the window.
    fn data_once(&self, position: u64, len: u64) -> StorageResult<Bytes> {
        let len = self.data_len(len)?;
        match self.window.get(position, len) {
            Some(data) => Ok(Bytes::copy_from_slice(data)),
            None => self.file.read_bytes(position, len),
        }
    }

    fn data_len(&self, len: u64) -> StorageResult<usize> {
        usize::try_from(len).map_err(|error| {
            self.file
                .io_error(io::Error::new(io::ErrorKind::OutOfMemory, error))
        })
    }
}

#[cfg(test)]
mod tests;
