//! All transactions from one to another.

use bytes::Bytes;

use super::{FileStorage, Snapshot};
use crate::error::{StorageError, StorageResult};
use crate::format::data::parse_backpointer;
use crate::format::{BACKPOINTER_LEN, Corruption, DATA_HEADER_LEN, DataHeader, TransactionStatus};
use crate::ids::{Oid, Tid};
use crate::storage::reader::{Reader, TransactionRecord};
use crate::storage::records::{DataRecord, DataRecords};
use crate::storage::seek;

/// The data records of transactions that are not longer than this are read at once.
const AT_ONCE: u64 = 256 * 1024;

/// The transactions that were finished when it was made, in order.
///
/// It goes on in the file that was the storage's then, whatever a pack does.
pub struct Transactions {
    snapshot: Snapshot,
    reader: Reader,
    position: u64,
    /// The last transaction wanted.
    stop: Tid,
}

impl FileStorage {
    /// The transactions from `start` to `stop`, both included.
    pub fn iterator(&self, start: Option<Tid>, stop: Option<Tid>) -> StorageResult<Transactions> {
        let snapshot = self.snapshot()?;
        let before = start.map_or(Tid::ZERO, |tid| {
            Tid::from_u64(tid.as_u64().saturating_sub(1))
        });
        let found = seek::find_after(&snapshot.file, before, Some(snapshot.end), &|| false)?;
        Ok(Transactions {
            position: found.map_or(snapshot.end, |found| found.position),
            reader: Reader::new(snapshot.file.clone()),
            snapshot,
            stop: stop.unwrap_or(Tid::MAX),
        })
    }
}

impl Transactions {
    /// The next transaction and its records, or `None` at the end.
    pub fn read_next(&mut self) -> StorageResult<Option<(TransactionRecord, IteratedRecords)>> {
        while self.position < self.snapshot.end {
            // Files exist in which a transaction is earlier than the one before it.
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
        }))
    }
}

/// The data records of a transaction, in order. It ends after an error.
pub enum IteratedRecords {
    /// Read from the file when they are asked for.
    OneByOne(Box<DataRecords<'static>>),
    /// Read already, but for what backpointers lead to.
    AtOnce(ReadRecords),
}

impl IteratedRecords {
    /// Whether the next record needs no reading.
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
    /// From the next record on.
    bytes: Bytes,
}

impl ReadRecords {
    fn header(&self) -> Option<DataHeader> {
        DataHeader::parse(self.bytes.first_chunk()?).ok()
    }

    fn is_read(&self) -> bool {
        self.header().is_none_or(|header| !header.has_backpointer())
    }

    fn read(&mut self) -> StorageResult<DataRecord> {
        let (position, file) = (self.position, &self.snapshot.file);
        let corrupt = |corruption| file.corrupt(position, corruption);
        let Some(head) = self.bytes.first_chunk() else {
            let left = self.bytes.len() as u64;
            return Err(corrupt(Corruption::RecordTooShort { left }));
        };
        let header = DataHeader::parse(head).map_err(corrupt)?;
        let end = header
            .check(position, self.transaction, self.end)
            .map_err(corrupt)?;
        let len = usize::try_from(end - position).unwrap_or(self.bytes.len());
        let content = self.bytes.split_to(len).split_off(DATA_HEADER_LEN);
        self.position = end;
        let (data, data_txn) = match content.first_chunk::<BACKPOINTER_LEN>() {
            Some(back) if header.has_backpointer() => {
                let back = parse_backpointer(*back, position);
                let back = back.map_err(|corruption| file.corrupt(position, corruption))?;
                back.map_or(Ok((None, None)), |back| self.follow(header.oid, back))?
            }
            _ => (Some(content), None),
        };
        Ok(DataRecord {
            position,
            oid: header.oid,
            tid: header.tid,
            data,
            data_txn,
        })
    }

    /// The data that a backpointer leads to, and the transaction one link back.
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
        if self.bytes.is_empty() {
            return None;
        }
        let record = self.read();
        if record.is_err() {
            self.bytes.clear();
        }
        Some(record)
    }
}
