//! The file of a closed storage.

use std::io;

use super::{Metadata, VfsFile};

/// A closed file: every call fails.
pub struct ClosedFile;

impl VfsFile for ClosedFile {
    fn read_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
        closed()
    }

    fn read_cached_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
        closed()
    }

    fn metadata(&self) -> io::Result<Metadata> {
        closed()
    }

    fn write_all_at(&self, _data: &[u8], _offset: u64) -> io::Result<()> {
        closed()
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        closed()
    }

    fn sync_data(&self) -> io::Result<()> {
        closed()
    }

    fn sync_all(&self) -> io::Result<()> {
        closed()
    }

    fn try_lock(&self) -> io::Result<bool> {
        closed()
    }
}

fn closed<T>() -> io::Result<T> {
    Err(io::Error::other("the file is closed"))
}
