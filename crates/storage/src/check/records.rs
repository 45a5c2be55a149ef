//! Reads the data records of a transaction with a known extent, and finds the data that they
//! refer to.

use std::io;

use bytes::Bytes;

use super::outline::Outline;
use super::problem::Fault;
use crate::error::StorageResult;
use crate::file::DataFile;
use crate::format::data::parse_backpointer;
use crate::format::{
    BACKPOINTER_LEN, Corruption, DATA_HEADER_LEN, DataHeader, FIRST_TRANSACTION,
    TRANSACTION_HEADER_LEN, TransactionHeader,
};
use crate::reader::Reader;
use zrs_ids::Tid;

/// The range of the version's length in a data header; the length is always 0.
const VERSION_LEN: std::ops::Range<usize> = DATA_HEADER_LEN - 10..DATA_HEADER_LEN - 8;

/// The bytes at a position among a transaction's data records.
pub(crate) enum At {
    /// A data record.
    Record(Record),
    /// Bytes that are not a data record. The position of the next record is unknown.
    Damaged(Fault),
}

/// A data record.
pub(crate) struct Record {
    pub(crate) position: u64,
    /// Where the next record begins.
    pub(crate) end: u64,
    /// The header as stored; its transaction id and position may be wrong.
    pub(crate) header: DataHeader,
    /// Damage in the header itself.
    pub(crate) fault: Option<Fault>,
}

/// The content of a record.
pub(crate) enum Content {
    /// Data of this length at this position.
    Data {
        position: u64,
        len: u64,
        /// The transaction of the record that the first backpointer leads to.
        data_txn: Option<Tid>,
    },
    /// The object's creation is undone.
    Nothing {
        /// As for data.
        data_txn: Option<Tid>,
    },
}

/// Read the structure at `position` among the data records of the transaction `tid`.
pub(crate) fn read_at(
    reader: &mut Reader,
    transaction: &Outline,
    tid: Tid,
    position: u64,
) -> StorageResult<At> {
    let limit = transaction.data_end();
    let left = limit - position;
    if left < DATA_HEADER_LEN as u64 {
        return Ok(At::Damaged(Corruption::RecordTooShort { left }.into()));
    }
    let Some(mut bytes) = reader.array::<DATA_HEADER_LEN>(position)? else {
        let length = reader.file.metadata()?.len;
        return Ok(At::Damaged(Corruption::Truncated { length }.into()));
    };
    let mut fault = DataHeader::parse(&bytes).err().map(Fault::from);
    bytes[VERSION_LEN].fill(0);
    let header = match DataHeader::parse(&bytes) {
        Ok(header) => header,
        Err(corruption) => return Ok(At::Damaged(corruption.into())),
    };
    // Two fields identify a data header: one of them may be wrong, but not both.
    match (header.tid == tid, header.tloc == transaction.position) {
        (true, true) => {}
        (true, false) => {
            let (found, expected) = (header.tloc, transaction.position);
            fault = Some(Corruption::TransactionPosition { found, expected }.into());
        }
        (false, true) => fault = Some(Fault::RecordTid { found: header.tid }),
        (false, false) => return Ok(At::Damaged(Fault::NoRecord { left })),
    }
    Ok(match header.end(position, limit) {
        Ok(end) => At::Record(Record {
            position,
            end,
            header,
            fault,
        }),
        Err(corruption) => At::Damaged(corruption.into()),
    })
}

/// The content of a record, found by following its backpointers.
pub(crate) fn content(
    file: &DataFile,
    position: u64,
    header: &DataHeader,
) -> StorageResult<Result<Content, Fault>> {
    let (mut position, mut header) = (position, *header);
    let mut data_txn = None;
    while header.has_backpointer() {
        let bytes = file.read_array::<BACKPOINTER_LEN>(position + DATA_HEADER_LEN as u64)?;
        let found = match parse_backpointer(bytes.unwrap_or_default(), position) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Ok(Content::Nothing { data_txn })),
            Err(corruption) => return Ok(Err(corruption.into())),
        };
        header = match target(file, &header, found, position)? {
            Ok(header) => header,
            Err(fault) => return Ok(Err(fault)),
        };
        data_txn = data_txn.or(Some(header.tid));
        position = found;
    }
    Ok(Ok(Content::Data {
        position: position + DATA_HEADER_LEN as u64,
        len: header.data_len,
        data_txn,
    }))
}

/// The header of the record at `position` that a backpointer of `later` leads to; it must end
/// before `limit`.
///
/// Three facts identify that record: its object, the transaction around it, and a transaction id
/// earlier than that of `later`. One of them may be wrong.
fn target(
    file: &DataFile,
    later: &DataHeader,
    position: u64,
    limit: u64,
) -> StorageResult<Result<DataHeader, Fault>> {
    let Some(mut bytes) = file.read_array::<DATA_HEADER_LEN>(position)? else {
        return Ok(Err(Fault::BackpointerTarget { found: position }));
    };
    bytes[VERSION_LEN].fill(0);
    let header = match DataHeader::parse(&bytes) {
        Ok(header) => header,
        Err(corruption) => return Ok(Err(corruption.into())),
    };
    let of_object = header.oid == later.oid;
    let in_transaction = is_in_transaction(file, &header, position)?;
    let earlier = header.tid > Tid::ZERO && header.tid < later.tid;
    if header.end(position, limit).is_err() || !(in_transaction || of_object && earlier) {
        return Ok(Err(Fault::BackpointerTarget { found: position }));
    }
    if !of_object {
        let (found, expected) = (header.oid, later.oid);
        return Ok(Err(Corruption::BackpointerOid { found, expected }.into()));
    }
    Ok(Ok(header))
}

/// Whether the transaction that a record at `position` names begins before the record and ends
/// after it.
fn is_in_transaction(file: &DataFile, header: &DataHeader, position: u64) -> StorageResult<bool> {
    let start = header.tloc;
    if start < FIRST_TRANSACTION || start >= position {
        return Ok(false);
    }
    let bytes = file.read_array::<TRANSACTION_HEADER_LEN>(start)?;
    let transaction = bytes.and_then(|bytes| TransactionHeader::parse(&bytes).ok());
    Ok(transaction.is_some_and(|transaction| {
        start + transaction.full_len() <= position
            && transaction.end(start).is_ok_and(|end| end > position)
    }))
}

impl Reader {
    /// The data at `position`, read through the window; `None` if the file ends before the end of
    /// the data.
    pub(crate) fn data_at(&mut self, position: u64, len: u64) -> StorageResult<Option<Bytes>> {
        let len = usize::try_from(len).map_err(|error| {
            let source = io::Error::new(io::ErrorKind::OutOfMemory, error);
            self.file.io_error(source)
        })?;
        Ok(self.bytes(position, len)?.map(Bytes::copy_from_slice))
    }
}
