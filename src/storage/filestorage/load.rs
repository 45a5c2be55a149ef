//! Reading objects.

use std::io;

use bytes::Bytes;

use super::{FileStorage, Snapshot};
use crate::error::{StorageError, StorageResult};
use crate::format::data::parse_backpointer;
use crate::format::{BACKPOINTER_LEN, DATA_HEADER_LEN, DataHeader};
use crate::ids::{Oid, Tid};

/// How much is read at first, so that a small record takes one read.
const FIRST_READ: usize = 1024;

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
        let record = snapshot.record(oid, position)?;
        let tid = record.header.tid;
        Ok((snapshot.data(&record)?, tid))
    }

    /// The revision of an object that was current before `tid`, or `None` if it was made
    /// then or later.
    ///
    /// # Errors
    /// [`StorageError::NoSuchObject`] if there is no such object, or none at that time.
    pub fn load_before(&self, oid: Oid, tid: Tid) -> StorageResult<Option<LoadedBefore>> {
        let (snapshot, position) = self.look_up(oid)?;
        let mut record = snapshot.record(oid, position)?;
        let mut next_tid = None;
        while record.header.tid >= tid {
            next_tid = Some(record.header.tid);
            match snapshot.previous(&record)? {
                Some(previous) => record = previous,
                None => return Ok(None),
            }
        }
        let data = snapshot.data(&record)?;
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
        let record = snapshot.record(oid, position)?;
        let (tid, data) = (record.header.tid, snapshot.data(&record)?);
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

/// A data record, with as much of what follows the header as was read with it.
pub(super) struct RawRecord {
    pub(super) position: u64,
    pub(super) header: DataHeader,
    bytes: [u8; FIRST_READ],
    count: usize,
}

impl RawRecord {
    fn content(&self) -> &[u8] {
        self.bytes
            .get(DATA_HEADER_LEN..self.count)
            .unwrap_or_default()
    }
}

impl Snapshot {
    /// The record at `position`, which must be one of `oid`.
    pub(super) fn record(&self, oid: Oid, position: u64) -> StorageResult<RawRecord> {
        let record = self.any_record(position);
        match record {
            Ok(record) if record.header.oid == oid => Ok(record),
            Ok(record) => {
                let found = &record.bytes[..DATA_HEADER_LEN];
                Err(self.no_record(oid, position, found))
            }
            Err(StorageError::CorruptRecord { found, .. }) => {
                Err(self.no_record(oid, position, &found))
            }
            Err(error) => Err(error),
        }
    }

    /// The record at `position`.
    pub(super) fn any_record(&self, position: u64) -> StorageResult<RawRecord> {
        let mut bytes = [0; FIRST_READ];
        let count = self.file.read_at_most(&mut bytes, position)?;
        let head = bytes.first_chunk().filter(|_| count >= DATA_HEADER_LEN);
        let header = head.and_then(|head| DataHeader::parse(head).ok());
        let header = header.filter(|header| header.end(position, self.end).is_ok());
        let Some(header) = header else {
            let found = &bytes[..count.min(DATA_HEADER_LEN)];
            return Err(self.no_record(Oid::ZERO, position, found));
        };
        Ok(RawRecord {
            position,
            header,
            bytes,
            count,
        })
    }

    /// The object's record before `record`, if there is one.
    pub(super) fn previous(&self, record: &RawRecord) -> StorageResult<Option<RawRecord>> {
        let (oid, position) = (record.header.oid, record.header.prev);
        if position == 0 {
            return Ok(None);
        }
        if position >= record.position {
            let found = &record.bytes[..DATA_HEADER_LEN];
            return Err(self.no_record(oid, record.position, found));
        }
        self.record(oid, position).map(Some)
    }

    /// The data that `record` stands for.
    pub(super) fn data(&self, record: &RawRecord) -> StorageResult<Bytes> {
        if !record.header.has_backpointer() {
            return self.own_data(record);
        }
        let back = self.backpointer(record)?;
        let position = back.ok_or(StorageError::NoSuchObject {
            oid: record.header.oid,
        })?;
        let record = self.record_with_data(self.record(record.header.oid, position)?)?;
        self.own_data(&record)
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
        let content = record.position + DATA_HEADER_LEN as u64;
        let bytes = match record.content().first_chunk::<BACKPOINTER_LEN>() {
            Some(bytes) => Some(*bytes),
            None => self.file.read_array(content)?,
        };
        let Some(bytes) = bytes else {
            return Err(self.file.truncated(content)?);
        };
        parse_backpointer(bytes, record.position)
            .map_err(|corruption| self.file.corrupt(record.position, corruption))
    }

    fn own_data(&self, record: &RawRecord) -> StorageResult<Bytes> {
        let len = usize::try_from(record.header.data_len).map_err(|error| {
            let source = io::Error::new(io::ErrorKind::OutOfMemory, error);
            self.file.io_error(source)
        })?;
        match record.content().get(..len) {
            Some(data) => Ok(Bytes::copy_from_slice(data)),
            None => self
                .file
                .read_bytes(record.position + DATA_HEADER_LEN as u64, len),
        }
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
