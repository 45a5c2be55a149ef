//! Iterating over the transactions in a range of ids.

use bytes::Bytes;

use super::FileStorage;
use super::state::Snapshot;
use crate::error::{StorageError, StorageResult};
use crate::format::data::parse_backpointer;
use crate::format::{BACKPOINTER_LEN, Corruption, DATA_HEADER_LEN, DataHeader, TransactionStatus};
use crate::reader::{Reader, TransactionRecord};
use crate::records::{DataRecord, DataRecords};
use crate::seek;
use zrs_ids::{Oid, Tid};

/// Read all data records of a transaction at once if it is not longer than this.
const AT_ONCE: u64 = 256 * 1024;

/// The transactions that were finished when the iterator was created, in order.
///
/// It continues in the file that the storage had then, even if a pack replaces it.
pub struct Transactions {
    snapshot: Snapshot,
    reader: Reader,
    position: u64,
    /// The last transaction to return.
    stop: Tid,
}

impl FileStorage {
    /// The transactions from `start` to `stop`, inclusive.
    pub fn iterator(&self, start: Option<Tid>, stop: Option<Tid>) -> StorageResult<Transactions> {
        let snapshot = self.snapshot()?;
        let before = start.map_or(Tid::ZERO, |tid| {
            Tid::from_u64(tid.as_u64().saturating_sub(1))
        });
        let found = seek::find_after(&snapshot.file, before, Some(snapshot.end), None, &|| false)?;
        Ok(Transactions {
            position: found.map_or(snapshot.end, |found| found.position),
            reader: Reader::new(snapshot.file.clone()),
            snapshot,
            stop: stop.unwrap_or(Tid::MAX),
        })
    }
}

impl Transactions {
    /// Whether the next transaction is already in memory, or the iterator is at its end.
    pub fn is_read(&self) -> bool {
        self.position >= self.snapshot.end || self.reader.holds_transaction(self.position)
    }

    /// The next transaction and its records, or `None` at the end.
    pub fn read_next(&mut self) -> StorageResult<Option<(TransactionRecord, IteratedRecords)>> {
        while self.position < self.snapshot.end {
            // Some files have a transaction that is earlier than the one before it.
            let Some(record) = self.reader.transaction(self.position, Tid::ZERO)? else {
                break;
            };
            if record.tid > self.stop {
                break;
            }
            self.position = record.end();
            if record.status != TransactionStatus::Undone {
                let records = self.records(&record)?;
                return Ok(Some((record, records)));
            }
        }
        self.position = self.snapshot.end;
        Ok(None)
    }

    fn records(&mut self, transaction: &TransactionRecord) -> StorageResult<IteratedRecords> {
        let start = transaction.data_start();
        let end = transaction.data_end();
        let len = usize::try_from(end - start).ok();
        let Some(len) = len.filter(|_| end - start <= AT_ONCE) else {
            let records = Box::new(transaction.records());
            return Ok(IteratedRecords::OneByOne(records));
        };
        let Some(bytes) = self.reader.bytes(start, len)? else {
            return Err(self.snapshot.file.truncated(start)?);
        };
        Ok(IteratedRecords::AtOnce(ReadRecords {
            snapshot: self.snapshot.clone(),
            transaction: transaction.position,
            position: start,
            end,
            bytes: Bytes::copy_from_slice(bytes),
            start: 0,
        }))
    }
}

/// The data records of a transaction, in order. The iterator ends after an error.
pub enum IteratedRecords {
    /// Read from the file on demand.
    OneByOne(Box<DataRecords<'static>>),
    /// Already in memory, except for the data to which backpointers lead.
    AtOnce(ReadRecords),
}

impl IteratedRecords {
    /// Whether the next record is in memory.
    pub fn is_read(&self) -> bool {
        match self {
            Self::OneByOne(_) => false,
            Self::AtOnce(records) => records.is_read(),
        }
    }
}

impl Iterator for IteratedRecords {
    type Item = StorageResult<DataRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::OneByOne(records) => records.next(),
            Self::AtOnce(records) => records.next(),
        }
    }
}

/// The data records of a transaction in memory.
pub struct ReadRecords {
    snapshot: Snapshot,
    /// Where the transaction begins.
    transaction: u64,
    /// Where the next record begins.
    position: u64,
    /// Where the last record ends.
    end: u64,
    bytes: Bytes,
    /// The offset in the bytes at which the next record begins.
    start: usize,
}

