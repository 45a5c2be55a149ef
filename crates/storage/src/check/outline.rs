//! Finds where transactions begin and end in a file that may be damaged.
//!
//! A transaction stores its length at both ends. If one of the two is damaged, the other one and
//! the transaction that follows determine the extent; if both are, this module searches for the
//! next transaction.

use super::problem::Fault;
use crate::error::StorageResult;
use crate::file::DataFile;
use crate::format::txn::STATUS_AT;
use crate::format::{
    Corruption, DATA_HEADER_LEN, DataHeader, FIRST_TRANSACTION, LEAST_TRANSACTION_LEN,
    REDUNDANT_LENGTH_LEN, TRANSACTION_HEADER_LEN, TransactionHeader, TransactionStatus,
};
use zrs_ids::Tid;

/// The number of bytes to search at once.
const CHUNK: usize = 1024 * 1024;
const REDUNDANT: u64 = REDUNDANT_LENGTH_LEN as u64;
/// The minimum length of a transaction.
const LEAST: u64 = LEAST_TRANSACTION_LEN as u64;

/// The bytes at a position where a transaction should begin.
pub(crate) enum At {
    /// The end of the file.
    End,
    /// A transaction.
    Transaction(Outline),
    /// Bytes that are not a readable transaction.
    Damaged {
        /// The damage.
        fault: Fault,
        /// The transaction id at that position, which may be wrong.
        tid: Option<Tid>,
        /// Where the next transaction begins, or the end of the file.
        next: u64,
    },
}

/// A transaction whose extent is known.
pub(crate) struct Outline {
    pub(crate) position: u64,
    /// The header, with corrected length and status.
    pub(crate) header: TransactionHeader,
    /// Damage in the header or in the length at the end.
    pub(crate) fault: Option<Fault>,
}

impl Outline {
    /// Where the data records begin.
    pub(crate) fn data_start(&self) -> u64 {
        self.position + self.header.full_len()
    }

    /// Where the data records end.
    pub(crate) fn data_end(&self) -> u64 {
        self.position + self.header.length
    }

    /// Where the next transaction begins.
    pub(crate) fn end(&self) -> u64 {
        self.data_end() + REDUNDANT
    }

    /// The transaction's id, which must be later than `previous` and earlier than that of the
    /// following transaction: the id in the header, or else the id in the first record.
    pub(crate) fn tid(
        &self,
        file: &DataFile,
        size: u64,
        previous: Tid,
    ) -> StorageResult<Result<Tid, Tid>> {
        let claimed = self.header.tid;
        let next = match transaction_at(file, self.end(), size)? {
            Some(next) => next.tid,
            None => Tid::MAX,
        };
        if claimed > previous && claimed < next {
            return Ok(Ok(claimed));
        }
        let record = file.read_array::<DATA_HEADER_LEN>(self.data_start())?;
        let record = record.filter(|_| self.data_start() < self.data_end());
        let record = record.and_then(|bytes| DataHeader::parse(&bytes).ok());
        Ok(match record.map(|record| record.tid) {
            Some(tid) if tid > previous && tid < next => Err(tid),
            _ => Ok(claimed),
        })
    }
}

/// Read the structure at `position`, where a transaction should begin, in a file of `size` bytes.
pub(crate) fn read_at(file: &DataFile, position: u64, size: u64) -> StorageResult<At> {
    if position >= size {
        return Ok(At::End);
    }
    let Some(bytes) = file.read_array::<TRANSACTION_HEADER_LEN>(position)? else {
        return Ok(At::Damaged {
            fault: Fault::Fragment {
                left: size - position,
            },
            tid: None,
            next: size,
        });
    };
    let (header, fault) = match parse(&bytes, position, size) {
        Ok(parsed) => parsed,
        Err(fault) => return from_behind(file, position, size, &bytes, fault),
    };
    let end = position + header.length;
    let redundant = file.read_array(end)?.map_or(0, u64::from_be_bytes);
    let Err(corruption) = header.check_redundant_length(redundant) else {
        return Ok(At::Transaction(Outline {
            position,
            header,
            fault,
        }));
    };
    // If another transaction follows, the length that leads to it is correct.
    let next = end + REDUNDANT;
    if next == size || is_transaction(file, next, size)? {
        return Ok(At::Transaction(Outline {
            position,
            header,
            fault: Some(corruption.into()),
        }));
    }
    from_behind(file, position, size, &bytes, corruption.into())
}

