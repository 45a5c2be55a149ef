//! The file that a storage has open, for readers of the file that its path leads to.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::file::{DataFile, io_error};
use super::filestorage::FileStorage;
use crate::error::{StorageError, StorageResult};
use zrs_vfs::{Held, Place, Vfs, place};

/// Which file a storage has open at this moment.
#[derive(Clone)]
pub struct OpenFile(Arc<dyn Fn() -> Option<Held> + Send + Sync>);

impl OpenFile {
    /// That of this storage, while it exists.
    pub fn new(storage: &Arc<FileStorage>) -> Self {
        let storage = Arc::downgrade(storage);
        Self::from_fn(move || storage.upgrade()?.held())
    }

    /// That of a storage which a function asks: `None` if it has no file open.
    pub fn from_fn(held: impl Fn() -> Option<Held> + Send + Sync + 'static) -> Self {
        Self(Arc::new(held))
    }

    /// Whether the storage's file is at `path`; `false` while the storage replaces it.
    ///
    /// # Errors
    /// [`StorageError::Displaced`], and the system's.
    pub fn is_at(&self, vfs: &dyn Vfs, path: &Path) -> StorageResult<bool> {
        match place(vfs, path, &*self.0).map_err(|source| io_error(path, source))? {
            Place::Here => Ok(true),
            Place::Moving => Ok(false),
            Place::Elsewhere => Err(StorageError::Displaced {
                path: path.to_path_buf(),
            }),
        }
    }

    /// Whether `file`, which its path led to just now, is the storage's; `false` if it is to
    /// be opened again.
    ///
    /// # Errors
    /// As of [`Self::is_at`].
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
