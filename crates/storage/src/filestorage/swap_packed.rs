//! Packing the storage while it is used: the new file takes the old one's place.
//!
//! [`crate::pack`] writes the new file. Here it catches up with commits, at last
//! under the commit lock, and the files are renamed. There is a file at the storage's path
//! at each instant, the old or the new one, where the file system knows hard links.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::state::Snapshot;
use super::{CommitGuard, FileStorage};
use crate::LOGGER;
use crate::dropped;
use crate::error::{StorageError, StorageResult};
use crate::file::{DataFile, io_error};
use crate::index::Index;
use crate::pack::{Dropped, IsBlob, Options, Pack, Phase, Progress, References, Target};
use zrs_ids::Tid;
use zrs_vfs::{Place, place};

/// What is left to copy may be so many bytes when the commit lock is taken.
const LITTLE: u64 = 1024 * 1024;
/// How often it is tried to get there, however fast commits come.
const ROUNDS: usize = 10;

/// The same function, borrowed once more.
fn again<'a, E>(is_blob: &'a mut Option<&mut IsBlob<'_, E>>) -> Option<&'a mut IsBlob<'a, E>> {
    match is_blob {
        Some(is_blob) => Some(&mut **is_blob),
        None => None,
    }
}

impl FileStorage {
    /// Pack. The old file stays as `.old` if `keep_old`. Returns what was dropped, the
    /// blobs among it if `is_blob` is given, or `None` if there was nothing to pack.
    ///
    /// # Errors
    /// [`StorageError::AlreadyPacking`], and those of [`Pack::start`]. The storage goes on
    /// with the file it had, and what was written is removed; only if the new file is in
    /// place and its name cannot be made durable, further work is refused.
    pub fn pack<E: From<StorageError>>(
        &self,
        options: &Options,
        keep_old: bool,
        references: &mut References<'_, E>,
        mut is_blob: Option<&mut IsBlob<'_, E>>,
    ) -> Result<Option<Dropped>, E> {
        let _packing = self.begin_pack()?;
        self.check_place()?;
        self.pack_progress.begin(Phase::Reading, 0);
        self.remove_old()?;
        let snapshot = self.snapshot()?;
        let path: Arc<Path> = self.sibling(".pack").into();
        let (file, end) = (&snapshot.file, snapshot.end);
        let target = Target {
            vfs: &self.vfs,
            path: &path,
            progress: &self.pack_progress,
        };
        let started = Pack::start(target, file, end, options, references, again(&mut is_blob))?;
        let Some(mut pack) = started else {
            return Ok(None);
        };
        let mut copied = end;
        let mut listed = None;
        // A list that is written by others is of the file as it was.
        let _listing = self.listing.lock();
        let guard = loop {
            for _ in 0..ROUNDS {
                let end = self.size();
                let behind = end - copied;
                // Also for a little, since under the lock it may turn out to need more.
                pack.catch_up(end, references, again(&mut is_blob))?;
                copied = end;
                if behind < LITTLE {
                    break;
                }
            }
            // A list is bound to what was copied.
            if listed != Some(pack.recopies()) {
                listed = Some(pack.recopies());
                self.list_dropped(&snapshot, &path, options.time);
            }
            let guard = self.commit_lock.acquire();
            if pack.try_catch_up(self.size(), references)? {
                break guard;
            }
        };
        let packed = pack.finish()?;
        self.use_packed(&guard, packed.index, packed.end, keep_old)?;
        drop(guard);
        self.try_to_save_index();
        Ok(Some(packed.dropped))
    }

    /// List what the file at `packed` lacks, before it takes the storage's place.
    ///
    /// The pack goes on if that fails; then it is not known later what it has dropped.
    fn list_dropped(&self, source: &Snapshot, packed: &Arc<Path>, time: Tid) {
        let listed = DataFile::open(&*self.vfs, packed).and_then(|packed| {
            let (vfs, path) = (&*self.vfs, &*self.path);
            dropped::record(vfs, path, &source.file, source.end, &packed, time)
        });
        if let Err(error) = listed {
            log::warn!(
                target: LOGGER,
                "cannot list the transactions that the pack drops: {error}"
            );
        }
    }

