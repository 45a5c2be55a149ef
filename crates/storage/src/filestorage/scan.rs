//! Recovery: validates a saved index, and scans the transactions that it does not cover.

use crate::LOGGER;
use crate::error::{StorageError, StorageResult};
use crate::file::DataFile;
use crate::format::txn::STATUS_AT;
use crate::format::{
    Corruption, DATA_HEADER_LEN, DataHeader, FIRST_TRANSACTION, REDUNDANT_LENGTH_LEN,
    TRANSACTION_HEADER_LEN, TransactionHeader, TransactionStatus,
};
use crate::index::Index;
use crate::window::Window;
use zrs_ids::{Oid, Tid};

/// The number of bytes to read at once.
const READ_AHEAD: usize = 1024 * 1024;
/// Ignore a saved index that covers fewer bytes than this.
const LEAST_INDEXED: u64 = 100;
/// The number of records of the last transaction to compare with the index.
const SAMPLES: usize = 5;

/// The result of a scan.
pub(super) struct Scanned {
    /// Where the last good transaction ends.
    pub(super) end: u64,
    /// The last good transaction.
    pub(super) last_tid: Tid,
    pub(super) tail: TrailingBytes,
}

/// The bytes after the last good transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrailingBytes {
    /// None, or transactions at or after the one at which to stop.
    Clean,
    /// At most a header, which has nothing worth keeping.
    Fragment,
    /// Bytes that may be a damaged or unfinished transaction.
    Damaged,
}

/// Scans transactions and enters their records into an index.
pub(super) struct Scan<'scan> {
    file: &'scan DataFile,
    index: &'scan mut Index,
    window: Window,
    /// The file's length.
    size: u64,
    /// The records of the current transaction.
    found: Vec<(Oid, u64)>,
}

/// The structure at a position between transactions.
enum At {
    Transaction(TransactionHeader),
    Undone(TransactionHeader),
    End(TrailingBytes),
}

impl<'scan> Scan<'scan> {
    pub(super) fn new(file: &'scan DataFile, index: &'scan mut Index, size: u64) -> Self {
        Self {
            file,
            index,
            window: Window::new(),
            size,
            found: Vec::new(),
        }
    }

    /// Scan from `position`, where the transaction after `last_tid` begins, up to the first
    /// transaction that is not earlier than `stop`, or to the end of the good ones.
    ///
    /// # Errors
    /// [`StorageError::CorruptTransaction`] if a transaction is damaged but others follow.
    pub(super) fn run(mut self, position: u64, last_tid: Tid, stop: Tid) -> StorageResult<Scanned> {
        let (mut end, mut last_tid) = (position, last_tid);
        loop {
            let header = match self.read_at(end)? {
                At::End(tail) => {
                    return Ok(Scanned {
                        end,
                        last_tid,
                        tail,
                    });
                }
                At::Transaction(header) | At::Undone(header) if header.tid >= stop => {
                    let tail = TrailingBytes::Clean;
                    return Ok(Scanned {
                        end,
                        last_tid,
                        tail,
                    });
                }
                At::Undone(header) => header,
                At::Transaction(header) => {
                    self.records(end, &header)?;
                    header
                }
            };
            if header.tid <= last_tid {
                let name = self.name();
                log::warn!(target: LOGGER, "{name} time-stamp reduction at {end}");
            }
            self.redundant_length(end, &header)?;
            for (oid, position) in self.found.drain(..) {
                self.index.insert(oid, position);
            }
            last_tid = header.tid;
            end += header.length + REDUNDANT_LENGTH_LEN as u64;
        }
    }

    fn read_at(&mut self, position: u64) -> StorageResult<At> {
        let Some(bytes) = self.bytes::<TRANSACTION_HEADER_LEN>(position)? else {
            return Ok(At::End(if position < self.size {
                TrailingBytes::Fragment
            } else {
                TrailingBytes::Clean
            }));
        };
        let status = TransactionStatus::from_byte(bytes[STATUS_AT]);
        let length = length_of(&bytes);
        let fits = length
            .checked_add(position + REDUNDANT_LENGTH_LEN as u64)
            .is_some_and(|end| end <= self.size);
        let voted = status == Some(TransactionStatus::Voted);
        if voted && self.size - position == TRANSACTION_HEADER_LEN as u64 {
            return Ok(At::End(TrailingBytes::Fragment));
        }
        if !fits || voted {
            return Ok(At::End(TrailingBytes::Damaged));
        }
        let mut known = bytes;
        if status.is_none() {
            let (name, found) = (self.name(), bytes[STATUS_AT]);
            log::warn!(target: LOGGER, "{name} has invalid status, {found:#04x}, at {position}");
            known[STATUS_AT] = TransactionStatus::Complete.as_byte();
        }
        match TransactionHeader::parse(&known) {
            Ok(header) if header.status == TransactionStatus::Undone => Ok(At::Undone(header)),
            Ok(header) => Ok(At::Transaction(header)),
            Err(corruption) => self.bad_header(position, corruption),
        }
    }

    /// Decide whether the bytes are trailing garbage or damage before good transactions, by the
    /// length at the end of the file.
    fn bad_header(&self, position: u64, corruption: Corruption) -> StorageResult<At> {
        let redundant_at = self.size.saturating_sub(REDUNDANT_LENGTH_LEN as u64);
        let redundant = self.file.read_array(redundant_at)?.map(u64::from_be_bytes);
        let reasonable = redundant.is_some_and(|length| {
            length >= TRANSACTION_HEADER_LEN as u64
                && self
                    .size
                    .checked_sub(length)
                    .is_some_and(|start| start >= position)
        });
        if reasonable {
            return Err(self.corrupt(position, corruption));
        }
        log::error!(
            target: LOGGER, "{} has invalid transaction header at {position}", self.name()
        );
        Ok(At::End(TrailingBytes::Damaged))
    }

