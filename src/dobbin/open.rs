//! Opening and making a log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{LogError, LogResult};
use super::follow::Changes;
use super::header::{BadHeader, HEADER_LEN, Header};
use super::index_file;
use super::log::{Durability, Log, Options, io_error};
use super::view::{Tail, View};
use crate::vfs::{Vfs, VfsFile};

/// Where warnings go.
pub(super) const LOGGER: &str = "dobbin";
const CHUNK: usize = 1 << 20;

impl Log {
    /// Open a log; make one where there is none, unless it is only to be read or to exist.
    ///
    /// What the path means now is what counts from then on: neither another working directory
    /// nor a symbolic link that is changed leads elsewhere.
    pub fn open(vfs: Arc<dyn Vfs>, path: &Path, options: Options) -> LogResult<Self> {
        let path = &vfs.real_path(path).map_err(io_error(path))?;
        if !options.read_only && !options.existing {
            make_if_missing(&*vfs, path, options.identity)?;
        }
        let view = view_of(&*vfs, path, options.read_only)?;
        if !options.read_only && options.durability == Durability::Commit {
            // Who made the file may have died before its name was durable.
            vfs.sync_directory(parent(path)).map_err(io_error(path))?;
        }
        let log = Self::of(vfs, path, options, view);
        log.begin_to_follow()?;
        Ok(log)
    }

    fn begin_to_follow(&self) -> LogResult<()> {
        let mut view = self.writable()?;
        let file = Arc::clone(&view.file);
        // Who writes at this moment settles the tail; and so does the next who writes.
        let locked = !self.options.read_only && file.try_lock().map_err(self.io())?;
        // While we have the lock nobody puts another file there.
        let followed = if locked && !self.is_replaced(&view) {
            self.settle(&mut view)
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

    /// Cut off what was torn, and make durable what nobody knows to be; under the lock.
    fn settle(&self, view: &mut View) -> LogResult<()> {
        if let Some(tail) = self.follow(view, &mut Changes::default())? {
            self.cut(view, tail)?;
        }
        if self.options.durability == Durability::Commit && view.durable < view.index.end {
            harden(view).map_err(self.io())?;
        }
        Ok(())
    }

    /// Cut off a torn transaction; keep a copy if it looks committed. Under the lock.
    pub(super) fn cut(&self, view: &View, tail: Tail) -> LogResult<()> {
        let len = view.file.metadata().map_err(self.io())?.len;
        let path = self.path.display();
        if tail.committed {
            let copy = self.unused_name(&format!(".torn-{}", tail.start));
            log::warn!(
                target: LOGGER,
                "{path}: cut at offset {}, {} bytes kept in {}",
                tail.start, len - tail.start, copy.display()
            );
            let kept = self.keep(view, tail.start, &copy);
            if kept.is_err() {
                // The error is what matters; the next attempt makes another copy.
                drop(self.vfs.remove(&copy));
            }
            kept.map_err(io_error(&copy))?;
        } else {
            log::info!(
                target: LOGGER,
                "{path}: an unfinished transaction is cut off at offset {}",
                tail.start
            );
        }
        view.file.set_len(tail.start).map_err(self.io())
    }

    /// A name beside the log's that no file has: an earlier copy must not be overwritten.
    fn unused_name(&self, suffix: &str) -> PathBuf {
        let first = sibling(&self.path, suffix);
        let others = (2_u64..).map(|number| sibling(&first, &format!("-{number}")));
        let mut names = std::iter::once(first.clone()).chain(others);
        let unused = names.find(|name| self.vfs.metadata(name).is_err());
        unused.unwrap_or(first)
    }

    fn keep(&self, view: &View, start: u64, copy: &Path) -> io::Result<()> {
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

/// Write what may not be durable once more. After a sync that failed the system takes
/// it for written, so that another sync would not write it.
fn harden(view: &mut View) -> io::Result<()> {
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

/// A view of a file with what its index file tells.
pub(super) fn view_of(vfs: &dyn Vfs, path: &Path, read_only: bool) -> LogResult<View> {
    match view_of_what_is_left(vfs, path, read_only)? {
        (_, Some(shortened)) => Err(shortened),
        (view, None) => Ok(view),
    }
}

/// The same also of a file whose end is lost, and the error that says so.
pub(super) fn view_of_what_is_left(
    vfs: &dyn Vfs,
    path: &Path,
    read_only: bool,
) -> LogResult<(View, Option<LogError>)> {
    let opened = if read_only {
        vfs.open_read(path)
    } else {
        vfs.open_write(path)
    };
    let file = opened.map_err(io_error(path))?;
    let header = match read_header(&*file, path) {
        Err(LogError::UnknownMagic { found, path }) if found.is_empty() => {
            let emptied = index_file::emptied(vfs, &path);
            return Err(emptied.unwrap_or(LogError::UnknownMagic { path, found }));
        }
        header => header?,
    };
    let mut view = View::new(file, header.identity);
    let shortened = index_file::load(vfs, path, &mut view)?;
    Ok((view, shortened))
}

pub(super) fn read_header(file: &dyn VfsFile, path: &Path) -> LogResult<Header> {
    let mut bytes = [0; HEADER_LEN];
    let count = file.read_full_at(&mut bytes, 0).map_err(io_error(path))?;
    let owned = || path.to_owned();
    match Header::parse(&bytes) {
        Ok(header) => Ok(header),
        Err(BadHeader::Version(version)) => Err(LogError::UnknownVersion {
            path: owned(),
            version,
        }),
        Err(BadHeader::Checksum) => Err(LogError::CorruptHeader { path: owned() }),
        Err(BadHeader::Magic) => Err(LogError::UnknownMagic {
            path: owned(),
            found: bytes[..count.min(8)].to_vec(),
        }),
    }
}

/// Make a new log where there is nothing, or an empty file.
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
            "{}: there is no such file, but an index of one: a new database is made. If the file \
             was not removed on purpose, restore it",
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

/// The file appears with its header, or not at all.
fn make(vfs: &dyn Vfs, path: &Path, header: &[u8; HEADER_LEN]) -> io::Result<()> {
    let unique = header[12..28].iter().map(|byte| format!("{byte:02x}"));
    let temporary = sibling(path, &format!(".new-{}", unique.collect::<String>()));
    let file = vfs.create(&temporary)?;
    let linked = file
        .write_all_at(header, 0)
        .and_then(|()| file.sync_data())
        .and_then(|()| match vfs.link(&temporary, path) {
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    let removed = vfs.remove(&temporary);
    linked?;
    removed?;
    vfs.sync_directory(parent(path))
}

/// Somebody made an empty file for us, or the power went while we filled one.
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

pub(super) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(super) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}
