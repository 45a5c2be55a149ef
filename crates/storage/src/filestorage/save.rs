//! The index in a file beside the data, so that opening needs no scan.
//!
//! Who saves it holds `saving` and takes a clone of the index, which costs little: commits
//! go on meanwhile. While the storage is used, that is done on a thread of its own.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use super::{FileStorage, sibling};
use crate::LOGGER;
use crate::error::{StorageError, StorageResult};
use crate::file::io_error;
use crate::index::Index;
use crate::index_file::index_file;
use zrs_vfs::VfsFile;

/// The index is saved anew when so many bytes were committed since it was saved last.
const CHECKPOINT: u64 = 64 * 1024 * 1024;
/// And when that is so many times what is to be written: little is written for the index
/// beside what is written anyway, and a crash leaves little to be scanned.
const CHECKPOINT_FACTOR: u64 = 8;
/// About what an object takes in the index's file.
const BYTES_PER_OBJECT: u64 = 8;
/// How much is written at once.
const BUFFER_LEN: usize = 1024 * 1024;

impl FileStorage {
    /// Write the index to its file, at once or not at all.
    pub fn save_index(&self) -> StorageResult<()> {
        if self.options.read_only {
            return Err(StorageError::ReadOnly);
        }
        self.check_owner()?;
        self.save_index_holding(&mut self.saving.lock())
    }

    /// The same where nothing depends on it: errors are logged.
    pub fn try_to_save_index(&self) {
        if let Err(error) = self.save_index() {
            log_failure(&error);
        }
    }

    /// The same for who holds `saving`, the number of saves.
    pub(super) fn save_index_holding(&self, saves: &mut u64) -> StorageResult<()> {
        let (index, end, unsynced) = {
            let state = self.read()?;
            let unsynced = state.has_unsynced_status.then(|| state.file.clone());
            (state.index.clone(), state.end, unsynced)
        };
        // Also if that fails: the next attempt comes after as much again was committed.
        self.state.write().saved_end = end;
        if let Some(file) = unsynced {
            // Who believes the index does not look at the transactions before its end.
            self.sync(&file)?;
        }
        let path = sibling(&self.path, ".index");
        let temporary = sibling(&path, ".index_tmp");
        let write = || {
            let file = self.vfs.create_like(&temporary, &self.path)?;
            write_pieces(&*file, end, &index)?;
            file.sync_data()?;
            self.vfs.rename(&temporary, &path)?;
            self.vfs
                .sync_directory(path.parent().unwrap_or(Path::new("")))
        };
        write().map_err(|source| {
            // It may be gone already.
            let _ = self.vfs.remove(&temporary);
            io_error(&path, source)
        })?;
        *saves += 1;
        Ok(())
    }

    /// How often the index was saved since the storage was opened.
    pub fn saves(&self) -> u64 {
        *self.saving.lock()
    }

    /// Remove the index's file, because it will be wrong.
    pub fn remove_index(&self) -> StorageResult<()> {
        let _saving = self.saving.lock();
        self.remove_index_holding()
    }

    /// The same for who holds `saving`.
    pub(super) fn remove_index_holding(&self) -> StorageResult<()> {
        let path = sibling(&self.path, ".index");
        match self.vfs.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&path, error)),
            _ => Ok(()),
        }
    }

    /// Whether so much was committed since the index was saved that it is worth saving.
    pub fn wants_checkpoint(&self) -> bool {
        let state = self.state.read();
        let to_write = state.index.len() as u64 * BYTES_PER_OBJECT;
        let grown = state.end.saturating_sub(state.saved_end);
        grown > CHECKPOINT.max(to_write.saturating_mul(CHECKPOINT_FACTOR))
    }

    /// Begin to save the index if it is worth it, and do not wait for that. Errors are
    /// logged, for nothing depends on it.
    pub fn checkpoint(self: &Arc<Self>) {
        if !self.wants_checkpoint() || self.checkpointing.swap(true, Ordering::AcqRel) {
            return;
        }
        let storage = Arc::clone(self);
        let spawned = thread::Builder::new()
            .name("zrs-index".to_owned())
            .spawn(move || {
                let saved = storage.save_index();
                storage.checkpointing.store(false, Ordering::Release);
                match saved {
                    Ok(()) | Err(StorageError::Closed) => {}
                    Err(error) => log_failure(&error),
                }
            });
        if let Err(source) = spawned {
            self.checkpointing.store(false, Ordering::Release);
            log_failure(&io_error(&self.path, source));
        }
    }
}

fn log_failure(error: &StorageError) {
    log::warn!(target: LOGGER, "cannot save the index: {error}");
}

fn write_pieces(file: &dyn VfsFile, end: u64, index: &Index) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_LEN);
    let mut written = 0;
    for piece in index_file(end, index) {
        if buffer.len() + piece.len() > BUFFER_LEN {
            file.write_all_at(&buffer, written)?;
            written += buffer.len() as u64;
            buffer.clear();
        }
        buffer.extend_from_slice(&piece);
    }
    file.write_all_at(&buffer, written)
}
