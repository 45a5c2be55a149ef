//! Where transactions begin and end in a file that may be damaged.
//!
//! A transaction's length stands at both of its ends. Where one of the two is broken the
//! other one, and what follows, tells the transaction's extent; where both are, the next
//! transaction is searched for.

use super::problem::Fault;
use crate::error::StorageResult;
use crate::file::DataFile;
use crate::format::txn::STATUS_AT;
use crate::format::{
    Corruption, DATA_HEADER_LEN, DataHeader, FIRST_TRANSACTION, LEAST_TRANSACTION_LEN,
    REDUNDANT_LENGTH_LEN, TRANSACTION_HEADER_LEN, TransactionHeader, TransactionStatus,
};
use zrs_ids::Tid;

/// How much is searched at once.
const CHUNK: usize = 1024 * 1024;
const REDUNDANT: u64 = REDUNDANT_LENGTH_LEN as u64;
/// The least bytes of a transaction that fit behind a position.
const LEAST: u64 = LEAST_TRANSACTION_LEN as u64;

/// What is at a position where a transaction should begin.
pub(crate) enum At {
    /// The end of the file.
    End,
    /// A transaction.
    Transaction(Outline),
    /// Nothing that can be made out.
    Damaged {
        /// What is wrong.
        fault: Fault,
        /// The id that stands there, for what it is worth.
        tid: Option<Tid>,
        /// Where the next transaction begins, or the end of the file.
        next: u64,
    },
}

/// A transaction whose extent is known.
pub(crate) struct Outline {
    pub(crate) position: u64,
    /// The header, its length and status those that must have been meant.
    pub(crate) header: TransactionHeader,
    /// What is wrong with the header or with the length at the end.
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

    /// The id that the transaction must have to be later than `previous` and earlier than
    /// the transaction that follows: the header's, or else that of its first record.
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

/// What is at `position` of a file of `size` bytes, where a transaction should begin.
pub(crate) fn look_at(file: &DataFile, position: u64, size: u64) -> StorageResult<At> {
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
    // Where another transaction follows, the length that leads there is the right one.
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

/// The header, with a status that it can have had, unless it cannot be believed.
fn parse(
    bytes: &[u8; TRANSACTION_HEADER_LEN],
    position: u64,
    size: u64,
) -> Result<(TransactionHeader, Option<Fault>), Fault> {
    let mut known = *bytes;
    let found = bytes[STATUS_AT];
    let mut fault = None;
    if TransactionStatus::from_byte(found).is_none() {
        // ZODB opens such files, and shows the transaction.
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

/// The transaction at `position`, whose header's length is not to be believed, if the
/// length at its end is.
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

/// Where, from `position` on, a transaction begins that looks good; the file's end if none
/// does.
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

/// A test that most bytes fail: no transaction has a terabyte, and statuses are few.
fn may_be_header(bytes: &[u8]) -> bool {
    bytes[STATUS_AT - size_of::<u64>()..].starts_with(&[0; 3])
        && matches!(bytes[STATUS_AT], b' ' | b'p' | b'u')
}

fn is_transaction(file: &DataFile, position: u64, size: u64) -> StorageResult<bool> {
    Ok(transaction_at(file, position, size)?.is_some())
}

/// The header of the transaction at `position`, if it agrees with the length at its end and
/// with its first record.
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
