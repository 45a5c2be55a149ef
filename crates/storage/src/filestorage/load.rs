//! Loading objects.

use std::borrow::Cow;

use bytes::Bytes;
use parking_lot::RwLockReadGuard;

use super::FileStorage;
use super::record::Read;
use super::state::{Snapshot, State};
use crate::error::{StorageError, StorageResult};
use crate::format::DataHeader;
use zrs_ids::{Oid, Tid};

/// A revision of an object and the time during which it was current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedBefore<D = Bytes> {
    /// The object's pickles.
    pub data: D,
    /// The transaction that wrote the revision.
    pub tid: Tid,
    /// The transaction that wrote the next one, if there is one.
    pub next_tid: Option<Tid>,
}

impl<D> LoadedBefore<D> {
    /// The same with the data converted.
    pub fn map_data<E>(self, map: impl FnOnce(D) -> E) -> LoadedBefore<E> {
        LoadedBefore {
            data: map(self.data),
            tid: self.tid,
            next_tid: self.next_tid,
        }
    }
}

/// An object's current revision, and the next object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentRecord<D = Bytes> {
    /// The object.
    pub oid: Oid,
    /// The transaction that wrote the revision.
    pub tid: Tid,
    /// The object's pickles.
    pub data: D,
    /// The object with the next higher id, if it exists.
    pub next: Option<Oid>,
}

impl<D> CurrentRecord<D> {
    /// The same with the data converted.
    pub fn map_data<E>(self, map: impl FnOnce(D) -> E) -> CurrentRecord<E> {
        CurrentRecord {
            oid: self.oid,
            tid: self.tid,
            data: map(self.data),
            next: self.next,
        }
    }
}

/// Loads objects. A caller passes a function that receives the data where they were read, so that
/// Python can copy them only once.
#[derive(Clone, Copy)]
pub struct Loads<'storage> {
    storage: &'storage FileStorage,
    waits: bool,
}

impl<'storage> Loads<'storage> {
    /// Loads that wait for the disk and for a transaction that is being finished.
    pub fn blocking(storage: &'storage FileStorage) -> Self {
        let waits = true;
        Self { storage, waits }
    }

    /// Loads that use only data in memory, of the storage or of the operating system, and never
    /// wait: if they would have to, they return an error that [would
    /// block](StorageError::would_block).
    pub fn nonblocking(storage: &'storage FileStorage) -> Self {
        let waits = false;
        Self { storage, waits }
    }

