//! Storing records that were committed in another storage.

use super::record::RawRecord;
use super::state::Snapshot;
use super::{FileStorage, Transaction};
use crate::error::StorageResult;
use crate::format::{Corruption, DATA_HEADER_LEN, DataHeader};
use crate::format::{TRANSACTION_HEADER_LEN, TransactionHeader};
use zrs_ids::{Oid, Tid};

impl FileStorage {
    /// Store a record of another storage unchanged: the revision `tid` of an object with these
    /// data, or without data if its creation is undone.
    ///
    /// `data_txn` is a hint that this earlier transaction wrote the same data; if it did, a
    /// backpointer is stored instead of the data.
    pub fn restore(
        &self,
        transaction: &mut Transaction,
        oid: Oid,
        tid: Tid,
        data: Option<&[u8]>,
        data_txn: Option<Tid>,
    ) -> StorageResult<()> {
        let prev = self.position_or_zero(oid)?;
        let same = match data_txn {
            Some(data_txn) => {
                let snapshot = self.snapshot()?;
                snapshot.record_with_same_data(oid, prev, data_txn, data)?
            }
            None => None,
        };
        let here = match (same, data) {
            (None, Some(data)) if !data.is_empty() => {
                transaction.append(oid, tid, prev, data.len() as u64, data)?
            }
            (same, _) => {
                let back = same.unwrap_or(0).to_be_bytes();
                transaction.append(oid, tid, prev, 0, &back)?
            }
        };
        transaction.positions.insert(oid, here);
        Ok(())
    }

    pub(super) fn position_or_zero(&self, oid: Oid) -> StorageResult<u64> {
        Ok(self.read()?.index.get(oid).unwrap_or(0))
    }

    /// The position of the last record of an object in the transaction at `transaction`, if it
    /// has equal data or a backpointer.
    pub fn find_data(
        &self,
        transaction: u64,
        oid: Oid,
        data: Option<&[u8]>,
    ) -> StorageResult<Option<u64>> {
        let snapshot = self.snapshot()?;
        let Some(record) = snapshot.record_in_transaction(transaction, oid)? else {
            return Ok(None);
        };
        let same = record.header.has_backpointer() || Some(&snapshot.data(&record)?[..]) == data;
        Ok(same.then_some(record.position))
    }
}

impl Snapshot {
    /// The position of the object's record in the transaction `tid` if it has these data or a
    /// backpointer. The object's last record is at `position`, unless that is 0.
    pub(super) fn record_with_same_data(
        &self,
        oid: Oid,
        position: u64,
        tid: Tid,
        data: Option<&[u8]>,
    ) -> StorageResult<Option<u64>> {
        let found = match self.in_chain(oid, position, tid)? {
            Some(record) => Some(record),
            // A pack can keep revisions to which no later record leads.
            None => match self.find_transaction(tid, false)? {
                Some(position) => self.record_in_transaction(position, oid)?,
                None => None,
            },
        };
        let Some(record) = found else {
            return Ok(None);
        };
        if record.header.has_backpointer() {
            return Ok(Some(record.position));
        }
        let same = Some(&self.data(&record)?[..]) == data;
        Ok(same.then_some(record.position))
    }

    /// The record that the transaction `tid` wrote for an object, if it is in the chain of
    /// previous records from `position`.
    fn in_chain(&self, oid: Oid, position: u64, tid: Tid) -> StorageResult<Option<RawRecord>> {
        if position == 0 {
            return Ok(None);
        }
        let mut record = self.record(oid, position)?;
        while record.header.tid > tid {
            match self.previous(&record)? {
                Some(previous) => record = previous,
                None => return Ok(None),
            }
        }
        Ok((record.header.tid == tid).then_some(record))
    }

    /// The header of the finished transaction at `position`.
    pub(super) fn transaction_header(&self, position: u64) -> StorageResult<TransactionHeader> {
        let bytes = self.file.read_array::<TRANSACTION_HEADER_LEN>(position)?;
        let Some(bytes) = bytes else {
            return Err(self.file.truncated(position)?);
        };
        let corrupt = |corruption| self.file.corrupt(position, corruption);
        let header = TransactionHeader::parse(&bytes).map_err(corrupt)?;
        let end = header.end(position).map_err(corrupt)?;
        if end > self.end {
            return Err(corrupt(Corruption::TransactionLength {
                length: header.length,
                header: header.full_len(),
            }));
        }
        Ok(header)
    }

    /// The data headers in the transaction at `transaction`, each with its position.
    pub(super) fn data_headers(&self, transaction: u64) -> StorageResult<Vec<(u64, DataHeader)>> {
        let header = self.transaction_header(transaction)?;
        let end = transaction + header.length;
        let mut position = transaction + header.full_len();
        let mut found = Vec::new();
        while position < end {
            let bytes = self.file.read_array::<DATA_HEADER_LEN>(position)?;
            let Some(bytes) = bytes else {
                return Err(self.file.truncated(position)?);
            };
            let corrupt = |corruption| self.file.corrupt(position, corruption);
            let data_header = DataHeader::parse(&bytes).map_err(corrupt)?;
            let next = data_header.end(position, end).map_err(corrupt)?;
            found.push((position, data_header));
            position = next;
        }
        Ok(found)
    }

    /// The last record of an object in the transaction at `transaction`.
    fn record_in_transaction(
        &self,
        transaction: u64,
        oid: Oid,
    ) -> StorageResult<Option<RawRecord>> {
        let headers = self.data_headers(transaction)?;
        let last = headers.iter().rev().find(|(_, header)| header.oid == oid);
        last.map(|(position, _)| self.record(oid, *position))
            .transpose()
    }
}
