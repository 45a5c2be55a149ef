//! A storage in one `Data.fs` with the semantics of ZODB's `FileStorage`: the same calls write
//! the same bytes.
//!
//! Any number of threads can read during one commit and one pack. A reader looks up a position
//! under the state's lock and reads the file without a lock; committed bytes never change, and a
//! pack puts another file in place. This module does not depend on Python or a clock: the caller
//! that begins a transaction provides its id. See docs/locking.md.

mod commit;
mod group_commit;
mod history;
mod iterate;
mod load;
mod open;
mod record;
mod restore;
mod save;
mod scan;
mod spool;
mod state;
mod swap_packed;
mod transaction;
mod undo;
mod voted;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

pub use self::commit::{FinishError, Stored};
pub use self::group_commit::{Announce, Restorer};
pub use self::history::{LoggedTransaction, Revision};
pub use self::iterate::{HeldRecord, HeldRecords, IteratedRecords, ReadRecords, Transactions};
pub use self::load::{CurrentRecord, LoadedBefore, Loads, to_bytes};
pub use self::state::Snapshot;
pub use self::transaction::{Transaction, TransactionMeta};
pub use self::undo::{Resolution, UndoResolver, UndoneRecord};

use self::state::{Condition, State};
use super::file::{DataFile, io_error};
use super::index::Index;
use crate::error::{StorageError, StorageResult};
use zrs_ids::{Oid, Tid};
use zrs_vfs::{ClosedFile, Held, Vfs};
pub use zrs_vfs::{CommitGuard, CommitLock};

/// How commits are made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommitSync {
    /// The data first, then the byte that marks them as committed.
    #[default]
    Ordered,
    /// Both at once, as in ZODB. The system may write them in either order, so after a power
    /// failure an unacknowledged transaction can look committed and be damaged.
    Single,
}

/// How to open a storage.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Create a new file, even if one exists.
    pub create: bool,
    /// Change neither the file nor those next to it.
    pub read_only: bool,
    /// Open only the transactions before this one.
    pub stop: Option<Tid>,
    /// The maximum position, in bytes, at which a record may begin.
    pub quota: Option<u64>,
    /// How commits are made durable.
    pub commit_sync: CommitSync,
}

/// A storage in one file.
pub struct FileStorage {
    vfs: Arc<dyn Vfs>,
    path: Arc<Path>,
    options: Options,
    /// Whether the index was read from its file instead of being rebuilt.
    used_index: bool,
    commit_lock: Arc<CommitLock>,
    /// Held for writing by a commit from before its callback until its transaction is visible.
    /// Readers wait for it while a transaction is being finished.
    gate: RwLock<()>,
    state: RwLock<State>,
    /// The highest object id in use.
    max_oid: Mutex<Oid>,
    packing: AtomicBool,
    pack_progress: Arc<crate::pack::Progress>,
    /// The number of times that the index was saved; locked while the index is written, and while
    /// the data file is replaced, so that an index file never belongs to a replaced data file.
    saving: Mutex<u64>,
    /// Whether a thread that saves the index is running.
    checkpointing: AtomicBool,
    /// Whether this process was forked from the one that opened the storage. Checked before
    /// taking any lock that a thread of that process may have held at the fork.
    inherited: AtomicBool,
    /// Whether a pack is replacing the storage's file.
    moving: AtomicBool,
    /// Held while the list of dropped transactions is written, and by a pack from then until the
    /// packed file is in place. Taken before the commit lock.
    listing: Mutex<()>,
}

impl FileStorage {
    /// The file's path.
    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// The file system.
    pub fn vfs(&self) -> &Arc<dyn Vfs> {
        &self.vfs
    }

    /// The options that the storage was opened with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether the index was read from its file instead of being rebuilt.
    pub fn used_index(&self) -> bool {
        self.used_index
    }

    /// The lock that commits hold.
    pub fn commit_lock(&self) -> &Arc<CommitLock> {
        &self.commit_lock
    }

    /// The path of a file next to the storage's own.
    pub fn sibling(&self, suffix: &str) -> PathBuf {
        sibling(&self.path, suffix)
    }

    /// The number of objects.
    pub fn len(&self) -> StorageResult<usize> {
        Ok(self.read()?.index.len())
    }

    /// Whether the storage has no objects.
    pub fn is_empty(&self) -> StorageResult<bool> {
        Ok(self.read()?.index.is_empty())
    }

    /// The file's committed length in bytes; also available after the storage is closed.
    pub fn size(&self) -> u64 {
        self.state.read().end
    }

    /// The last finished transaction, zero if the storage is empty.
    pub fn last_transaction(&self) -> StorageResult<Tid> {
        Ok(self.read()?.last_tid)
    }

    /// The last finished transaction, without waiting for one that is being finished; also
    /// available after the storage is closed or has failed.
    pub fn last_finished(&self) -> Tid {
        self.state.read().last_tid
    }

    /// The file with its current committed end.
    pub fn snapshot(&self) -> StorageResult<Snapshot> {
        Ok(self.read()?.snapshot())
    }

    /// A copy of the current index.
    pub fn index(&self) -> StorageResult<Index> {
        Ok(self.read()?.index.clone())
    }

    /// The file and its current index, without waiting for a transaction that is being finished;
    /// also for a closed storage, whose file cannot be read.
    pub(super) fn file_and_index(&self) -> (DataFile, Index) {
        let state = self.state.read();
        (state.file.clone(), state.index.clone())
    }

