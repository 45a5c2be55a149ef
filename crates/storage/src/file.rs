//! An open `Data.fs` with its path, for error messages.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{StorageError, StorageResult};
use crate::format::{Corruption, MAGIC, Magic};
use zrs_vfs::{Metadata, Vfs, VfsFile};

/// Compare records longer than this with the file's length before allocating memory for them.
const LARGE: usize = 1 << 24;

/// An open `Data.fs`, cheap to clone; clones share the handle.
#[derive(Clone)]
pub struct DataFile {
    opened: Arc<Opened>,
    /// Whether reads may wait for the disk.
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

    /// A file that is already open.
    pub fn new(file: Arc<dyn VfsFile>, path: &Arc<Path>) -> Self {
        let path = Arc::clone(path);
        Self {
            opened: Arc::new(Opened { file, path }),
            waits: true,
        }
    }

    /// The same file, limited to bytes that are in memory: other reads fail with
    /// [`io::ErrorKind::WouldBlock`].
    pub(super) fn only_cached(self) -> Self {
        let waits = false;
        Self { waits, ..self }
    }

    /// The path with which the file was opened.
    pub fn path(&self) -> &Arc<Path> {
        &self.opened.path
    }

    /// Whether both share one handle.
    pub(crate) fn is_same_handle(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.opened.file, &other.opened.file)
    }

    /// The handle, for writing.
    pub(super) fn handle(&self) -> &Arc<dyn VfsFile> {
        &self.opened.file
    }

    /// The file's identity and its current length.
    pub fn metadata(&self) -> StorageResult<Metadata> {
        self.opened
            .file
            .metadata()
            .map_err(|source| self.io_error(source))
    }

    /// Check the magic; `false` if the file is too short to have one.
    ///
    /// # Errors
    /// [`StorageError::UnknownMagic`] if the file is not a `Data.fs`.
    pub(crate) fn has_magic(&self) -> StorageResult<bool> {
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

    /// Fill `buffer` from `position` up to the end of the file; returns the number of bytes.
    pub(super) fn read_at_most(&self, buffer: &mut [u8], position: u64) -> StorageResult<usize> {
        // No file is that long, and system calls do not accept such offsets.
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

    /// The `len` bytes at `position`; the caller ensures that they are within the file.
    pub(super) fn read_bytes(&self, position: u64, len: usize) -> StorageResult<Bytes> {
        self.read_vec(position, len).map(Bytes::from)
    }

    /// Like [`Self::read_bytes`].
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

    /// The error for a damaged structure at `position`.
    pub(super) fn corrupt(&self, position: u64, corruption: Corruption) -> StorageError {
        let path = self.opened.path.to_path_buf();
        StorageError::Corrupt {
            path,
            position,
            corruption,
        }
    }

    /// The error for committed bytes at `position` that no longer exist.
    pub(super) fn truncated(&self, position: u64) -> StorageResult<StorageError> {
        let length = self.metadata()?.len;
        Ok(self.corrupt(position, Corruption::Truncated { length }))
    }

    pub(super) fn io_error(&self, source: io::Error) -> StorageError {
        io_error(&self.opened.path, source)
    }
}

/// The error for a failed system call.
pub(super) fn io_error(path: &Path, source: io::Error) -> StorageError {
    let path = path.to_path_buf();
    StorageError::Io { path, source }
}
