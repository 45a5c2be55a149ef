//! An open `Data.fs`: a file that knows its path, so that errors can tell it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{StorageError, StorageResult};
use crate::format::{Corruption, MAGIC, Magic};
use zrs_vfs::{Metadata, Vfs, VfsFile};

/// Records longer than this are compared with the file's length before there is memory for them.
const LARGE: usize = 1 << 24;

/// An open `Data.fs`, cheap to clone; clones share the handle.
#[derive(Clone)]
pub struct DataFile {
    opened: Arc<Opened>,
    /// Whether the disk is waited for.
    waits: bool,
}

struct Opened {
    file: Arc<dyn VfsFile>,
    path: Arc<Path>,
}

impl DataFile {
    /// Open the file at `path` for reading.
    pub fn open(vfs: &dyn Vfs, path: &Arc<Path>) -> StorageResult<Self> {
        match vfs.open_read(path) {
            Ok(file) => Ok(Self::new(file, path)),
            Err(source) => Err(io_error(path, source)),
        }
    }

    /// A file that is open already.
    pub fn new(file: Arc<dyn VfsFile>, path: &Arc<Path>) -> Self {
        let path = Arc::clone(path);
        Self {
            opened: Arc::new(Opened { file, path }),
            waits: true,
        }
    }

    /// The same file, of which only what is in memory is read: other reads fail with
    /// [`io::ErrorKind::WouldBlock`].
    pub(super) fn only_cached(self) -> Self {
        let waits = false;
        Self { waits, ..self }
    }

    /// The path under which the file was opened.
    pub fn path(&self) -> &Arc<Path> {
        &self.opened.path
    }

    /// Whether both share one handle.
    pub fn is_same_handle(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.opened.file, &other.opened.file)
    }

    /// The handle, for who writes to the file.
    pub(super) fn handle(&self) -> &Arc<dyn VfsFile> {
        &self.opened.file
    }

    /// Which file it is and how long it is at this moment.
    pub fn metadata(&self) -> StorageResult<Metadata> {
        self.opened
            .file
            .metadata()
            .map_err(|source| self.io_error(source))
    }

    /// Judge the magic: `false` if the file is too new to have one.
    ///
    /// # Errors
    /// [`StorageError::UnknownMagic`] if it is no `Data.fs`.
    pub fn has_magic(&self) -> StorageResult<bool> {
        let mut bytes = [0; MAGIC.len()];
        let count = self.read_at_most(&mut bytes, 0)?;
        match Magic::of(&bytes[..count]) {
            Magic::Known => Ok(true),
            Magic::Partial => Ok(false),
            Magic::Unknown => Err(StorageError::UnknownMagic {
                path: self.opened.path.to_path_buf(),
                found: bytes[..count].to_vec(),
            }),
        }
    }

    /// Fill `buffer` from `position`, or as much as the file has; returns how many bytes.
    pub(super) fn read_at_most(&self, buffer: &mut [u8], position: u64) -> StorageResult<usize> {
        // No file has bytes there, and the system has no numbers for such places.
        if i64::try_from(position.saturating_add(buffer.len() as u64)).is_err() {
            return Ok(0);
        }
        let result = if self.waits {
            self.opened.file.read_full_at(buffer, position)
        } else {
            self.opened.file.read_full_cached_at(buffer, position)
        };
        result.map_err(|source| self.io_error(source))
    }

    /// The `N` bytes at `position`, or `None` if the file ends before.
    pub(super) fn read_array<const N: usize>(
        &self,
        position: u64,
    ) -> StorageResult<Option<[u8; N]>> {
        let mut bytes = [0; N];
        let count = self.read_at_most(&mut bytes, position)?;
        Ok((count == N).then_some(bytes))
    }

    /// The `len` bytes at `position`, which the caller knows to be within the file.
    pub(super) fn read_bytes(&self, position: u64, len: usize) -> StorageResult<Bytes> {
        self.read_vec(position, len).map(Bytes::from)
    }

    /// As [`Self::read_bytes`].
    pub(super) fn read_vec(&self, position: u64, len: usize) -> StorageResult<Vec<u8>> {
        if len > LARGE && self.metadata()?.len.saturating_sub(position) < len as u64 {
            return Err(self.truncated(position)?);
        }
        let mut bytes = Vec::new();
        if let Err(error) = bytes.try_reserve_exact(len) {
            let source = io::Error::new(io::ErrorKind::OutOfMemory, error);
            return Err(self.io_error(source));
        }
        bytes.resize(len, 0);
        if self.read_at_most(&mut bytes, position)? < len {
            return Err(self.truncated(position)?);
        }
        Ok(bytes)
    }

    /// The error for a broken structure at `position`.
    pub(super) fn corrupt(&self, position: u64, corruption: Corruption) -> StorageError {
        let path = self.opened.path.to_path_buf();
        StorageError::Corrupt {
            path,
            position,
            corruption,
        }
    }

    /// The error for committed bytes at `position` that are gone.
    pub(super) fn truncated(&self, position: u64) -> StorageResult<StorageError> {
        let length = self.metadata()?.len;
        Ok(self.corrupt(position, Corruption::Truncated { length }))
    }

    pub(super) fn io_error(&self, source: io::Error) -> StorageError {
        io_error(&self.opened.path, source)
    }
}

/// The error for what the operating system refused.
pub(super) fn io_error(path: &Path, source: io::Error) -> StorageError {
    let path = path.to_path_buf();
    StorageError::Io { path, source }
}
