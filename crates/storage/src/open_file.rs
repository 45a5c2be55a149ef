//! The file that a storage has open, for readers of the file at the storage's path.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::file::{DataFile, io_error};
use super::filestorage::FileStorage;
use crate::error::{StorageError, StorageResult};
use zrs_vfs::{Held, Place, Vfs, place};

/// Returns which file a storage has open.
#[derive(Clone)]
pub struct OpenFile(Arc<dyn Fn() -> Option<Held> + Send + Sync>);

impl OpenFile {
    /// For this storage, while it exists.
    pub fn new(storage: &Arc<FileStorage>) -> Self {
        let storage = Arc::downgrade(storage);
        Self::from_fn(move || storage.upgrade()?.held())
    }

    /// For a storage that `held` queries: `None` if it has no file open.
    pub fn from_fn(held: impl Fn() -> Option<Held> + Send + Sync + 'static) -> Self {
        Self(Arc::new(held))
    }

    /// Whether the storage's file is at `path`; `false` while the storage is replacing it.
    ///
    /// # Errors
    /// [`StorageError::Displaced`], and those of the system.
    pub fn is_at(&self, vfs: &dyn Vfs, path: &Path) -> StorageResult<bool> {
        match place(vfs, path, &*self.0).map_err(|source| io_error(path, source))? {
            Place::Here => Ok(true),
            Place::Moving => Ok(false),
            Place::Elsewhere => Err(StorageError::Displaced {
                path: path.to_path_buf(),
            }),
        }
    }

    /// Whether `file`, opened at the storage's path a moment ago, is the storage's file; `false`
    /// if the path must be opened again.
    ///
    /// # Errors
    /// Like those of [`Self::is_at`].
    pub fn is(&self, vfs: &dyn Vfs, file: &DataFile) -> StorageResult<bool> {
        let Some(held) = (self.0)() else {
            return Ok(true);
        };
        if file.metadata()?.identity == held.identity {
            return Ok(true);
        }
        self.is_at(vfs, file.path())?;
        Ok(false)
    }
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OpenFile").finish_non_exhaustive()
    }
}