    fn records(&mut self, transaction: u64, header: &TransactionHeader) -> StorageResult<()> {
        let end = transaction + header.length;
        let mut position = transaction + header.full_len();
        while position < end {
            let Some(bytes) = self.bytes::<DATA_HEADER_LEN>(position)? else {
                let length = self.size;
                return Err(self.corrupt(position, Corruption::Truncated { length }));
            };
            let corrupt = |corruption| corrupt(self.file, position, corruption);
            let data_header = DataHeader::parse(&bytes).map_err(corrupt)?;
            if data_header.tloc != transaction {
                let (found, expected) = (data_header.tloc, transaction);
                return Err(corrupt(Corruption::TransactionPosition { found, expected }));
            }
            let next = data_header.end(position, end).map_err(corrupt)?;
            if self.index.get(data_header.oid).unwrap_or(0) != data_header.prev {
                let name = self.name();
                log::warn!(target: LOGGER, "{name} incorrect previous pointer at {position}");
            }
            self.found.push((data_header.oid, position));
            position = next;
        }
        Ok(())
    }

    fn redundant_length(
        &mut self,
        transaction: u64,
        header: &TransactionHeader,
    ) -> StorageResult<()> {
        let redundant_at = transaction + header.length;
        let redundant = self.bytes(redundant_at)?.map_or(0, u64::from_be_bytes);
        header
            .check_redundant_length(redundant)
            .map_err(|corruption| self.corrupt(redundant_at, corruption))
    }

    fn bytes<const N: usize>(&mut self, position: u64) -> StorageResult<Option<[u8; N]>> {
        if self.window.get(position, N).is_none() {
            // With an index, often no bytes are left to read.
            let left = usize::try_from(self.size.saturating_sub(position));
            let wanted = READ_AHEAD.min(left.unwrap_or(READ_AHEAD));
            self.window.fill(self.file, position, wanted)?;
        }
        Ok(self.window.get_array(position))
    }

    fn corrupt(&self, position: u64, corruption: Corruption) -> StorageError {
        corrupt(self.file, position, corruption)
    }

    fn name(&self) -> std::path::Display<'scan> {
        let file = self.file;
        file.path().display()
    }
}

fn corrupt(file: &DataFile, position: u64, corruption: Corruption) -> StorageError {
    let path = file.path().to_path_buf();
    StorageError::CorruptTransaction {
        path,
        position,
        corruption,
    }
}

fn length_of(bytes: &[u8; TRANSACTION_HEADER_LEN]) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|at| bytes[size_of::<Tid>() + at]))
}

/// The last transaction that `index` covers, if the index matches this file up to `end`: the
/// records of the last transaction that has any are at their positions. Earlier ones may have
/// been superseded.
pub(super) fn indexed_tid(
    file: &DataFile,
    index: &Index,
    end: u64,
    size: u64,
) -> StorageResult<Option<Tid>> {
    if end < LEAST_INDEXED || end > size {
        return Ok(None);
    }
    let (mut position, mut last_tid) = (end, None);
    loop {
        let Some((start, header)) = transaction_before(file, position)? else {
            return Ok(None);
        };
        position = start;
        last_tid = last_tid.or(Some(header.tid));
        match header.status {
            TransactionStatus::Undone => continue,
            TransactionStatus::Voted => return Ok(None),
            TransactionStatus::Complete | TransactionStatus::Packed => {}
        }
        match matching_records(file, index, start, &header)? {
            Some(0) => {}
            Some(_) => return Ok(last_tid),
            None => return Ok(None),
        }
    }
}

/// The transaction that ends at `end`, if there is one.
fn transaction_before(
    file: &DataFile,
    end: u64,
) -> StorageResult<Option<(u64, TransactionHeader)>> {
    let Some(redundant_at) = end.checked_sub(REDUNDANT_LENGTH_LEN as u64) else {
        return Ok(None);
    };
    let Some(length) = file.read_array(redundant_at)?.map(u64::from_be_bytes) else {
        return Ok(None);
    };
    let start = redundant_at.checked_sub(length);
    let Some(start) = start.filter(|start| *start >= FIRST_TRANSACTION) else {
        return Ok(None);
    };
    let bytes = file.read_array(start)?;
    let header = bytes.and_then(|bytes| TransactionHeader::parse(&bytes).ok());
    Ok(header
        .filter(|header| header.length == length)
        .map(|header| (start, header)))
}

/// The number of records of a transaction that are at their position in the index; `None` if one
/// is elsewhere.
fn matching_records(
    file: &DataFile,
    index: &Index,
    transaction: u64,
    header: &TransactionHeader,
) -> StorageResult<Option<usize>> {
    let end = transaction + header.length;
    let mut position = transaction + header.full_len();
    let mut count = 0;
    while position < end && count < SAMPLES {
        let Some(bytes) = file.read_array(position)? else {
            return Ok(None);
        };
        let Ok(data_header) = DataHeader::parse(&bytes) else {
            return Ok(None);
        };
        let known = index.get(data_header.oid) == Some(position);
        if !known || data_header.tloc != transaction {
            return Ok(None);
        }
        let Ok(next) = data_header.end(position, end) else {
            return Ok(None);
        };
        position = next;
        count += 1;
    }
    Ok(Some(count))
}
