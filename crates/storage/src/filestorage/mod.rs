//! A storage in one `Data.fs`, as ZODB's `FileStorage` keeps it: the same bytes for the
//! same calls.
//!
//! Any number of threads read beside one commit and a pack. A reader looks up a position
//! under the state's lock and reads the file without a lock; what is committed never
//! changes, and a pack puts another file in its place. Nothing here knows Python or a
//! clock: who begins a transaction brings its id. See docs/locking.md.

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

/// How a commit is made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommitSync {
    /// The data first, then the byte that says that they are committed.
    #[default]
    Ordered,
    /// Both at once, as ZODB does it. The system may write them in either order, so after
    /// a power cut an unacknowledged transaction can look committed and be damaged.
    Single,
}

/// How to open a storage.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Make a new file, also in the place of an existing one.
    pub create: bool,
    /// Change nothing: neither the file nor those beside it.
    pub read_only: bool,
    /// Show only the transactions before this one.
    pub stop: Option<Tid>,
    /// The position up to which records may begin, in bytes.
    pub quota: Option<u64>,
    /// How commits are made durable.
    pub commit_sync: CommitSync,
}

/// A storage in one file.
pub struct FileStorage {
    vfs: Arc<dyn Vfs>,
    path: Arc<Path>,
    options: Options,
    /// Whether the index was read from its file rather than rebuilt.
    used_index: bool,
    commit_lock: Arc<CommitLock>,
    /// Held for writing by a commit from before its callback until its transaction can be
    /// seen. Readers wait for it when the state says so.
    gate: RwLock<()>,
    state: RwLock<State>,
    /// The highest object id in use.
    max_oid: Mutex<Oid>,
    packing: AtomicBool,
    pack_progress: Arc<crate::pack::Progress>,
    /// How often the index was saved; held while it is written to its file, and while the
    /// data file is replaced, which the index's is not to outlive.
    saving: Mutex<u64>,
    /// Whether a thread is there that saves the index.
    checkpointing: AtomicBool,
    /// Whether this process was forked from the one that opened the storage. Asked for before
    /// any lock that a thread of that process may have held then.
    inherited: AtomicBool,
    /// Whether a pack is putting its file into the place of the storage's.
    moving: AtomicBool,
    /// Held while the list of dropped transactions is written, and by a pack from when it has
    /// written it until the packed file is in place. Taken before the commit lock.
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

    /// Whether the index was read from its file rather than rebuilt.
    pub fn used_index(&self) -> bool {
        self.used_index
    }

    /// The lock that commits hold.
    pub fn commit_lock(&self) -> &Arc<CommitLock> {
        &self.commit_lock
    }

    /// The path of a file beside the storage's own.
    pub fn sibling(&self, suffix: &str) -> PathBuf {
        sibling(&self.path, suffix)
    }

    /// How many objects there are.
    pub fn len(&self) -> StorageResult<usize> {
        Ok(self.read()?.index.len())
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> StorageResult<bool> {
        Ok(self.read()?.index.is_empty())
    }

    /// The file's committed length in bytes; it can be asked for when the storage is closed.
    pub fn size(&self) -> u64 {
        self.state.read().end
    }

    /// The last finished transaction, zero if there is none.
    pub fn last_transaction(&self) -> StorageResult<Tid> {
        Ok(self.read()?.last_tid)
    }

    /// The last finished transaction, not waiting for one that is being finished; also of
    /// a closed or failed storage.
    pub fn last_finished(&self) -> Tid {
        self.state.read().last_tid
    }

    /// The file as it is committed at this moment.
    pub fn snapshot(&self) -> StorageResult<Snapshot> {
        Ok(self.read()?.snapshot())
    }

    /// A copy of the index as it is at this moment.
    pub fn index(&self) -> StorageResult<Index> {
        Ok(self.read()?.index.clone())
    }

    /// The file and the index to it at this moment, not waiting for a transaction that is
    /// being finished; of a closed storage too, whose file cannot be read.
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

    /// Take note of an object id in use.
    pub fn set_max_oid(&self, oid: Oid) {
        let mut max_oid = self.max_oid.lock();
        *max_oid = oid.max(*max_oid);
    }

    /// The right to pack, until the result is dropped.
    pub fn begin_pack(&self) -> StorageResult<Packing<'_>> {
        self.check_writable()?;
        if self.packing.swap(true, Ordering::AcqRel) {
            return Err(StorageError::AlreadyPacking);
        }
        Ok(Packing(&self.packing))
    }

    /// Whether a pack is going on.
    pub fn is_packing(&self) -> bool {
        self.packing.load(Ordering::Acquire)
    }

    /// Go on in the file that a pack has made and put in place. `file` is open for
    /// writing, `index` leads to its records, which end at `end`. The caller holds the
    /// commit lock.
    pub fn replace(&self, _guard: &CommitGuard, file: DataFile, index: Index, end: u64) {
        let mut state = self.state.write();
        state.file = file;
        state.index = index;
        state.end = end;
        state.saved_end = 0;
        state.has_unsynced_status = false;
        state.durable = (end, state.last_tid);
    }

    /// Refuse all further work: what the file holds is unknown.
    pub fn fail(&self) {
        let mut state = self.state.write();
        if state.condition == Condition::Open {
            state.condition = Condition::Failed;
        }
    }

    /// Refuse all changes from now on, in a process that was forked from the one that opened
    /// the storage. What was committed before can still be read.
    pub fn disown(&self) {
        self.inherited.store(true, Ordering::Release);
    }

    /// Check that this process opened the storage, not one that it was forked from.
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

    /// Which file is open, and whether a pack is just replacing it; `None` of a closed storage.
    pub fn held(&self) -> Option<Held> {
        // Before the file is looked up: a pack that begins meanwhile is seen the next time.
        let is_moving = self.moving.load(Ordering::Acquire);
        let file = self.state.read().file.clone();
        let identity = file.metadata().ok()?.identity;
        Some(Held {
            identity,
            is_moving,
        })
    }

    /// Close the storage; the index is saved before if that is possible. Closing it again
    /// does nothing, nor does closing it in a process that did not open it.
    ///
    /// # Errors
    /// Those of saving the index; the storage is closed all the same.
    pub fn close(&self) -> StorageResult<()> {
        if self.check_owner().is_err() {
            return Ok(());
        }
        // Held to the end: nobody saves the index when another process has the file.
        let mut count = self.saving.lock();
        let saved = match self.check_writable() {
            Ok(()) => self.save_index_holding(&mut count),
            Err(_) => Ok(()),
        };
        let mut state = self.state.write();
        state.condition = Condition::Closed;
        // Who reads still has a handle of his own; the storage's is the system's again.
        state.file = DataFile::new(Arc::new(ClosedFile), &self.path);
        saved
    }

    /// The state, for reading, when no other thread is finishing a transaction.
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

    /// As [`Self::read`], unless somebody had to be waited for.
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

/// The right to pack.
pub struct Packing<'storage>(&'storage AtomicBool);

impl Drop for Packing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The file beside the one at `path` whose name has this suffix.
pub(super) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
