//! The storage that a secondary applies transactions to.

use std::fmt::Display;

use super::ListPlace;
use crate::proto::{Digest, Record, TransactionBegin};
use zrs_ids::Tid;

/// The storage of a secondary. Most calls are those of ZODB's `IStorageRestoreable`, in order.
pub trait ReplicaStorage {
    /// The error of its calls.
    type Error: Display;

    /// Whether it stores blobs.
    fn stores_blobs(&mut self) -> Result<bool, Self::Error>;
    /// The last transaction.
    fn last_transaction(&mut self) -> Result<Tid, Self::Error>;
    /// The digest of the last transaction, `tid`; `None` if the storage has no file, or if a
    /// pack may have removed records from it.
    fn digest(&mut self, tid: Tid) -> Result<Option<Digest>, Self::Error>;
    /// `tpc_begin`.
    fn begin(&mut self, meta: &TransactionBegin) -> Result<(), Self::Error>;
    /// `restore`.
    fn restore(&mut self, record: &Record) -> Result<(), Self::Error>;
    /// Begins a temporary file for a blob. No committed file is touched before [`Self::finish`],
    /// which follows only a digest that agrees.
    fn begin_blob(&mut self) -> Result<(), Self::Error>;
    /// Appends to that file.
    fn write_block(&mut self, block: &[u8]) -> Result<(), Self::Error>;
    /// `restoreBlob` with that file.
    fn restore_blob(&mut self, record: &Record) -> Result<(), Self::Error>;
    /// `tpc_vote` and `tpc_finish`. The transaction may stay pending until [`Self::flush`].
    fn finish(&mut self) -> Result<(), Self::Error>;
    /// `tpc_abort`.
    fn abort(&mut self) -> Result<(), Self::Error>;

    /// Where the list of dropped transactions can be kept; `None` if it cannot be kept.
    fn list_place(&mut self) -> Result<Option<ListPlace>, Self::Error> {
        Ok(None)
    }

    /// The number of bytes of finished transactions that are not visible yet.
    fn pending(&self) -> u64 {
        0
    }

    /// Makes the pending transactions visible.
    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Whether a power cut could remove a visible transaction, or one is not published yet.
    fn has_unsynced_status(&self) -> bool {
        false
    }

    /// Makes everything visible durable.
    fn sync_status(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

impl<E: Display> ReplicaStorage for Box<dyn ReplicaStorage<Error = E> + Send> {
    type Error = E;

    fn stores_blobs(&mut self) -> Result<bool, E> {
        (**self).stores_blobs()
    }

    fn last_transaction(&mut self) -> Result<Tid, E> {
        (**self).last_transaction()
    }

    fn digest(&mut self, tid: Tid) -> Result<Option<Digest>, E> {
        (**self).digest(tid)
    }

    fn begin(&mut self, meta: &TransactionBegin) -> Result<(), E> {
        (**self).begin(meta)
    }

    fn restore(&mut self, record: &Record) -> Result<(), E> {
        (**self).restore(record)
    }

    fn begin_blob(&mut self) -> Result<(), E> {
        (**self).begin_blob()
    }

    fn write_block(&mut self, block: &[u8]) -> Result<(), E> {
        (**self).write_block(block)
    }

    fn restore_blob(&mut self, record: &Record) -> Result<(), E> {
        (**self).restore_blob(record)
    }

    fn finish(&mut self) -> Result<(), E> {
        (**self).finish()
    }

    fn abort(&mut self) -> Result<(), E> {
        (**self).abort()
    }

    fn list_place(&mut self) -> Result<Option<ListPlace>, E> {
        (**self).list_place()
    }

    fn pending(&self) -> u64 {
        (**self).pending()
    }

    fn flush(&mut self) -> Result<(), E> {
        (**self).flush()
    }

    fn has_unsynced_status(&self) -> bool {
        (**self).has_unsynced_status()
    }

    fn sync_status(&mut self) -> Result<(), E> {
        (**self).sync_status()
    }
}
