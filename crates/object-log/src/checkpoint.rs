//! Saving the index next to the log.

use std::sync::Arc;

use super::error::{LOGGER, LogError, LogResult, io_error};
use super::index_file::{self, Saving};
use super::log::Log;
use super::paths::sibling;

/// The index is saved again when the log has grown by more than this many bytes and by more
/// than a quarter.
const CHECKPOINT: u64 = 64 << 20;

impl Log {
    /// Save the index next to the log, after making the log durable.
    pub fn save_index(&self) -> LogResult<()> {
        self.save_index_in(&mut self.saving.lock())
    }

    /// Save the index if the log has grown enough and no other thread is saving it. Commits do
    /// not depend on the index, so a failure is only logged.
    pub fn checkpoint(&self) {
        let Some(mut saving) = self.saving.try_lock() else {
            return;
        };
        let Ok((end, saved)) = self.view().map(|view| (view.index.end, view.saved)) else {
            return;
        };
        let grown = end.saturating_sub(saved.max(saving.unsaved));
        if grown <= CHECKPOINT || grown <= saved / 4 {
            return;
        }
        if let Err(error) = self.save_index_in(&mut saving) {
            saving.unsaved = end;
            self.warn_of_index(&error);
        }
    }

    pub(super) fn warn_of_index(&self, error: &LogError) {
        log::warn!(
            target: LOGGER,
            "{}: the index could not be saved, so opening the database will take longer: {error}",
            self.path.display()
        );
    }

    fn save_index_in(&self, saving: &mut Saving) -> LogResult<()> {
        self.check_writable()?;
        let (index, identity, syncer) = {
            let view = self.view()?;
            if !view.damaged.is_empty() || view.index.end == view.saved || view.index.last == 0 {
                return Ok(());
            }
            let syncer = Arc::clone(&view.syncer);
            (view.index.clone(), view.identity, syncer)
        };
        self.or_fail(syncer.wait(index.end))?;
        saving.attempts += 1;
        self.write_index(
            &index_file::to_bytes(&index, &identity),
            &identity,
            saving.attempts,
        )?;
        let mut view = self.writable()?;
        // A compaction may have replaced the file in the meantime.
        if view.identity == identity {
            view.durable = view.durable.max(index.end);
            view.saved = index.end;
        }
        Ok(())
    }

    /// Replace the index file, unless the log was replaced by another file.
    fn write_index(&self, bytes: &[u8], identity: &[u8; 16], attempt: u64) -> LogResult<()> {
        let path = sibling(&self.path, ".index");
        let unique = u128::from_be_bytes(self.options.identity);
        let temporary = sibling(&path, &format!("-{unique:032x}-{attempt}"));
        let write = || {
            let file = self.vfs.create_like(&temporary, &self.path)?;
            file.write_all_at(bytes, 0)?;
            file.sync_data()
        };
        let written = write().map_err(io_error(&temporary)).and_then(|()| {
            let view = self.view()?;
            if view.identity != *identity || self.is_replaced(&view) {
                return self.vfs.remove(&temporary).map_err(io_error(&temporary));
            }
            let renamed = self.vfs.rename(&temporary, &path);
            renamed.map_err(io_error(&path))
        });
        if written.is_err() {
            // Report the first error, not one of removing the file.
            drop(self.vfs.remove(&temporary));
        }
        written
    }
}
