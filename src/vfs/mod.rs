//! The file system as the storages see it, so that a simulated one can take its place.
//!
//! Errors are the system's own; who knows which file it was for attaches the path.

pub mod os;

#[cfg(test)]
pub(crate) mod memory;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use os::OsVfs;

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
pub trait Vfs: Send + Sync {
    /// Open a file for reading.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>>;

    /// What a path leads to at this moment.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;
}

/// An open file, read at given positions by any number of threads.
pub trait VfsFile: Send + Sync {
    /// Read at most as many bytes as `buffer` has, from `offset`; returns how many, 0 at
    /// the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// What the file is and how long it is at this moment.
    fn metadata(&self) -> io::Result<Metadata>;

    /// Fill `buffer` from `offset` unless the file ends before; returns how many bytes.
    fn read_full_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        let mut position = offset;
        while filled < buffer.len() {
            match self.read_at(&mut buffer[filled..], position) {
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
}