    /// The position of an object's current record.
    pub fn position(&self, oid: Oid) -> StorageResult<u64> {
        Ok(self.look_up(oid)?.1)
    }

    /// A new object id.
    pub fn new_oid(&self) -> StorageResult<Oid> {
        self.check_writable()?;
        let mut max_oid = self.max_oid.lock();
        let next = max_oid.as_u64().checked_add(1);
        *max_oid = Oid::from_u64(next.ok_or(StorageError::NoMoreOids(*max_oid))?);
        Ok(*max_oid)
    }

    /// The highest object id in use.
    pub fn max_oid(&self) -> Oid {
        *self.max_oid.lock()
    }

    /// Note an object id that is in use.
    pub fn set_max_oid(&self, oid: Oid) {
        let mut max_oid = self.max_oid.lock();
        *max_oid = oid.max(*max_oid);
    }

    /// Reserve packing until the result is dropped.
    pub(crate) fn begin_pack(&self) -> StorageResult<Packing<'_>> {
        self.check_writable()?;
        if self.packing.swap(true, Ordering::AcqRel) {
            return Err(StorageError::AlreadyPacking);
        }
        Ok(Packing(&self.packing))
    }

    /// Whether a pack is running.
    pub(crate) fn is_packing(&self) -> bool {
        self.packing.load(Ordering::Acquire)
    }

    /// Continue in the file that a pack has written and put in place. `file` is open for writing,
    /// `index` is its index, and its records end at `end`. The caller holds the commit lock.
    pub fn replace(&self, _guard: &CommitGuard, file: DataFile, index: Index, end: u64) {
        let mut state = self.state.write();
        state.file = file;
        state.index = index;
        state.end = end;
        state.saved_end = 0;
        state.has_unsynced_status = false;
        state.durable = (end, state.last_tid);
    }

    /// Refuse all further operations: the contents of the file are unknown.
    pub fn fail(&self) {
        let mut state = self.state.write();
        if state.condition == Condition::Open {
            state.condition = Condition::Failed;
        }
    }

    /// Refuse all changes from now on, in a process that was forked from the one that opened the
    /// storage. Transactions that were committed before can still be read.
    pub fn disown(&self) {
        self.inherited.store(true, Ordering::Release);
    }

    /// Check that this process is the one that opened the storage.
    ///
    /// # Errors
    /// [`StorageError::Inherited`].
    pub fn check_owner(&self) -> StorageResult<()> {
        if self.inherited.load(Ordering::Acquire) {
            let path = self.path.to_path_buf();
            return Err(StorageError::Inherited { path });
        }
        Ok(())
    }

    /// The open file, and whether a pack is replacing it; `None` for a closed storage.
    pub fn held(&self) -> Option<Held> {
        // Read this before the file: a pack that begins in between is noticed by the next call.
        let is_moving = self.moving.load(Ordering::Acquire);
        let file = self.state.read().file.clone();
        let identity = file.metadata().ok()?.identity;
        Some(Held {
            identity,
            is_moving,
        })
    }

    /// Close the storage, and try to save the index before. Does nothing if the storage is
    /// already closed, or if another process opened it.
    ///
    /// # Errors
    /// Those of saving the index; the storage is closed in this case too.
    pub fn close(&self) -> StorageResult<()> {
        if self.check_owner().is_err() {
            return Ok(());
        }
        // Held until the end: the index must not be saved once another process may have the file.
        let mut count = self.saving.lock();
        let saved = match self.check_writable() {
            Ok(()) => self.save_index_holding(&mut count),
            Err(_) => Ok(()),
        };
        let mut state = self.state.write();
        state.condition = Condition::Closed;
        // Readers keep their own handles; this releases the storage's.
        state.file = DataFile::new(Arc::new(ClosedFile), &self.path);
        saved
    }

    /// The state, locked for reading when no other thread is finishing a transaction.
    fn read(&self) -> StorageResult<RwLockReadGuard<'_, State>> {
        loop {
            let state = self.state.read();
            if let Some(finishing) = state.finishing {
                if finishing != thread::current().id() {
                    drop(state);
                    drop(self.gate.read());
                    continue;
                }
            }
            return match state.condition {
                Condition::Open => Ok(state),
                condition => Err(self.refusal(condition)),
            };
        }
    }

    /// Like [`Self::read`], but never waits.
    fn try_read(&self) -> StorageResult<RwLockReadGuard<'_, State>> {
        let would_block = || io_error(&self.path, io::ErrorKind::WouldBlock.into());
        let state = self.state.try_read().ok_or_else(would_block)?;
        if state.finishing.is_some() {
            return Err(would_block());
        }
        match state.condition {
            Condition::Open => Ok(state),
            condition => Err(self.refusal(condition)),
        }
    }

    fn refusal(&self, condition: Condition) -> StorageError {
        match condition {
            Condition::Closed => StorageError::Closed,
            Condition::Open | Condition::Failed => StorageError::Failed {
                path: self.path.to_path_buf(),
            },
        }
    }

    fn check_writable(&self) -> StorageResult<()> {
        if self.options.read_only {
            return Err(StorageError::ReadOnly);
        }
        self.check_owner()?;
        match self.state.read().condition {
            Condition::Open => Ok(()),
            condition => Err(self.refusal(condition)),
        }
    }
}

/// The right to pack, which only one caller has at a time.
pub struct Packing<'storage>(&'storage AtomicBool);

impl Drop for Packing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The file next to the one at `path` whose name has this suffix.
pub(super) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
