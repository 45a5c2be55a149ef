//! The record of a transaction that is being written: in memory, and beyond some size in a file
//! of its own.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::error::StorageResult;
use crate::file::io_error;
use zrs_vfs::{Vfs, VfsFile};

/// The maximum number of bytes in memory.
const MEMORY: usize = 8 * 1024 * 1024;
/// The number of bytes to copy at once.
const COPY: usize = 1024 * 1024;

/// A sequence of bytes that is appended to.
pub(super) struct Spool {
    vfs: Arc<dyn Vfs>,
    path: Arc<Path>,
    /// Has the first [`Self::spilled`] bytes.
    file: Option<Arc<dyn VfsFile>>,
    spilled: u64,
    memory: Vec<u8>,
}

impl Spool {
    /// An empty spool, whose file will be at `path`.
    pub(super) fn new(vfs: Arc<dyn Vfs>, path: Arc<Path>) -> Self {
        Self {
            vfs,
            path,
            file: None,
            spilled: 0,
            memory: Vec::new(),
        }
    }

    /// The number of bytes.
    pub(super) fn len(&self) -> u64 {
        self.spilled + self.memory.len() as u64
    }

    /// Append the parts: all of them or, after an error, none.
    pub(super) fn append(&mut self, parts: &[&[u8]]) -> StorageResult<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if !self.memory.is_empty() && self.memory.len().saturating_add(len) > MEMORY {
            self.spill()?;
        }
        self.memory.try_reserve(len).map_err(|error| {
            let source = io::Error::new(io::ErrorKind::OutOfMemory, error);
            io_error(&self.path, source)
        })?;
        for part in parts {
            self.memory.extend_from_slice(part);
        }
        Ok(())
    }

    fn spill(&mut self) -> StorageResult<()> {
        let error = |source| io_error(&self.path, source);
        let file = match &self.file {
            Some(file) => file,
            None => self
                .file
                .insert(self.vfs.create(&self.path).map_err(error)?),
        };
        file.write_all_at(&self.memory, self.spilled)
            .map_err(error)?;
        self.spilled += self.memory.len() as u64;
        self.memory.clear();
        Ok(())
    }

    /// Discard the bytes after the first `len`.
    pub(super) fn truncate(&mut self, len: u64) {
        let kept = len.saturating_sub(self.spilled);
        self.memory
            .truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        self.spilled = self.spilled.min(len);
    }

    /// Fill `buffer` from `offset`; returns the number of bytes.
    pub(super) fn read_at_most(&self, buffer: &mut [u8], offset: u64) -> StorageResult<usize> {
        let mut filled = 0;
        if let Some(file) = &self.file {
            let left = self.spilled.saturating_sub(offset);
            let wanted = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            filled = file
                .read_full_at(&mut buffer[..wanted], offset)
                .map_err(|source| io_error(&self.path, source))?;
        }
        let from = (offset + filled as u64).saturating_sub(self.spilled);
        let rest = usize::try_from(from)
            .ok()
            .and_then(|from| self.memory.get(from..))
            .unwrap_or_default();
        let count = rest.len().min(buffer.len() - filled);
        buffer[filled..filled + count].copy_from_slice(&rest[..count]);
        Ok(filled + count)
    }

    /// Pass all bytes to `write`, with the offset of each piece. The last piece comes first, so
    /// that a file has its full length from then on.
    pub(super) fn copy(
        &self,
        mut write: impl FnMut(&[u8], u64) -> StorageResult<()>,
    ) -> StorageResult<()> {
        write(&self.memory, self.spilled)?;
        let mut offset = 0;
        let mut buffer = Vec::new();
        while offset < self.spilled {
            let left = usize::try_from(self.spilled - offset).unwrap_or(COPY);
            buffer.resize(left.min(COPY), 0);
            let count = self.read_at_most(&mut buffer, offset)?;
            if count < buffer.len() {
                let source = io::ErrorKind::UnexpectedEof.into();
                return Err(io_error(&self.path, source));
            }
            write(&buffer, offset)?;
            offset += count as u64;
        }
        Ok(())
    }

    /// Overwrite the first bytes, which must exist.
    pub(super) fn set_head(&mut self, head: &[u8]) -> StorageResult<()> {
        match &self.file {
            Some(file) if self.spilled > 0 => file
                .write_all_at(head, 0)
                .map_err(|source| io_error(&self.path, source)),
            _ => {
                if let Some(bytes) = self.memory.get_mut(..head.len()) {
                    bytes.copy_from_slice(head);
                }
                Ok(())
            }
        }
    }
}