/// Data records in memory, each with its data.
#[derive(Clone)]
pub struct HeldRecords<'a> {
    records: &'a ReadRecords,
    position: u64,
    rest: &'a [u8],
    left: usize,
}

impl<'a> HeldRecords<'a> {
    fn split(&mut self) -> Option<HeldRecord<'a>> {
        let position = self.position;
        let (header, data) = self.records.split(position, &mut self.rest).ok()?;
        self.position += (DATA_HEADER_LEN + data.len()) as u64;
        Some(HeldRecord {
            position,
            header,
            data,
        })
    }
}

impl<'a> Iterator for HeldRecords<'a> {
    type Item = HeldRecord<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        self.split()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for HeldRecords<'_> {}

/// A data record with its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldRecord<'a> {
    /// Where the record begins.
    pub position: u64,
    /// Its header.
    pub header: DataHeader,
    /// The object's pickles.
    pub data: &'a [u8],
}

impl ReadRecords {
    /// All remaining records, if each of them is valid and has its own data.
    pub fn held(&self) -> Option<HeldRecords<'_>> {
        let all = HeldRecords {
            records: self,
            position: self.position,
            rest: self.bytes.get(self.start..)?,
            left: 0,
        };
        let mut tried = all.clone();
        let mut left = 0;
        while !tried.rest.is_empty() {
            if tried.split()?.header.has_backpointer() {
                return None;
            }
            left += 1;
        }
        Some(HeldRecords { left, ..all })
    }

    /// Split the record at `position`, its header and what follows, off `rest`.
    fn split<'a>(
        &self,
        position: u64,
        rest: &mut &'a [u8],
    ) -> Result<(DataHeader, &'a [u8]), Corruption> {
        let left = rest.len() as u64;
        let short = Corruption::RecordTooShort { left };
        let Some((head, following)) = rest.split_first_chunk() else {
            return Err(short);
        };
        let header = DataHeader::parse(head)?;
        let end = header.check(position, self.transaction, self.end)?;
        let len = usize::try_from(end - position).unwrap_or(usize::MAX);
        let content = following.split_at_checked(len - DATA_HEADER_LEN);
        let (content, after) = content.ok_or(short)?;
        *rest = after;
        Ok((header, content))
    }

    fn header(&self) -> Option<DataHeader> {
        let rest = self.bytes.get(self.start..)?;
        DataHeader::parse(rest.first_chunk()?).ok()
    }

    fn is_read(&self) -> bool {
        self.header().is_none_or(|header| !header.has_backpointer())
    }

    fn read(&mut self) -> StorageResult<DataRecord> {
        let (position, file) = (self.position, &self.snapshot.file);
        let mut rest = self.bytes.get(self.start..).unwrap_or_default();
        let split = self.split(position, &mut rest);
        let (header, content) = split.map_err(|corruption| file.corrupt(position, corruption))?;
        let (data, data_txn) = match content.first_chunk::<BACKPOINTER_LEN>() {
            Some(back) if header.has_backpointer() => {
                let back = parse_backpointer(*back, position);
                let back = back.map_err(|corruption| file.corrupt(position, corruption))?;
                back.map_or(Ok((None, None)), |back| self.follow(header.oid, back))?
            }
            _ => (Some(self.bytes.slice_ref(content)), None),
        };
        self.position += (DATA_HEADER_LEN + content.len()) as u64;
        self.start = self.bytes.len() - rest.len();
        Ok(DataRecord {
            position,
            oid: header.oid,
            tid: header.tid,
            data,
            data_txn,
        })
    }

    /// The data to which a backpointer leads, and the transaction one link back.
    fn follow(&self, oid: Oid, back: u64) -> StorageResult<(Option<Bytes>, Option<Tid>)> {
        let record = self.snapshot.record(oid, back)?;
        let data = match self.snapshot.data(&record) {
            Ok(data) => Some(data),
            Err(StorageError::NoSuchObject { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok((data, Some(record.header.tid)))
    }
}

impl Iterator for ReadRecords {
    type Item = StorageResult<DataRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.start >= self.bytes.len() {
            return None;
        }
        let record = self.read();
        if record.is_err() {
            self.start = self.bytes.len();
        }
        Some(record)
    }
}
