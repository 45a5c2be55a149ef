//! Buffered reading at ascending positions.

use std::io;
use std::sync::Arc;

use zrs_vfs::VfsFile;

const WINDOW: usize = 256 * 1024;

/// Reads a file up to a limit, through a buffer.
pub(super) struct Reader {
    file: Arc<dyn VfsFile>,
    limit: u64,
    buffer: Vec<u8>,
    start: u64,
}

impl Reader {
    pub(super) fn new(file: Arc<dyn VfsFile>, limit: u64) -> Self {
        Self {
            file,
            limit,
            buffer: Vec::new(),
            start: 0,
        }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// The bytes at a position, or `None` if the file ends before the last of them.
    pub(super) fn bytes(&mut self, at: u64, len: usize) -> io::Result<Option<&[u8]>> {
        if at
            .checked_add(len as u64)
            .is_none_or(|end| end > self.limit)
        {
            return Ok(None);
        }
        if self.place(at, len).is_none() {
            let rest = usize::try_from(self.limit - at).unwrap_or(usize::MAX);
            self.buffer.resize(len.max(WINDOW).min(rest), 0);
            let count = self.file.read_full_at(&mut self.buffer, at)?;
            self.buffer.truncate(count);
            self.start = at;
        }
        let place = self.place(at, len);
        Ok(place.and_then(|place| self.buffer.get(place..place + len)))
    }

    fn place(&self, at: u64, len: usize) -> Option<usize> {
        let place = usize::try_from(at.checked_sub(self.start)?).ok()?;
        (place.checked_add(len)? <= self.buffer.len()).then_some(place)
    }
}
