//! Reads tids that are stored one after another in a file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::file::io_error;
use crate::error::StorageResult;
use zrs_ids::Tid;
use zrs_vfs::VfsFile;

/// The number of bytes of a tid.
pub(super) const TID_LEN: usize = 8;
/// The number of bytes of tids to read or write at once; a multiple of [`TID_LEN`].
pub(super) const BUFFER: usize = 64 * 1024;

/// A position among the tids of a file. It holds memory only while more tids follow.
pub(super) struct Tids {
    file: Arc<dyn VfsFile>,
    path: PathBuf,
    /// The offset of the first tid.
    offset: u64,
    count: u64,
    next: u64,
    buffer: Vec<u8>,
    /// The number of the first tid in the buffer.
    from: u64,
}

impl Tids {
    /// The `count` tids of a file from `offset` on, without the first `next` ones.
    pub(super) fn new(
        file: &Arc<dyn VfsFile>,
        path: &Path,
        offset: u64,
        count: u64,
        next: u64,
    ) -> Self {
        Self {
            file: Arc::clone(file),
            path: path.to_owned(),
            offset,
            count,
            next,
            buffer: Vec::new(),
            from: next,
        }
    }

    /// The number of tids that were passed.
    pub(super) fn position(&self) -> u64 {
        self.next
    }

    /// The next tid, without passing it.
    pub(super) fn peek(&mut self) -> StorageResult<Option<Tid>> {
        if self.next >= self.count {
            self.buffer = Vec::new();
            return Ok(None);
        }
        let held = (self.buffer.len() / TID_LEN) as u64;
        if self.next >= self.from + held {
            let left = (self.count - self.next).saturating_mul(TID_LEN as u64);
            let len = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
            self.buffer.resize(len, 0);
            self.from = self.next;
            let offset = self.offset + self.next * TID_LEN as u64;
            let read = self.file.read_full_at(&mut self.buffer, offset);
            let error = |error| io_error(&self.path, error);
            if read.map_err(error)? < len {
                return Err(error(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        let at = usize::try_from(self.next - self.from).unwrap_or_default();
        Ok(Some(Tid::from_u64(number(&self.buffer, at))))
    }

    /// Passes and returns the next tid if it is earlier than `limit`.
    pub(super) fn next_before(&mut self, limit: Tid) -> StorageResult<Option<Tid>> {
        let found = self.peek()?.filter(|tid| *tid < limit);
        if found.is_some() {
            self.next += 1;
        }
        Ok(found)
    }

    /// Passes `tid` if it is the next one.
    pub(super) fn skip(&mut self, tid: Tid) -> StorageResult<()> {
        if self.peek()? == Some(tid) {
            self.next += 1;
        }
        Ok(())
    }
}

/// The big-endian number at `index`, counted in numbers; 0 beyond the end.
pub(super) fn number(bytes: &[u8], index: usize) -> u64 {
    let chunk = bytes.chunks_exact(TID_LEN).nth(index);
    chunk.map_or(0, |chunk| {
        chunk
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    })
}