    /// Calls `write`, which writes the list of dropped transactions, with the file and with
    /// where its durable transactions end; `None` if a pack is writing that list.
    ///
    /// # Errors
    /// Those of a storage that cannot be read, and those of `write`.
    pub fn write_list<T>(
        &self,
        write: impl FnOnce(&DataFile, u64, Tid) -> StorageResult<T>,
    ) -> StorageResult<Option<T>> {
        let Some(_listing) = self.listing.try_lock() else {
            return Ok(None);
        };
        let (file, (end, tid)) = {
            let state = self.read()?;
            (state.file.clone(), state.durable)
        };
        write(&file, end, tid).map(Some)
    }

    /// How far the present pack has come, or the last one if there is none.
    pub fn pack_progress(&self) -> &Progress {
        &self.pack_progress
    }

    /// Remove the old file of an earlier pack.
    pub fn remove_old(&self) -> StorageResult<()> {
        let old = self.sibling(".old");
        match self.vfs.remove(&old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&old, error)),
            _ => Ok(()),
        }
    }

    /// Put the file with the suffix `.pack` into the place of the storage's, and go on in
    /// it. Its objects are those of `index`, and it ends at `end`.
    pub fn use_packed(
        &self,
        guard: &CommitGuard,
        index: Index,
        end: u64,
        keep_old: bool,
    ) -> StorageResult<()> {
        let packed = self.sibling(".pack");
        let saving = self.saving.lock();
        // Until the directory is synced, a power cut can bring the old file back. Everything
        // visible must be durable in both files.
        let placed = self
            .sync_status()
            .and_then(|()| self.check_place())
            .and_then(|()| {
                self.moving.store(true, Ordering::Release);
                self.put_in_place(&packed, keep_old)
            });
        let file = match placed {
            Ok(file) => file,
            Err(error) => {
                // Nobody will look at it; it may be gone already.
                let _ = self.vfs.remove(&packed);
                self.moving.store(false, Ordering::Release);
                return Err(error);
            }
        };
        self.replace(guard, file, index, end);
        self.moving.store(false, Ordering::Release);
        drop(saving);
        let directory = self.path.parent().unwrap_or(Path::new(""));
        self.vfs.sync_directory(directory).map_err(|source| {
            // A power cut could bring the old file back, without later commits.
            self.fail();
            io_error(directory, source)
        })
    }

    /// Check that the path leads to the file that is open, unless a pack is replacing it.
    ///
    /// # Errors
    /// [`StorageError::Displaced`], and the system's.
    pub fn check_place(&self) -> StorageResult<()> {
        let place = place(&*self.vfs, &self.path, &|| self.held());
        match place.map_err(|source| io_error(&self.path, source))? {
            Place::Elsewhere => Err(StorageError::Displaced {
                path: self.path.to_path_buf(),
            }),
            Place::Here | Place::Moving => Ok(()),
        }
    }

    /// Called by who holds `saving`.
    fn put_in_place(&self, packed: &Path, keep_old: bool) -> StorageResult<DataFile> {
        let error = |source| io_error(packed, source);
        let handle = self.vfs.open_write(packed).map_err(error)?;
        handle.sync_data().map_err(error)?;
        // After a crash it would be of another file.
        self.remove_index_holding()?;
        let old = self.sibling(".old");
        let moved_away = keep_old && self.keep_as(&old)?;
        if let Err(source) = self.vfs.rename(packed, &self.path) {
            if moved_away {
                let back = self.vfs.rename(&old, &self.path);
                back.map_err(|source| io_error(&self.path, source))?;
            }
            return Err(error(source));
        }
        Ok(DataFile::new(handle, &self.path))
    }

    /// Give the storage's file the path `old`; returns whether it had to lose its own.
    fn keep_as(&self, old: &Path) -> StorageResult<bool> {
        if self.vfs.link(&self.path, old).is_ok() {
            return Ok(false);
        }
        self.vfs
            .rename(&self.path, old)
            .map_err(|source| io_error(old, source))?;
        Ok(true)
    }
}
