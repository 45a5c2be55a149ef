//! A part of a file in memory, so that reading small structures does not need a system call each.

use super::file::DataFile;
use crate::error::StorageResult;

/// Consecutive bytes of a file, as of one read.
///
/// A window cannot detect changes of the file; its owner clears it.
pub(super) struct Window {
    start: u64,
    len: usize,
    buffer: Vec<u8>,
    /// Whether the last read reached the end of the file.
    at_end: bool,
}

impl Window {
    pub(super) const fn new() -> Self {
        Self {
            start: 0,
            len: 0,
            buffer: Vec::new(),
            at_end: false,
        }
    }

    /// Discard the contents.
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Whether the file ended where the window ends when it was read.
    pub(super) fn is_at_end(&self) -> bool {
        self.at_end
    }

    /// The `len` bytes at `position` if the window has them all.
    pub(super) fn get(&self, position: u64, len: usize) -> Option<&[u8]> {
        let offset = usize::try_from(position.checked_sub(self.start)?).ok()?;
        self.buffer[..self.len].get(offset..offset.checked_add(len)?)
    }

    /// The `N` bytes at `position` if the window has them all.
    pub(super) fn get_array<const N: usize>(&self, position: u64) -> Option<[u8; N]> {
        self.get(position, N)?.try_into().ok()
    }

    /// Replace the contents with the `len` bytes of `file` at `position`, or up to its end.
    pub(super) fn fill(&mut self, file: &DataFile, position: u64, len: usize) -> StorageResult<()> {
        self.clear();
        if self.buffer.len() < len {
            // Do not copy the old contents; the system provides fresh zeros as needed.
            self.buffer = vec![0; len];
        }
        let count = file.read_at_most(&mut self.buffer[..len], position)?;
        self.start = position;
        self.len = count;
        self.at_end = count < len;
        Ok(())
    }
}
