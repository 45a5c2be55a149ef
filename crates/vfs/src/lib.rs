//! The file system as storages use it, so that tests can replace it by a simulated one.
//!
//! Errors are the system's own, without a path; callers add the path.

mod closed;
mod commit_lock;
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
pub use commit_lock::{CommitGuard, CommitLock};
pub use os::{OsVfs, SocketPath};
pub use place::{Held, Place, place};

/// The identity of a file. Equal identities mean the same file while a handle keeps it open:
/// the system may use the number of a removed file again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Number of the device.
    pub device: u64,
    /// Number of the file on the device.
    pub inode: u64,
}

/// Metadata of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The file's identity.
    pub identity: Identity,
    /// The file's length in bytes.
    pub len: u64,
}

/// A file system.
///
/// The default implementations of the methods that change it are those of a read-only file
/// system. A change of names survives a power cut only after
/// [`sync_directory`](Self::sync_directory).
pub trait Vfs: Send + Sync {
    /// Open a file for reading.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>>;

    /// Return the metadata of the file at a path.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// Return the absolute path of a file, with all symbolic links resolved. The file itself may
    /// be missing, its directory must exist.
    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }

    /// Whether every user that may read and write the file at `old` may do the same with the
    /// file at `new`, judged by owner, group, permissions and access control list.
    fn keeps_access(&self, _old: &Path, _new: &Path) -> io::Result<bool> {
        Ok(true)
    }

    /// Open an existing file for reading and writing.
    fn open_write(&self, _path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        read_only()
    }

    /// Create an empty file, or truncate an existing one, and open it for reading and writing.
    fn create(&self, _path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        read_only()
    }

    /// Create a file that is to replace the one at `like`: with the same owner, permissions and
    /// access control list, as far as the process may set them.
    fn create_like(&self, path: &Path, _like: &Path) -> io::Result<Arc<dyn VfsFile>> {
        self.create(path)
    }

    /// Create a directory in an existing one.
    fn create_directory(&self, _path: &Path) -> io::Result<()> {
        read_only()
    }

    /// Create `to` as a hard link to the file at `from`. Fails if `to` exists.
    fn link(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        read_only()
    }

    /// Move a file from one path to another; a file that was there is replaced atomically.
    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        read_only()
    }

    /// Remove a path. Open handles keep the file.
    fn remove(&self, _path: &Path) -> io::Result<()> {
        read_only()
    }

    /// Make the names in a directory durable. The empty path is the current directory, because
    /// it is the parent of a bare file name.
    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        read_only()
    }

    /// Watch the file at a path from now on.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] where the system does not report changes; the system's.
    fn watch(&self, _path: &Path) -> io::Result<Box<dyn Watch>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Reports changes of a file that are made on this machine.
pub trait Watch: Send + Sync {
    /// Wait until any process has written, truncated, renamed or removed the file since the last
    /// call, until `timeout` has passed, or until a signal arrives.
    fn wait(&self, timeout: Duration) -> io::Result<()>;
}

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

/// An open file, read and written at given positions by any number of threads.
///
/// The default implementations of the methods that change it are those of a read-only file.
pub trait VfsFile: Send + Sync {
    /// Read from `offset` into `buffer` and return the number of bytes read: 0 at the end of
    /// the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Like [`read_at`](Self::read_at), but only what is in the system's cache.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the disk would have to be read, or if the system cannot
    /// tell.
    fn read_cached_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Return the file's identity and its current length.
    fn metadata(&self) -> io::Result<Metadata>;

    /// Write all of `data` at `offset`, which may lie beyond the end of the file. After an
    /// error any part of it may have been written.
    fn write_all_at(&self, _data: &[u8], _offset: u64) -> io::Result<()> {
        read_only()
    }

    /// Truncate the file to `len` bytes, or extend it with zeros.
    fn set_len(&self, _len: u64) -> io::Result<()> {
        read_only()
    }

    /// Make everything written, and the file's length, durable. After an error it is unknown
    /// what is durable, and a later call that succeeds does not prove anything about it.
    fn sync_data(&self) -> io::Result<()> {
        read_only()
    }

    /// Like [`sync_data`](Self::sync_data), including the times of access and modification.
    fn sync_all(&self) -> io::Result<()> {
        read_only()
    }

    /// Take the file's exclusive lock; return false if another handle of the file, in this or
    /// another process, holds it. Closing the handle releases the lock.
    fn try_lock(&self) -> io::Result<bool> {
        read_only()
    }

    /// Release the lock.
    fn unlock(&self) -> io::Result<()> {
        read_only()
    }

    /// Fill `buffer` from `offset`, or up to the end of the file; return the number of bytes
    /// read.
    fn read_full_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read_full(buffer, offset, |rest, position| {
            self.read_at(rest, position)
        })
    }

    /// Like [`read_full_at`](Self::read_full_at), but only what is in the system's cache; errors
    /// as of [`read_cached_at`](Self::read_cached_at).
    fn read_full_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read_full(buffer, offset, |rest, position| {
            self.read_cached_at(rest, position)
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
