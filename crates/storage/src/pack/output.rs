//! The file that a pack writes: sequentially, through a buffer, with lengths filled in later.

use std::path::Path;
use std::sync::Arc;

use crate::error::StorageResult;
use crate::file::{DataFile, io_error};
use crate::reader::Reader;
use zrs_vfs::VfsFile;

use super::walk::Data;

/// The number of bytes written at once.
const BUFFER_LEN: usize = 1024 * 1024;
/// The number of bytes of large data in memory at once.
const PIECE_LEN: usize = 256 * 1024;

/// A file that is being written.
pub(super) struct Output {
    file: Arc<dyn VfsFile>,
    path: Arc<Path>,
    /// The number of bytes in the file.
    written: u64,
    /// The bytes that follow them.
    buffer: Vec<u8>,
}

impl Output {
    /// An output to `file`, which is empty.
    pub(super) fn new(file: Arc<dyn VfsFile>, path: &Arc<Path>) -> Self {
        Self {
            file,
            path: Arc::clone(path),
            written: 0,
            buffer: Vec::with_capacity(BUFFER_LEN),
        }
    }

    /// The position of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// The file, for reading bytes that [`Self::flush_to`] has written.
    pub(super) fn file(&self) -> DataFile {
        DataFile::new(Arc::clone(&self.file), &self.path)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> StorageResult<()> {
        if self.buffer.len() + bytes.len() > BUFFER_LEN {
            self.flush()?;
        }
        if bytes.len() > BUFFER_LEN {
            self.write_at(bytes, self.written)?;
            self.written += bytes.len() as u64;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Writes data of another file.
    pub(super) fn copy(&mut self, reader: &Reader, data: Data) -> StorageResult<()> {
        let (mut position, mut left) = (data.position, data.len);
        while left > 0 {
            let len = usize::try_from(left).map_or(PIECE_LEN, |left| left.min(PIECE_LEN));
            if let Some(held) = reader.window.get(position, len) {
                self.write(held)?;
            } else {
                self.write(&reader.file.read_bytes(position, len)?)?;
            }
            position += len as u64;
            left -= len as u64;
        }
        Ok(())
    }

    /// Replaces bytes that were written before.
    pub(super) fn patch(&mut self, bytes: &[u8], position: u64) -> StorageResult<()> {
        let at = position.checked_sub(self.written);
        let at = at.and_then(|at| usize::try_from(at).ok());
        if let Some(place) = at.and_then(|at| self.buffer.get_mut(at..at + bytes.len())) {
            place.copy_from_slice(bytes);
            return Ok(());
        }
        self.flush()?;
        self.write_at(bytes, position)
    }

    /// Passes at least the bytes before `end` to the system.
    pub(super) fn flush_to(&mut self, end: u64) -> StorageResult<()> {
        if end > self.written {
            self.flush()?;
        }
        Ok(())
    }

    /// Passes all bytes to the system.
    fn flush(&mut self) -> StorageResult<()> {
        self.write_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes everything that was written durable.
    pub(super) fn sync(&mut self) -> StorageResult<()> {
        self.flush()?;
        let synced = self.file.sync_all();
        synced.map_err(|source| io_error(&self.path, source))
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> StorageResult<()> {
        let written = self.file.write_all_at(bytes, position);
        written.map_err(|source| io_error(&self.path, source))
    }
}
