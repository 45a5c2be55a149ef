//! Truncating the file at the beginning of an unfinished transaction.

use std::io;
use std::path::{Path, PathBuf};

use super::error::{LOGGER, LogResult, io_error};
use super::log::Log;
use super::paths::{parent, sibling};
use super::view::{TrailingBytes, View};

const CHUNK: usize = 1 << 20;

impl Log {
    /// Cut off an unfinished transaction, and keep a copy if it may have been committed. Called
    /// under the lock.
    pub(super) fn cut(&self, view: &View, tail: TrailingBytes) -> LogResult<()> {
        let len = view.file.metadata().map_err(self.io())?.len;
        let path = self.path.display();
        if tail.committed {
            let copy = self.unused_name(&format!(".torn-{}", tail.start));
            log::warn!(
                target: LOGGER,
                "{path}: truncated at offset {}; {} bytes were copied to {}",
                tail.start, len - tail.start, copy.display()
            );
            let kept = self.copy_end(view, tail.start, &copy);
            if kept.is_err() {
                // Report the first error. The next attempt makes another copy.
                drop(self.vfs.remove(&copy));
            }
            kept.map_err(io_error(&copy))?;
        } else {
            log::info!(
                target: LOGGER,
                "{path}: truncated at offset {}: the last transaction was not finished",
                tail.start
            );
        }
        view.file.set_len(tail.start).map_err(self.io())
    }

    /// An unused name next to the log: an earlier copy must not be overwritten.
    fn unused_name(&self, suffix: &str) -> PathBuf {
        let first = sibling(&self.path, suffix);
        let others = (2_u64..).map(|number| sibling(&first, &format!("-{number}")));
        let mut names = std::iter::once(first.clone()).chain(others);
        let unused = names.find(|name| self.vfs.metadata(name).is_err());
        unused.unwrap_or(first)
    }

    fn copy_end(&self, view: &View, start: u64, copy: &Path) -> io::Result<()> {
        let file = self.vfs.create_like(copy, &self.path)?;
        let mut buffer = vec![0; CHUNK];
        let mut at = start;
        loop {
            let count = view.file.read_full_at(&mut buffer, at)?;
            if count == 0 {
                break;
            }
            file.write_all_at(&buffer[..count], at - start)?;
            at += count as u64;
        }
        file.sync_data()?;
        self.vfs.sync_directory(parent(copy))
    }
}
