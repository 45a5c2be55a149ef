//! An open log.
//!
//! Lock order, see docs/locking.md: the commit lock (of the threads, then of the file), the
//! view, `writing`, the others. `saving` is taken before the view. A reader takes the view's
//! lock only to look up a position; it reads the file without a lock.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{
    MappedRwLockReadGuard, MappedRwLockWriteGuard, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use super::changes::Changes;
use super::error::{Damage, LogError, LogResult, io_error};
use super::index_file::Saving;
use super::transaction_writer::TransactionWriter;
use super::view::View;
use zrs_ids::Oid;
use zrs_vfs::{CommitGuard, CommitLock, Vfs, VfsFile};

/// When a commit is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it returns. Threads that commit at the same time share a sync.
    #[default]
    Commit,
    /// When the system writes it. A power failure may lose the last transactions.
    None,
}

/// How to open a log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Open the file for reading only.
    pub read_only: bool,
    /// Fail if the file does not exist, rather than creating it.
    pub existing: bool,
    /// When a commit is durable.
    pub durability: Durability,
    /// Random bytes that distinguish a new file from others.
    pub identity: [u8; 16],
}

/// The commit lock: of the file, and of the threads of this process.
pub(super) struct Locked {
    pub(super) file: Arc<dyn VfsFile>,
    pub(super) _threads: CommitGuard,
}

/// An open log. Any number of threads can read it. Only one thread, among all processes that
/// have it open, writes a transaction.
pub struct Log {
    pub(super) vfs: Arc<dyn Vfs>,
    pub(super) path: PathBuf,
    pub(super) options: Options,
    /// `None` once it is closed.
    pub(super) state: RwLock<Option<View>>,
    pub(super) threads: Arc<CommitLock>,
    /// The transaction that is being written.
    pub(super) writing: Mutex<Option<TransactionWriter>>,
    /// Both locks, while they are held for it.
    pub(super) locked: Mutex<Option<Locked>>,
    /// Changes read during another operation, not yet reported.
    pub(super) unreported: Mutex<Changes>,
    /// Whether the contents of the file are unknown after an error.
    pub(super) failed: AtomicBool,
    pub(super) saving: Mutex<Saving>,
}

impl Log {
    pub(super) fn with_view(vfs: Arc<dyn Vfs>, path: &Path, options: Options, view: View) -> Self {
        Self {
            vfs,
            path: path.to_owned(),
            options,
            state: RwLock::new(Some(view)),
            threads: Arc::default(),
            writing: Mutex::new(None),
            locked: Mutex::new(None),
            unreported: Mutex::default(),
            failed: AtomicBool::new(false),
            saving: Mutex::default(),
        }
    }

    /// The path of the file: absolute, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of objects.
    pub fn len(&self) -> LogResult<usize> {
        Ok(self.view()?.index.objects.len())
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> LogResult<bool> {
        Ok(self.len()? == 0)
    }

    /// The number of the last transaction, which is also the count of transactions.
    pub fn number(&self) -> LogResult<u64> {
        Ok(self.view()?.index.number)
    }

    /// The root object, if there is one.
    pub fn root(&self) -> LogResult<Option<Oid>> {
        Ok(self.view()?.index.root)
    }

    /// The position at which the last transaction ends.
    pub fn end(&self) -> LogResult<u64> {
        Ok(self.view()?.index.end)
    }

    /// The damage found so far, with positions and, if known, transactions.
    pub fn damaged(&self) -> LogResult<Vec<LogError>> {
        let view = self.view()?;
        Ok(self.damaged_in(&view))
    }

    pub(super) fn damaged_in(&self, view: &View) -> Vec<LogError> {
        let damaged = view.damaged.iter();
        let damaged = damaged.map(|at| self.corrupt(at.position, at.transaction, at.damage));
        damaged.collect()
    }

    pub(super) fn view(&self) -> LogResult<MappedRwLockReadGuard<'_, View>> {
        let view = RwLockReadGuard::try_map(self.state.read(), Option::as_ref);
        view.map_err(|_closed| LogError::Closed)
    }

    pub(super) fn writable(&self) -> LogResult<MappedRwLockWriteGuard<'_, View>> {
        let view = RwLockWriteGuard::try_map(self.state.write(), Option::as_mut);
        view.map_err(|_closed| LogError::Closed)
    }

    /// A function that makes a [`LogError::Io`] for the log's file.
    pub(super) fn io(&self) -> impl Fn(io::Error) -> LogError + use<> {
        io_error(&self.path)
    }

    /// Return the result of an operation that leaves the file in an unknown state if it fails;
    /// the log then refuses to write.
    pub(super) fn or_fail<T>(&self, result: io::Result<T>) -> LogResult<T> {
        if result.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        result.map_err(self.io())
    }

    pub(super) fn check_writable(&self) -> LogResult<()> {
        if self.options.read_only {
            return Err(LogError::ReadOnly(self.path.clone()));
        }
        if self.failed.load(Ordering::Acquire) {
            return Err(LogError::Failed(self.path.clone()));
        }
        Ok(())
    }

    pub(super) fn corrupt(
        &self,
        position: u64,
        transaction: Option<u64>,
        damage: Damage,
    ) -> LogError {
        LogError::Corrupt {
            path: self.path.clone(),
            position,
            transaction,
            damage,
        }
    }
}
