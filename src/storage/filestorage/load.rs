//! Reading objects.

use std::io;

use bytes::Bytes;

use super::{FileStorage, Snapshot};
use crate::error::{StorageError, StorageResult};
use crate::format::data::parse_backpointer;
use crate::format::{BACKPOINTER_LEN, DATA_HEADER_LEN, DataHeader};
use crate::ids::{Oid, Tid};

/// How much is read of a record whose data are wanted, so that a small one takes one read.
const FIRST_READ: usize = 2048;
/// The header and the backpointer that may follow it.
const HEAD: usize = DATA_HEADER_LEN + BACKPOINTER_LEN;

/// A revision of an object and how long it was current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedBefore {
    /// The object's pickles.
    pub data: Bytes,
    /// The transaction that wrote the revision.
    pub tid: Tid,
    /// The transaction that wrote the next one, if there is one.
    pub next_tid: Option<Tid>,
}

/// An object's current revision, and the object to ask for next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentRecord {
    /// The object.
    pub oid: Oid,
    /// The transaction that wrote the revision.
    pub tid: Tid,
    /// The object's pickles.
    pub data: Bytes,
    /// The object with the next higher id, if there is one.
    pub next: Option<Oid>,
}

impl FileStorage {
    /// The current data of an object and the transaction that wrote them.
    ///
    /// # Errors
    /// [`StorageError::NoSuchObject`], also if the object's creation was undone.
    pub fn load(&self, oid: Oid) -> StorageResult<(Bytes, Tid)> {
        let (snapshot, position) = self.look_up(oid)?;
        let mut read = Read::new();
        let record = snapshot.read_record(&mut read, oid, position)?;
        let tid = record.header.tid;
        Ok((snapshot.read_data(&record, &read)?, tid))
    }

    /// The revision of an object that was current before `tid`, or `None` if it was made
    /// then or later.
    ///
    /// # Errors
    /// [`StorageError::NoSuchObject`] if there is no such object, or none at that time.
    pub fn load_before(&self, oid: Oid, tid: Tid) -> StorageResult<Option<LoadedBefore>> {
        let (snapshot, position) = self.look_up(oid)?;
        let mut read = Read::new();
        let mut record = snapshot.read_record(&mut read, oid, position)?;
        let mut next_tid = None;
        while record.header.tid >= tid {
            next_tid = Some(record.header.tid);
            let Some(position) = snapshot.previous_position(&record)? else {
                return Ok(None);
            };
            record = snapshot.read_record(&mut read, oid, position)?;
        }
        let data = snapshot.read_data(&record, &read)?;
        let tid = record.header.tid;
        Ok(Some(LoadedBefore {
            data,
            tid,
            next_tid,
        }))
    }

    /// The data that the transaction `tid` wrote for an object.
    ///
    /// # Errors
    /// [`StorageError::NoSuchObject`] if it wrote none.
    pub fn load_serial(&self, oid: Oid, tid: Tid) -> StorageResult<Bytes> {
        let (snapshot, position) = self.look_up(oid)?;
        let mut record = snapshot.record(oid, position)?;
        while record.header.tid != tid {
            if record.header.tid < tid {
                return Err(StorageError::NoSuchObject { oid });
            }
            record = snapshot
                .previous(&record)?
                .ok_or(StorageError::NoSuchObject { oid })?;
        }
        snapshot.data(&record)
    }

    /// The transaction that wrote an object's current revision.
    ///
    /// # Errors
    /// [`StorageError::NoSuchObject`], also if the object's creation was undone.
    pub fn get_tid(&self, oid: Oid) -> StorageResult<Tid> {
        let (snapshot, position) = self.look_up(oid)?;
        let record = snapshot.record(oid, position)?;
        if record.header.has_backpointer() && snapshot.backpointer(&record)?.is_none() {
            return Err(StorageError::NoSuchObject { oid });
        }
        Ok(record.header.tid)
    }

    /// The current revision of the first object from `from` on, in order of ids; `None` if
    /// there is no more.
    pub fn record_iternext(&self, from: Option<Oid>) -> StorageResult<Option<CurrentRecord>> {
        let state = self.read()?;
        let first = match from.map(Oid::as_u64) {
            None | Some(0) => state.index.next_after(None),
            Some(from) => state.index.next_after(Some(Oid::from_u64(from - 1))),
        };
        let Some((oid, position)) = first else {
            return Ok(None);
        };
        let next = state.index.next_after(Some(oid)).map(|(oid, _)| oid);
        let snapshot = Snapshot {
            file: state.file.clone(),
            end: state.end,
            last_tid: state.last_tid,
        };
        drop(state);
        let mut read = Read::new();
        let record = snapshot.read_record(&mut read, oid, position)?;
        let (tid, data) = (record.header.tid, snapshot.read_data(&record, &read)?);
        Ok(Some(CurrentRecord {
            oid,
            tid,
            data,
            next,
        }))
    }

