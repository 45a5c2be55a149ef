//! The file system as the storages see it, so that a simulated one can take its place.
//!
//! Errors are the system's own; who knows which file it was for attaches the path.

mod closed;
pub mod os;
mod place;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(target_os = "linux")]
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use closed::ClosedFile;
pub use os::{OsVfs, SocketPath};
pub use place::{Held, Place, place};

/// Which file a path or a handle leads to. Equal identities are the same file as long as
/// a handle keeps one of them open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The device.
    pub device: u64,
    /// The file's number on it.
    pub inode: u64,
}

/// What the file system knows about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Which file it is.
    pub identity: Identity,
    /// Its length in bytes.
    pub len: u64,
}

/// A file system.
///
/// The methods that change it are, unless implemented, those of a read-only one. What they
/// change survives a power cut only after [`sync_directory`](Self::sync_directory).
pub trait Vfs: Send + Sync {
    /// Open a file for reading.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>>;

    /// What a path leads to at this moment.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// The absolute path of the file that a path leads to, without symbolic links. The file
    /// itself may be missing; the directory may not.
    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }

    /// Whether everyone who may read and write the file at `old` may do the same with the one
    /// at `new`, judged by owner, group, permissions and access control list.
    fn keeps_access(&self, _old: &Path, _new: &Path) -> io::Result<bool> {
        Ok(true)
    }

    /// Open a file that exists for reading and writing.
    fn open_write(&self, _path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        read_only()
    }

    /// Make an empty file, or empty the one that is there, and open it for reading and
    /// writing.
    fn create(&self, _path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        read_only()
    }

    /// The same for a file that is to take the place of the one at `like`: with its owner,
    /// permissions and access control list, as far as the process may give them.
    fn create_like(&self, path: &Path, _like: &Path) -> io::Result<Arc<dyn VfsFile>> {
        self.create(path)
    }

    /// Make a directory in one that exists.
    fn create_directory(&self, _path: &Path) -> io::Result<()> {
        read_only()
    }

    /// Give the file at `from` a second path `to`, where nothing may be.
    fn link(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        read_only()
    }

    /// Move a file from one path to another; what was there goes, at the same instant.
    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        read_only()
    }

    /// Remove a file's path; open handles keep the file.
    fn remove(&self, _path: &Path) -> io::Result<()> {
        read_only()
    }

    /// Make durable which files are in a directory, under which names. The empty path is
    /// the current directory, as in the parent of a bare file name.
    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        read_only()
    }

    /// Watch the file that a path leads to, from now on.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] where nobody tells of changes; the system's.
    fn watch(&self, _path: &Path) -> io::Result<Box<dyn Watch>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Tells of changes of a file that are made on this machine.
pub trait Watch: Send + Sync {
    /// Wait until the file was written, cut, or taken away from its path, by whomever, since
    /// the last call; or until `patience` is over, or a signal came.
    fn wait(&self, patience: Duration) -> io::Result<()>;
}

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

/// An open file, read and written at given positions by any number of threads.
///
/// The methods that change it are, unless implemented, those of a read-only file.
pub trait VfsFile: Send + Sync {
    /// Read at most as many bytes as `buffer` has, from `offset`; returns how many, 0 at
    /// the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// As [`read_at`](Self::read_at), of what is in memory already.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where the disk would have to be waited for, or where
    /// nobody can tell.
    fn read_at_once(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// What the file is and how long it is at this moment.
    fn metadata(&self) -> io::Result<Metadata>;

    /// Write all of `data` at `offset`, which may lie beyond the end of the file. After an
    /// error any part of it may have been written.
    fn write_all_at(&self, _data: &[u8], _offset: u64) -> io::Result<()> {
        read_only()
    }

    /// Cut the file to `len` bytes, or lengthen it with zeros.
    fn set_len(&self, _len: u64) -> io::Result<()> {
        read_only()
    }

    /// Make all that was written durable, and the file's length. After an error it is
    /// unknown what is durable, and another call that succeeds tells nothing about it.
    fn sync_data(&self) -> io::Result<()> {
        read_only()
    }

    /// Like [`sync_data`](Self::sync_data), with the times of access and change as well.
    fn sync_all(&self) -> io::Result<()> {
        read_only()
    }

    /// Take the file's exclusive lock, which other handles of the file, of this process and
    /// of others, then cannot take; false if one of them has it. It goes with the handle.
    fn try_lock(&self) -> io::Result<bool> {
        read_only()
    }

    /// Give the lock back.
    fn unlock(&self) -> io::Result<()> {
        read_only()
    }

    /// Fill `buffer` from `offset` unless the file ends before; returns how many bytes.
    fn read_full_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read_full(buffer, offset, |rest, position| {
            self.read_at(rest, position)
        })
    }

    /// As [`read_full_at`](Self::read_full_at), of what is in memory already; errors as of
    /// [`read_at_once`](Self::read_at_once).
    fn read_full_at_once(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read_full(buffer, offset, |rest, position| {
            self.read_at_once(rest, position)
        })
    }
}

fn read_full(
    buffer: &mut [u8],
    offset: u64,
    read_at: impl Fn(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut filled = 0;
    let mut position = offset;
    while filled < buffer.len() {
        match read_at(&mut buffer[filled..], position) {
            Ok(0) => break,
            Ok(count) => {
                filled += count;
                position += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