    /// The current data of an object, and the transaction that wrote them.
    ///
    /// # Errors
    /// [`StorageError::NoSuchObject`], also if the object's creation was undone.
    pub fn load<D>(
        self,
        oid: Oid,
        take: impl FnOnce(Cow<'_, [u8]>) -> D,
    ) -> StorageResult<(D, Tid)> {
        let (snapshot, position) = self.look_up(oid)?;
        let mut read = Read::new();
        let record = snapshot.read_record(&mut read, oid, position)?;
        let data = take(snapshot.read_data(&record, &read)?);
        Ok((data, record.header.tid))
    }

    /// The revision of an object that was current before `tid`, or `None` if the object was
    /// created at that time or later.
    ///
    /// # Errors
    /// [`StorageError::NoSuchObject`] if the object does not exist or did not exist then.
    pub fn load_before<D>(
        self,
        oid: Oid,
        tid: Tid,
        take: impl FnOnce(Cow<'_, [u8]>) -> D,
    ) -> StorageResult<Option<LoadedBefore<D>>> {
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
        Ok(Some(LoadedBefore {
            data: take(snapshot.read_data(&record, &read)?),
            tid: record.header.tid,
            next_tid,
        }))
    }

    /// The transaction that wrote an object's current revision.
    ///
    /// # Errors
    /// [`StorageError::NoSuchObject`], also if the object's creation was undone.
    pub fn get_tid(self, oid: Oid) -> StorageResult<Tid> {
        let (snapshot, position) = self.look_up(oid)?;
        let record = snapshot.record(oid, position)?;
        if record.header.has_backpointer() && snapshot.backpointer(&record)?.is_none() {
            return Err(StorageError::NoSuchObject { oid });
        }
        Ok(record.header.tid)
    }

    /// The current revision of the object with the lowest id from `from` on; `None` if none
    /// follows.
    pub fn record_iternext<D>(
        self,
        from: Option<Oid>,
        take: impl FnOnce(Cow<'_, [u8]>) -> D,
    ) -> StorageResult<Option<CurrentRecord<D>>> {
        let state = self.state()?;
        let after = from.and_then(|from| from.as_u64().checked_sub(1));
        let mut objects = state.index.objects_after(after.map(Oid::from_u64));
        let Some((oid, position)) = objects.next() else {
            return Ok(None);
        };
        let next = objects.next().map(|(oid, _)| oid);
        let snapshot = self.snapshot(&state);
        drop(state);
        let mut read = Read::new();
        let record = snapshot.read_record(&mut read, oid, position)?;
        Ok(Some(CurrentRecord {
            oid,
            tid: record.header.tid,
            data: take(snapshot.read_data(&record, &read)?),
            next,
        }))
    }

    /// The file, and the position of an object's current record in it.
    pub(super) fn look_up(self, oid: Oid) -> StorageResult<(Snapshot, u64)> {
        let state = self.state()?;
        match state.index.get(oid) {
            Some(position) => Ok((self.snapshot(&state), position)),
            None => Err(StorageError::NoSuchObject { oid }),
        }
    }

    fn state(self) -> StorageResult<RwLockReadGuard<'storage, State>> {
        if self.waits {
            self.storage.read()
        } else {
            self.storage.try_read()
        }
    }

    fn snapshot(self, state: &State) -> Snapshot {
        let snapshot = state.snapshot();
        if self.waits {
            return snapshot;
        }
        Snapshot {
            file: snapshot.file.only_cached(),
            ..snapshot
        }
    }
}

impl FileStorage {
    /// The file, and the position of an object's current record in it.
    pub(super) fn look_up(&self, oid: Oid) -> StorageResult<(Snapshot, u64)> {
        Loads::blocking(self).look_up(oid)
    }

    /// Like [`Loads::load`], blocking.
    ///
    /// # Errors
    /// [`StorageError::NoSuchObject`], also if the object's creation was undone.
    pub fn load(&self, oid: Oid) -> StorageResult<(Bytes, Tid)> {
        Loads::blocking(self).load(oid, to_bytes)
    }

    /// Like [`Loads::load_before`], blocking.
    ///
    /// # Errors
    /// [`StorageError::NoSuchObject`] if the object does not exist or did not exist then.
    pub fn load_before(&self, oid: Oid, tid: Tid) -> StorageResult<Option<LoadedBefore>> {
        Loads::blocking(self).load_before(oid, tid, to_bytes)
    }

    /// Like [`Loads::get_tid`], blocking.
    ///
    /// # Errors
    /// [`StorageError::NoSuchObject`], also if the object's creation was undone.
    pub fn get_tid(&self, oid: Oid) -> StorageResult<Tid> {
        Loads::blocking(self).get_tid(oid)
    }

    /// Like [`Loads::record_iternext`], blocking.
    pub fn record_iternext(&self, from: Option<Oid>) -> StorageResult<Option<CurrentRecord>> {
        Loads::blocking(self).record_iternext(from, to_bytes)
    }

    /// The data that the transaction `tid` wrote for an object.
    ///
    /// # Errors
    /// [`StorageError::NoSuchObject`] if it did not write the object.
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

    /// The data of the record at `position`, following backpointers, and the transaction of the
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

/// Converts data for [`Loads`] to bytes that the caller owns.
pub fn to_bytes(data: Cow<'_, [u8]>) -> Bytes {
    Bytes::from(data.into_owned())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::filestorage::{Options, TransactionMeta};
    use zrs_vfs::{OsVfs, Vfs, sim::SimVfs};

    const OID: Oid = Oid::from_u64(1);

    fn committed(
        vfs: Arc<dyn Vfs>,
        path: &Path,
        callback: impl FnOnce(&FileStorage),
    ) -> FileStorage {
        let storage = FileStorage::open(vfs, path, Options::default()).unwrap();
        let meta = TransactionMeta {
            tid: Tid::from_u64(7),
            status: b' ',
            user: Bytes::new(),
            description: Bytes::new(),
            extension: Bytes::new(),
        };
        let mut transaction = storage
            .begin(storage.commit_lock().acquire(), &meta)
            .unwrap();
        storage
            .store(&mut transaction, OID, None, &[b'x'; 5000])
            .unwrap();
        storage.vote(&mut transaction).unwrap();
        let finished = storage.finish(transaction, |_| {
            callback(&storage);
            Ok::<_, Infallible>(())
        });
        drop(finished.unwrap());
        storage
    }

    fn would_block<T>(result: StorageResult<T>) -> bool {
        result.is_err_and(|error| error.would_block())
    }

    #[test]
    fn nonblocking_loads_of_data_in_memory_give_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("Data.fs");
        let storage = committed(Arc::new(OsVfs), &path, |storage| {
            assert!(would_block(Loads::nonblocking(storage).get_tid(OID)));
        });
        let waiting = storage.load(OID).unwrap();
        match Loads::nonblocking(&storage).load(OID, to_bytes) {
            // Not every file system can report which bytes are in memory.
            Err(error) => assert!(error.would_block(), "{error}"),
            Ok(loaded) => assert_eq!(loaded, waiting),
        }
        let none = Oid::from_u64(2);
        let missing = Loads::nonblocking(&storage).load(none, to_bytes);
        assert!(matches!(missing, Err(StorageError::NoSuchObject { oid }) if oid == none));
    }

    #[test]
    fn nonblocking_loads_would_block_if_the_system_cannot_report_what_is_in_memory() {
        let storage = committed(Arc::new(SimVfs::new(1)), Path::new("Data.fs"), |_| {});
        let at_once = Loads::nonblocking(&storage);
        assert!(would_block(at_once.load(OID, to_bytes)));
        assert!(would_block(at_once.load_before(OID, Tid::MAX, to_bytes)));
        assert!(would_block(at_once.record_iternext(None, to_bytes)));
        assert_eq!(storage.load(OID).unwrap().0.len(), 5000);
    }
}
