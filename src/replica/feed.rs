//! Which transactions of a storage may be shipped.
//!
//! A primary publishes a transaction when its storage's `tpc_finish` has returned, that is
//! when it is durable; streams ship no further. Publishing takes one short lock and never
//! waits for a stream.

use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::blobs::{BlobError, BlobReader, Blobs};
use crate::ids::Tid;
use crate::storage::DataRecord;
use crate::vfs::Vfs;

/// How far streams may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The last transaction that may be shipped.
    pub tid: Tid,
    /// A position of the file at which some finished transaction ends, a hint for searches.
    pub end: Option<u64>,
    /// Nothing will follow.
    pub finished: bool,
    /// Rises with every change.
    version: u64,
}

/// What a primary has to ship.
#[derive(Debug)]
pub struct Feed {
    path: PathBuf,
    blobs: Option<Blobs>,
    published: Mutex<Published>,
    changed: Condvar,
}

impl Feed {
    /// The feed of the `Data.fs` at `path`, whose last finished transaction is `tid`.
    pub fn new(path: PathBuf, tid: Tid, end: Option<u64>) -> Self {
        let published = Published {
            tid,
            end,
            finished: false,
            version: 0,
        };
        Self {
            path,
            blobs: None,
            published: Mutex::new(published),
            changed: Condvar::new(),
        }
    }

    /// Ships blobs too.
    #[must_use]
    pub fn with_blobs(mut self, blobs: Blobs) -> Self {
        self.blobs = Some(blobs);
        self
    }

    /// Whether secondaries must store blobs.
    pub fn ships_blobs(&self) -> bool {
        self.blobs.is_some()
    }

    /// The blob of this record, if it has one that is to be shipped.
    pub(super) fn open_blob(
        &self,
        vfs: &dyn Vfs,
        record: &DataRecord,
    ) -> Result<Option<BlobReader>, BlobError> {
        match &self.blobs {
            Some(blobs) => blobs.open(vfs, record),
            None => Ok(None),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How far streams may go now.
    pub fn published(&self) -> Published {
        *self.published.lock()
    }

    /// Lets streams ship up to `tid`. A lower tid than before changes nothing.
    pub fn publish(&self, tid: Tid, end: Option<u64>) {
        self.change(|published| {
            published.tid = published.tid.max(tid);
            published.end = end;
        });
    }

    /// Says that nothing will follow.
    pub fn finish(&self) {
        self.change(|published| published.finished = true);
    }

    /// Makes every waiting stream look again.
    pub fn wake(&self) {
        self.change(|_| {});
    }

    /// Waits until something has changed since `seen`.
    pub fn wait(&self, seen: Published) {
        let mut published = self.published.lock();
        while published.version == seen.version {
            self.changed.wait(&mut published);
        }
    }

    /// Waits likewise, but no longer than `timeout`.
    pub fn wait_for(&self, seen: Published, timeout: Duration) {
        let mut published = self.published.lock();
        if published.version == seen.version {
            self.changed.wait_for(&mut published, timeout);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Published)) {
        let mut published = self.published.lock();
        change(&mut published);
        published.version += 1;
        self.changed.notify_all();
    }
}