    /// The header of the data record at `position`, and its backpointer if it has one.
    pub fn data_header(
        &self,
        position: u64,
        oid: Option<Oid>,
    ) -> StorageResult<(DataHeader, Option<u64>)> {
        let snapshot = self.snapshot()?;
        let record = match oid {
            Some(oid) => snapshot.record(oid, position)?,
            None => snapshot.any_record(position)?,
        };
        let back = if record.header.has_backpointer() {
            snapshot.backpointer(&record)?
        } else {
            None
        };
        Ok((record.header, back))
    }

    /// The data that the record at `position` stands for, and the transaction of the
    /// record that has them.
    ///
    /// # Errors
    /// [`StorageError::NoSuchObject`] if the record undoes the object's creation.
    pub fn load_back(&self, oid: Oid, position: u64) -> StorageResult<(Bytes, Tid)> {
        let snapshot = self.snapshot()?;
        let record = snapshot.record(oid, position)?;
        let record = snapshot.record_with_data(record)?;
        Ok((snapshot.data(&record)?, record.header.tid))
    }
}

/// The head of a data record.
#[derive(Clone, Copy)]
pub(super) struct RawRecord {
    pub(super) position: u64,
    pub(super) header: DataHeader,
    /// What follows the header, if the file has so much.
    following: Option<[u8; BACKPOINTER_LEN]>,
}

/// The bytes of a record as far as one read got them.
struct Read {
    bytes: [u8; FIRST_READ],
    count: usize,
}

impl Read {
    const fn new() -> Self {
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
    /// The record at `position`, which must be one of `oid`.
    pub(super) fn record(&self, oid: Oid, position: u64) -> StorageResult<RawRecord> {
        let mut bytes = [0; HEAD];
        let count = self.file.read_at_most(&mut bytes, position)?;
        self.parse_record(&bytes[..count], Some(oid), position)
    }

    /// The record at `position`.
    fn any_record(&self, position: u64) -> StorageResult<RawRecord> {
        let mut bytes = [0; HEAD];
        let count = self.file.read_at_most(&mut bytes, position)?;
        self.parse_record(&bytes[..count], None, position)
    }

    /// As [`Self::record`]; what is read on the way is left in `read`.
    fn read_record(&self, read: &mut Read, oid: Oid, position: u64) -> StorageResult<RawRecord> {
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

    /// The object's record before `record`, if there is one.
    pub(super) fn previous(&self, record: &RawRecord) -> StorageResult<Option<RawRecord>> {
        match self.previous_position(record)? {
            Some(position) => self.record(record.header.oid, position).map(Some),
            None => Ok(None),
        }
    }

    /// Where the object's record before `record` is, if there is one.
    fn previous_position(&self, record: &RawRecord) -> StorageResult<Option<u64>> {
        let (header, position) = (record.header, record.position);
        match header.prev {
            0 => Ok(None),
            prev if prev >= position => {
                Err(self.no_record(header.oid, position, &header.to_bytes()))
            }
            prev => Ok(Some(prev)),
        }
    }

    /// The data that `record` stands for.
    pub(super) fn data(&self, record: &RawRecord) -> StorageResult<Bytes> {
        let record = self.record_with_data(*record)?;
        let len = self.data_len(&record)?;
        let content = record.position + DATA_HEADER_LEN as u64;
        self.file.read_bytes(content, len)
    }

    /// The data that `record` stands for; `read` holds what was read with it.
    fn read_data(&self, record: &RawRecord, read: &Read) -> StorageResult<Bytes> {
        if record.header.has_backpointer() {
            return self.data(record);
        }
        let len = self.data_len(record)?;
        let content = read.bytes().get(DATA_HEADER_LEN..).unwrap_or_default();
        match content.get(..len) {
            Some(data) => Ok(Bytes::copy_from_slice(data)),
            None => self.data(record),
        }
    }

    /// The record that has the data that `record` stands for.
    pub(super) fn record_with_data(&self, mut record: RawRecord) -> StorageResult<RawRecord> {
        while record.header.has_backpointer() {
            let oid = record.header.oid;
            let back = self.backpointer(&record)?;
            let position = back.ok_or(StorageError::NoSuchObject { oid })?;
            record = self.record(oid, position)?;
        }
        Ok(record)
    }

    /// Where the backpointer of `record`, which has one, leads; `None` if it is zero.
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
