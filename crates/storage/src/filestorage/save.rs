//! Saving the index in a file next to the data, so that opening does not require a scan.
//!
//! A thread that saves the index holds `saving` and uses a clone of the index, which is cheap, so
//! commits continue meanwhile. While the storage is open, a separate thread does this.

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

/// Save the index again once at least this many bytes were committed since the last time.
const CHECKPOINT: u64 = 64 * 1024 * 1024;
/// The committed bytes must also be at least this many times the bytes to write, so that saving
/// the index adds little I/O and a crash leaves little to scan.
const CHECKPOINT_FACTOR: u64 = 8;
/// The approximate number of bytes of an object in the index file.
const BYTES_PER_OBJECT: u64 = 8;
/// The number of bytes to write at once.
const BUFFER_LEN: usize = 1024 * 1024;

impl FileStorage {
    /// Write the index to its file, atomically.
    pub fn save_index(&self) -> StorageResult<()> {
        if self.options.read_only {
            return Err(StorageError::ReadOnly);
        }
        self.check_owner()?;
        self.save_index_holding(&mut self.saving.lock())
    }

    /// Like [`Self::save_index`], but only logs errors, for callers that do not depend on the
    /// index.
    pub fn try_to_save_index(&self) {
        if let Err(error) = self.save_index() {
            log_failure(&error);
        }
    }

    /// Like [`Self::save_index`], for a caller that holds `saving`, the number of saves.
    pub(super) fn save_index_holding(&self, saves: &mut u64) -> StorageResult<()> {
        let (index, end, unsynced) = {
            let state = self.read()?;
            let unsynced = state.has_unsynced_status.then(|| state.file.clone());
            (state.index.clone(), state.end, unsynced)
        };
        // Set this even if saving fails: try again only after as many bytes were committed.
        self.state.write().saved_end = end;
        if let Some(file) = unsynced {
            // A reader of the index does not check the transactions before its end, so they must
            // be durable.
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
            // The file may already be removed.
            let _ = self.vfs.remove(&temporary);
            io_error(&path, source)
        })?;
        *saves += 1;
        Ok(())
    }

    /// The number of times that the index was saved since the storage was opened.
    pub fn saves(&self) -> u64 {
        *self.saving.lock()
    }

    /// Remove the index file before it becomes wrong.
    pub fn remove_index(&self) -> StorageResult<()> {
        let _saving = self.saving.lock();
        self.remove_index_holding()
    }

    /// Like [`Self::remove_index`], for a caller that holds `saving`.
    pub(super) fn remove_index_holding(&self) -> StorageResult<()> {
        let path = sibling(&self.path, ".index");
        match self.vfs.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&path, error)),
            _ => Ok(()),
        }
    }

    /// Whether enough was committed since the index was last saved.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        let state = self.state.read();
        let to_write = state.index.len() as u64 * BYTES_PER_OBJECT;
        let grown = state.end.saturating_sub(state.saved_end);
        grown > CHECKPOINT.max(to_write.saturating_mul(CHECKPOINT_FACTOR))
    }

    /// Start saving the index in another thread if enough was committed since the last time.
    /// Errors are logged, since nothing depends on the index.
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
