//! Reading data records: their headers, backpointers and data.

use std::borrow::Cow;
use std::io;

use bytes::Bytes;

use super::state::Snapshot;
use crate::error::{StorageError, StorageResult};
use crate::format::data::parse_backpointer;
use crate::format::{BACKPOINTER_LEN, DATA_HEADER_LEN, DataHeader};
use zrs_ids::Oid;

/// The number of bytes to read when loading a record, so that a typical one of a few hundred
/// bytes takes one read. A larger value would cost every load more than it saves.
const FIRST_READ: usize = 512;
/// The header and the backpointer that may follow it.
const HEAD: usize = DATA_HEADER_LEN + BACKPOINTER_LEN;

/// The header of a data record with the bytes after it.
#[derive(Clone, Copy)]
pub(super) struct RawRecord {
    pub(super) position: u64,
    pub(super) header: DataHeader,
    /// The bytes after the header, if the file is long enough.
    following: Option<[u8; BACKPOINTER_LEN]>,
}

/// The bytes of a record that one read returned.
pub(super) struct Read {
    bytes: [u8; FIRST_READ],
    count: usize,
}

impl Read {
    pub(super) const fn new() -> Self {
        Self {
            bytes: [0; FIRST_READ],
            count: 0,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.count]
    }
}

impl Snapshot {
    /// The record at `position`, which must belong to `oid`.
    pub(super) fn record(&self, oid: Oid, position: u64) -> StorageResult<RawRecord> {
        let mut bytes = [0; HEAD];
        let count = self.file.read_at_most(&mut bytes, position)?;
        self.parse_record(&bytes[..count], Some(oid), position)
    }

    /// The record at `position`.
    pub(super) fn any_record(&self, position: u64) -> StorageResult<RawRecord> {
        let mut bytes = [0; HEAD];
        let count = self.file.read_at_most(&mut bytes, position)?;
        self.parse_record(&bytes[..count], None, position)
    }

    /// Like [`Self::record`]; keeps the bytes in `read`.
    pub(super) fn read_record(
        &self,
        read: &mut Read,
        oid: Oid,
        position: u64,
    ) -> StorageResult<RawRecord> {
        read.count = self.file.read_at_most(&mut read.bytes, position)?;
        self.parse_record(read.bytes(), Some(oid), position)
    }

    fn parse_record(
        &self,
        bytes: &[u8],
        oid: Option<Oid>,
        position: u64,
    ) -> StorageResult<RawRecord> {
        let header = bytes.first_chunk();
        let header = header.and_then(|header| DataHeader::parse(header).ok());
        let header = header
            .filter(|header| oid.is_none_or(|oid| oid == header.oid))
            .filter(|header| header.end(position, self.end).is_ok());
        let Some(header) = header else {
            let found = &bytes[..bytes.len().min(DATA_HEADER_LEN)];
            return Err(self.no_record(oid.unwrap_or(Oid::ZERO), position, found));
        };
        let following = bytes[DATA_HEADER_LEN..].first_chunk().copied();
        Ok(RawRecord {
            position,
            header,
            following,
        })
    }

    /// The object's previous record before `record`, if there is one.
    pub(super) fn previous(&self, record: &RawRecord) -> StorageResult<Option<RawRecord>> {
        match self.previous_position(record)? {
            Some(position) => self.record(record.header.oid, position).map(Some),
            None => Ok(None),
        }
    }

    /// The position of the object's previous record before `record`, if there is one.
    pub(super) fn previous_position(&self, record: &RawRecord) -> StorageResult<Option<u64>> {
        let (header, position) = (record.header, record.position);
        match header.prev {
            0 => Ok(None),
            prev if prev >= position => {
                Err(self.no_record(header.oid, position, &header.to_bytes()))
            }
            prev => Ok(Some(prev)),
        }
    }

    /// The data of `record`, following backpointers.
    pub(super) fn data(&self, record: &RawRecord) -> StorageResult<Bytes> {
        self.read_vec(record).map(Bytes::from)
    }

    fn read_vec(&self, record: &RawRecord) -> StorageResult<Vec<u8>> {
        let record = self.record_with_data(*record)?;
        let len = self.data_len(&record)?;
        let content = record.position + DATA_HEADER_LEN as u64;
        self.file.read_vec(content, len)
    }

    /// The data of `record`, following backpointers; `read` has the bytes that were read with it.
    pub(super) fn read_data<'read>(
        &self,
        record: &RawRecord,
        read: &'read Read,
    ) -> StorageResult<Cow<'read, [u8]>> {
        if !record.header.has_backpointer() {
            let len = self.data_len(record)?;
            let content = read.bytes().get(DATA_HEADER_LEN..).unwrap_or_default();
            if let Some(data) = content.get(..len) {
                return Ok(Cow::Borrowed(data));
            }
        }
        self.read_vec(record).map(Cow::Owned)
    }

    /// The record that has the data of `record`, after following backpointers.
    pub(super) fn record_with_data(&self, mut record: RawRecord) -> StorageResult<RawRecord> {
        while record.header.has_backpointer() {
            let oid = record.header.oid;
            let back = self.backpointer(&record)?;
            let position = back.ok_or(StorageError::NoSuchObject { oid })?;
            record = self.record(oid, position)?;
        }
        Ok(record)
    }

    /// The target of the backpointer of `record`, which must have one; `None` if it is zero.
    pub(super) fn backpointer(&self, record: &RawRecord) -> StorageResult<Option<u64>> {
        let Some(bytes) = record.following else {
            let content = record.position + DATA_HEADER_LEN as u64;
            return Err(self.file.truncated(content)?);
        };
        parse_backpointer(bytes, record.position)
            .map_err(|corruption| self.file.corrupt(record.position, corruption))
    }

    fn data_len(&self, record: &RawRecord) -> StorageResult<usize> {
        usize::try_from(record.header.data_len).map_err(|error| {
            let source = io::Error::new(io::ErrorKind::OutOfMemory, error);
            self.file.io_error(source)
        })
    }

    fn no_record(&self, oid: Oid, position: u64, found: &[u8]) -> StorageError {
        StorageError::CorruptRecord {
            path: self.file.path().to_path_buf(),
            oid,
            position,
            found: found.to_vec(),
        }
    }
}
