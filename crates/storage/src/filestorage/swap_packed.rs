//! Packing a storage that is in use, and replacing its file.
//!
//! [`crate::pack`] writes the new file. This module lets it catch up with commits, at the end
//! under the commit lock, and renames the files. On file systems with hard links, the storage's
//! path always leads to a file, either the old or the new one.

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

/// Take the commit lock once at most this many bytes remain to be copied.
const LITTLE: u64 = 1024 * 1024;
/// The maximum number of attempts to get there, however fast other threads commit.
const ROUNDS: usize = 10;

/// Reborrows the optional function.
fn again<'a, E>(is_blob: &'a mut Option<&mut IsBlob<'_, E>>) -> Option<&'a mut IsBlob<'a, E>> {
    match is_blob {
        Some(is_blob) => Some(&mut **is_blob),
        None => None,
    }
}

impl FileStorage {
    /// Pack. With `keep_old`, the old file is kept with the suffix `.old`. Returns what was
    /// dropped, including blobs if `is_blob` is given, or `None` if nothing can be packed.
    ///
    /// # Errors
    /// [`StorageError::AlreadyPacking`], and those of [`Pack::start`]. The storage continues with
    /// its old file, and the new one is removed. Only if the new file is in place and its name
    /// cannot be made durable, the storage refuses further operations.
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
        // A list that a secondary writes must match the old file.
        let _listing = self.listing.lock();
        let guard = loop {
            for _ in 0..ROUNDS {
                let end = self.size();
                let behind = end - copied;
                // Catch up even if little is left: without the lock, because all may have to be
                // copied again.
                pack.catch_up(end, references, again(&mut is_blob))?;
                copied = end;
                if behind < LITTLE {
                    break;
                }
            }
            // The list belongs to one packed file: write it again after everything was copied
            // again.
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

    /// Write the list of what the file at `packed` lacks, before it replaces the storage's file.
    ///
    /// If that fails, the pack continues; it is then unknown later which transactions it has
    /// dropped.
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

    /// Calls `write`, which writes the list of dropped transactions, with the file and the end of
    /// its durable transactions; `None` if a pack is writing that list.
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

    /// The progress of the running pack, or of the last one.
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

    /// Replace the storage's file with the one with the suffix `.pack`, and continue in it. Its
    /// index is `index`, and it ends at `end`.
    pub fn use_packed(
        &self,
        guard: &CommitGuard,
        index: Index,
        end: u64,
        keep_old: bool,
    ) -> StorageResult<()> {
        let packed = self.sibling(".pack");
        let saving = self.saving.lock();
        // Until the directory is synced, a power failure can restore the old file. So everything
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
                // The file is no longer used; it may already be removed.
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
            // A power failure could restore the old file, without later commits.
            self.fail();
            io_error(directory, source)
        })
    }

    /// Check that the path leads to the open file, unless a pack is replacing it.
    ///
    /// # Errors
    /// [`StorageError::Displaced`], and those of the system.
    pub fn check_place(&self) -> StorageResult<()> {
        let place = place(&*self.vfs, &self.path, &|| self.held());
        match place.map_err(|source| io_error(&self.path, source))? {
            Place::Elsewhere => Err(StorageError::Displaced {
                path: self.path.to_path_buf(),
            }),
            Place::Here | Place::Moving => Ok(()),
        }
    }

    /// Called by a thread that holds `saving`.
    fn put_in_place(&self, packed: &Path, keep_old: bool) -> StorageResult<DataFile> {
        let error = |source| io_error(packed, source);
        let handle = self.vfs.open_write(packed).map_err(error)?;
        handle.sync_data().map_err(error)?;
        // After a crash, the index would belong to another file.
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

    /// Keep the storage's file at the path `old`; returns whether its own path had to be removed.
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
