//! Finds data records in the packed file while it is being written.
//!
//! A backpointer leads to the record of the same object in a given transaction. The positions of
//! some transactions are kept in memory, at sixteen bytes for each [`DISTANCE`] bytes of the
//! file; from the nearest one the file is read.

use crate::error::StorageResult;
use crate::file::DataFile;
use crate::reader::{Reader, TransactionRecord};
use zrs_ids::{Oid, Tid};

use super::output::Output;
use super::walk::{Data, data_of, records, transaction};

/// The minimum distance between transactions that are kept in memory, in bytes.
const DISTANCE: u64 = 16 * 1024;
/// The number of bytes to read at once: about the distance between two of them.
const READ_AHEAD: usize = 16 * 1024;
/// The number of bytes of data to compare at once.
const PIECE_LEN: u64 = 256 * 1024;

/// The records of the packed file.
pub(super) struct Lookup {
    reader: Reader,
    /// Ids and positions of some transactions, including the first, in ascending order.
    known: Vec<(Tid, u64)>,
}

impl Lookup {
    /// A lookup in `file`.
    pub(super) fn new(file: DataFile) -> Self {
        Self {
            reader: Reader::with_read_ahead(file, READ_AHEAD),
            known: Vec::new(),
        }
    }

    /// Notes that a transaction begins.
    pub(super) fn begin(&mut self, tid: Tid, position: u64) {
        let last = self.known.last();
        if last.is_none_or(|(_, last)| position - last >= DISTANCE) {
            self.known.push((tid, position));
        }
    }

    /// Discards bytes that were read and have changed.
    pub(super) fn forget(&mut self) {
        self.reader.window.clear();
    }

    /// The first record of `oid` in the transaction `tid` whose data equal these data of `source`
    /// (`None`: the object does not exist), if the transaction is complete, that is, ends at or
    /// before `end`.
    ///
    /// There can be several records: undoing two transactions at once writes one for each. ZODB
    /// takes the first of them without comparing if it has a backpointer, so it may take wrong
    /// data.
    pub(super) fn find(
        &mut self,
        output: &mut Output,
        tid: Tid,
        oid: Oid,
        end: u64,
        source: &Reader,
        data: Option<Data>,
    ) -> StorageResult<Option<u64>> {
        let after = self.known.partition_point(|(known, _)| *known <= tid);
        let Some((_, mut position)) = after.checked_sub(1).map(|at| self.known[at]) else {
            return Ok(None);
        };
        // No transaction with a lower id follows the next known one.
        let limit = self.known.get(after).map_or(end, |(_, next)| *next);
        output.flush_to(limit)?;
        while position < limit {
            let transaction = transaction(&mut self.reader, position, Tid::ZERO)?;
            if transaction.tid == tid {
                return self.find_in(&transaction, oid, source, data);
            }
            if transaction.tid > tid {
                break;
            }
            position = transaction.end();
        }
        Ok(None)
    }

    fn find_in(
        &mut self,
        transaction: &TransactionRecord,
        oid: Oid,
        source: &Reader,
        data: Option<Data>,
    ) -> StorageResult<Option<u64>> {
        let mut same = None;
        records(&mut self.reader, transaction, |reader, record| {
            if same.is_none() && record.header.oid == oid {
                let found = data_of(reader, record)?;
                if is_same(reader, found, source, data)? {
                    same = Some(record.position);
                }
            }
            StorageResult::Ok(())
        })?;
        Ok(same)
    }
}

/// Whether data of two files are equal, or neither file has data.
fn is_same(
    reader: &Reader,
    found: Option<Data>,
    source: &Reader,
    data: Option<Data>,
) -> StorageResult<bool> {
    let (Some(found), Some(data)) = (found, data) else {
        return Ok(found.is_none() && data.is_none());
    };
    if found.len != data.len {
        return Ok(false);
    }
    let mut at = 0;
    while at < data.len {
        let len = PIECE_LEN.min(data.len - at);
        let piece = |data: Data| Data {
            position: data.position + at,
            len,
        };
        if piece(found).read(reader)? != piece(data).read(source)? {
            return Ok(false);
        }
        at += len;
    }
    Ok(true)
}