/// The header, with a valid status; `None` if its length cannot be correct.
fn parse(
    bytes: &[u8; TRANSACTION_HEADER_LEN],
    position: u64,
    size: u64,
) -> Result<(TransactionHeader, Option<Fault>), Fault> {
    let mut known = *bytes;
    let found = bytes[STATUS_AT];
    let mut fault = None;
    if TransactionStatus::from_byte(found).is_none() {
        // ZODB opens such files and returns the transaction.
        known[STATUS_AT] = TransactionStatus::Complete.as_byte();
        fault = Some(Corruption::Status { found }.into());
    }
    let header = TransactionHeader::parse(&known)?;
    let end = header.end(position)?;
    if end > size {
        return Err(Fault::BeyondEnd { end, size });
    }
    Ok((header, fault))
}

/// The transaction at `position`, whose header has a wrong length, if the length at its end is
/// correct.
fn from_behind(
    file: &DataFile,
    position: u64,
    size: u64,
    bytes: &[u8; TRANSACTION_HEADER_LEN],
    fault: Fault,
) -> StorageResult<At> {
    let next = find_transaction(file, position + 1, size)?;
    let redundant_at = next.saturating_sub(REDUNDANT);
    let length = file.read_array(redundant_at)?.map_or(0, u64::from_be_bytes);
    if redundant_at.checked_sub(length) == Some(position) && length >= LEAST - REDUNDANT {
        let mut known = *bytes;
        known[size_of::<Tid>()..STATUS_AT].copy_from_slice(&length.to_be_bytes());
        if let Ok((header, _)) = parse(&known, position, size) {
            return Ok(At::Transaction(Outline {
                position,
                header,
                fault: Some(fault),
            }));
        }
    }
    let tid = Tid::from_slice(&bytes[..size_of::<Tid>()]);
    Ok(At::Damaged { fault, tid, next })
}

/// The position of the first plausible transaction at or after `position`; the end of the file if it
/// has none.
fn find_transaction(file: &DataFile, position: u64, size: u64) -> StorageResult<u64> {
    let mut chunk = vec![0; CHUNK];
    let mut start = position;
    while start + LEAST <= size {
        let count = file.read_at_most(&mut chunk, start)?;
        if count < TRANSACTION_HEADER_LEN {
            break;
        }
        for (at, header) in (start..).zip(chunk[..count].windows(TRANSACTION_HEADER_LEN)) {
            if may_be_header(header) && is_transaction(file, at, size)? {
                return Ok(at);
            }
        }
        start += (count - TRANSACTION_HEADER_LEN + 1) as u64;
    }
    Ok(size)
}

/// A quick test that most bytes fail: transactions are shorter than a terabyte, and only a few
/// statuses exist.
fn may_be_header(bytes: &[u8]) -> bool {
    bytes[STATUS_AT - size_of::<u64>()..].starts_with(&[0; 3])
        && matches!(bytes[STATUS_AT], b' ' | b'p' | b'u')
}

fn is_transaction(file: &DataFile, position: u64, size: u64) -> StorageResult<bool> {
    Ok(transaction_at(file, position, size)?.is_some())
}

/// The header of the transaction at `position`, if it matches the length at the end and the first
/// record.
pub(super) fn transaction_at(
    file: &DataFile,
    position: u64,
    size: u64,
) -> StorageResult<Option<TransactionHeader>> {
    if position < FIRST_TRANSACTION || position >= size {
        return Ok(None);
    }
    let bytes = file.read_array(position)?;
    let header = bytes.and_then(|bytes| TransactionHeader::parse(&bytes).ok());
    let Some(header) = header else {
        return Ok(None);
    };
    if !header.end(position).is_ok_and(|end| end <= size) {
        return Ok(None);
    }
    let redundant = file.read_array(position + header.length)?;
    if redundant.map(u64::from_be_bytes) != Some(header.length) {
        return Ok(None);
    }
    let has_records = header.length > header.full_len();
    let first = position + header.full_len();
    if has_records && !is_first_record(file, first, position)? {
        return Ok(None);
    }
    Ok(Some(header))
}

fn is_first_record(file: &DataFile, position: u64, transaction: u64) -> StorageResult<bool> {
    let bytes = file.read_array::<DATA_HEADER_LEN>(position)?;
    let header = bytes.and_then(|bytes| DataHeader::parse(&bytes).ok());
    Ok(header.is_some_and(|header| header.tloc == transaction))
}
