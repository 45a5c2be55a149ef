//! The base class of `zc.zrs.filestorage.FileStorage`: a native storage and its operations.

mod base;
mod blobs;
mod commit;
mod current;
mod history;
mod opened;
mod pack;
mod records;

pub(crate) use base::tid_from_time;
pub(crate) use blobs::{make_way_for_blob, sync_blob};
pub(crate) use opened::FileStorageBase;
pub(crate) use pack::CommitLock;
pub(crate) use records::{StorageIterator, StorageRecord, StorageRecords};
