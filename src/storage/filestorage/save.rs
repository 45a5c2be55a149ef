//! The index in a file beside the data, so that opening needs no scan.

use super::{FileStorage, sibling};
use crate::error::{StorageError, StorageResult};
use crate::storage::file::io_error;
use crate::storage::index_file;

/// The index is saved anew when the file has grown by this many bytes and a quarter.
const CHECKPOINT: u64 = 64 * 1024 * 1024;

impl FileStorage {
    /// Write the index to its file, at once or not at all.
    pub fn save_index(&self) -> StorageResult<()> {
        if self.options.read_only {
            return Err(StorageError::ReadOnly);
        }
        let mut saves = self.saving.lock();
        let (index, end) = {
            let state = self.read()?;
            (state.index.clone(), state.end)
        };
        let path = sibling(&self.path, ".index");
        let temporary = sibling(&path, ".index_tmp");
        let bytes = index_file::write_index(end, &index);
        let write = || {
            let file = self.vfs.create(&temporary)?;
            file.write_all_at(&bytes, 0)?;
            file.sync_data()?;
            self.vfs.rename(&temporary, &path)
        };
        write().map_err(|source| io_error(&path, source))?;
        self.state.write().saved_end = end;
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
        let path = sibling(&self.path, ".index");
        match self.vfs.remove(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(io_error(&path, error))
            }
            _ => Ok(()),
        }
    }

    /// Whether so much was committed since the index was saved that it is worth saving.
    pub fn wants_checkpoint(&self) -> bool {
        let state = self.state.read();
        let grown = state.end.saturating_sub(state.saved_end);
        grown > CHECKPOINT && grown > state.saved_end / 4
    }

    /// Save the index if it is worth it; errors are logged, for nothing depends on it.
    pub fn checkpoint(&self) {
        if !self.wants_checkpoint() {
            return;
        }
        match self.save_index() {
            Ok(()) | Err(StorageError::Closed) => {}
            Err(error) => {
                log::warn!(target: super::open::LOGGER, "cannot save the index: {error}");
            }
        }
    }
}
