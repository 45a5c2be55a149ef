//! Opening, creating and closing a log.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::changes::Changes;
use super::error::{LOGGER, LogError, LogResult, io_error};
use super::header::{HEADER_LEN, Header};
use super::index_file;
use super::log::{Durability, Log, Options};
use super::paths::{parent, sibling};
use super::view::View;
use zrs_vfs::Vfs;

const CHUNK: usize = 1 << 20;

impl Log {
    /// Open a log. Creates it if the file does not exist, unless `read_only` or `existing` is
    /// set.
    ///
    /// The path is resolved once: changing the working directory or a symbolic link later has
    /// no effect.
    pub fn open(vfs: Arc<dyn Vfs>, path: &Path, options: Options) -> LogResult<Self> {
        let path = &vfs.real_path(path).map_err(io_error(path))?;
        if !options.read_only && !options.existing {
            make_if_missing(&*vfs, path, options.identity)?;
        }
        let view = View::open(&*vfs, path, options.read_only)?;
        if !options.read_only && options.durability == Durability::Commit {
            // The process that created the file may have died before its name was durable.
            vfs.sync_directory(parent(path)).map_err(io_error(path))?;
        }
        let log = Self::with_view(vfs, path, options, view);
        log.read_to_end()?;
        Ok(log)
    }

    fn read_to_end(&self) -> LogResult<()> {
        let mut view = self.writable()?;
        let file = Arc::clone(&view.file);
        // If another process holds the lock, it or the next writer repairs the end.
        let locked = !self.options.read_only && file.try_lock().map_err(self.io())?;
        // No other process replaces the file while this one holds the lock.
        let followed = if locked && !self.is_replaced(&view) {
            self.repair_end(&mut view)
        } else {
            self.follow(&mut view, &mut Changes::default()).map(drop)
        };
        if locked {
            file.unlock().map_err(self.io())?;
        }
        followed?;
        for damaged in self.damaged_in(&view) {
            log::error!(target: LOGGER, "{damaged}");
        }
        Ok(())
    }

    /// Cut off an unfinished transaction, and make durable what may not be. Called under the
    /// lock.
    fn repair_end(&self, view: &mut View) -> LogResult<()> {
        if let Some(tail) = self.follow(view, &mut Changes::default())? {
            self.cut(view, tail)?;
        }
        if self.options.durability == Durability::Commit && view.durable < view.index.end {
            write_again_and_sync(view).map_err(self.io())?;
        }
        Ok(())
    }

    /// Close the log, and save its index. A failure to save the index is logged.
    ///
    /// # Errors
    /// [`LogError::Io`] if the log could not be made durable. It is closed in this case too.
    pub fn close(&self) -> LogResult<()> {
        let saved = self.save_index();
        *self.state.write() = None;
        match saved {
            Err(LogError::Failed(_) | LogError::Closed | LogError::ReadOnly(_)) => Ok(()),
            // The log itself is durable unless its sync failed.
            Err(error) if !self.failed.load(Ordering::Acquire) => {
                self.warn_of_index(&error);
                Ok(())
            }
            saved => saved,
        }
    }
}

/// Write the bytes that may not be durable again, and sync. After a failed sync the system
/// regards them as written, so another sync alone would not write them.
fn write_again_and_sync(view: &mut View) -> io::Result<()> {
    let mut at = view.durable.max(HEADER_LEN as u64);
    let mut buffer = vec![0; CHUNK];
    while at < view.index.end {
        let rest = usize::try_from(view.index.end - at).unwrap_or(CHUNK);
        let chunk = &mut buffer[..rest.min(CHUNK)];
        let count = view.file.read_full_at(chunk, at)?;
        if count == 0 {
            break;
        }
        view.file.write_all_at(&chunk[..count], at)?;
        at += count as u64;
    }
    view.file.sync_data()?;
    view.durable = view.index.end;
    Ok(())
}

/// Create a log if the file does not exist or is empty.
fn make_if_missing(vfs: &dyn Vfs, path: &Path, identity: [u8; 16]) -> LogResult<()> {
    let len = match vfs.metadata(path) {
        Ok(metadata) => Some(metadata.len),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(io_error(path)(error)),
    };
    let is_empty = len.is_none_or(|len| len == 0);
    let known = is_empty.then(|| index_file::emptied(vfs, path)).flatten();
    match (len, known) {
        (Some(_), Some(emptied)) => return Err(emptied),
        (None, Some(_)) => log::warn!(
            target: LOGGER,
            "{}: the file does not exist, but its index does: a new database is created. If the \
             file was not removed on purpose, restore it",
            path.display()
        ),
        (_, None) => {}
    }
    let header = Header { identity }.to_bytes();
    let made = match len {
        None => make(vfs, path, &header),
        Some(len) if len <= HEADER_LEN as u64 => fill(vfs, path, &header),
        Some(_) => Ok(()),
    };
    made.map_err(io_error(path))
}

/// Create a file that appears with its header, or not at all.
fn make(vfs: &dyn Vfs, path: &Path, header: &[u8; HEADER_LEN]) -> io::Result<()> {
    let unique = header[12..28].iter().map(|byte| format!("{byte:02x}"));
    let temporary = sibling(path, &format!(".new-{}", unique.collect::<String>()));
    let file = vfs.create(&temporary)?;
    let linked = file
        .write_all_at(header, 0)
        .and_then(|()| file.sync_data())
        .and_then(|()| match vfs.link(&temporary, path) {
            // Another process has created it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    let removed = vfs.remove(&temporary);
    linked?;
    removed?;
    vfs.sync_directory(parent(path))
}

/// Write the header of an empty file, or of one whose header was lost in a power failure.
fn fill(vfs: &dyn Vfs, path: &Path, header: &[u8; HEADER_LEN]) -> io::Result<()> {
    let file = vfs.open_write(path)?;
    let mut found = [0; HEADER_LEN];
    if file.try_lock()?
        && file.read_full_at(&mut found, 0)? <= HEADER_LEN
        && found == [0; HEADER_LEN]
    {
        file.write_all_at(header, 0)?;
        file.sync_data()?;
    }
    Ok(())
}
