//! All transactions from one to another.

use super::FileStorage;
use crate::error::StorageResult;
use crate::format::TransactionStatus;
use crate::ids::Tid;
use crate::storage::reader::{Reader, TransactionRecord};
use crate::storage::records::DataRecords;
use crate::storage::seek;

/// The transactions that were finished when it was made, in order.
///
/// It goes on in the file that was the storage's then, whatever a pack does.
pub struct Transactions {
    reader: Reader,
    position: u64,
    end: u64,
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
            reader: Reader::new(snapshot.file),
            end: snapshot.end,
            stop: stop.unwrap_or(Tid::MAX),
        })
    }
}

impl Transactions {
    /// The next transaction, or `None` at the end.
    pub fn read_next(&mut self) -> StorageResult<Option<TransactionRecord>> {
        while self.position < self.end {
            // Files exist in which a transaction is earlier than the one before it.
            let Some(record) = self.reader.transaction(self.position, Tid::ZERO)? else {
                break;
            };
            if record.tid > self.stop {
                break;
            }
            self.position = record.end();
            if record.status != TransactionStatus::Undone {
                return Ok(Some(record));
            }
        }
        self.end = self.position;
        Ok(None)
    }

    /// The data records of a transaction that [`Self::read_next`] returned, through its window.
    pub fn records(&mut self, transaction: &TransactionRecord) -> DataRecords<'_> {
        DataRecords::shared(&mut self.reader, transaction)
    }
}
