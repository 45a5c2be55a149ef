//! A file system wrapper that defers all syncs.
//!
//! An incomplete salvage is worthless, so syncing each transaction would only cost time.

use std::io;
use std::path::Path;
use std::sync::Arc;

use zrs_vfs::{Metadata, Vfs, VfsFile};

/// Passes on all operations except syncs.
pub(super) struct Unsynced(pub(super) Arc<dyn Vfs>);

impl Vfs for Unsynced {
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        self.0.open_read(path).map(wrap)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.0.metadata(path)
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        self.0.open_write(path).map(wrap)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        self.0.create(path).map(wrap)
    }

    fn create_like(&self, path: &Path, like: &Path) -> io::Result<Arc<dyn VfsFile>> {
        self.0.create_like(path, like).map(wrap)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
}

struct UnsyncedFile(Arc<dyn VfsFile>);

fn wrap(file: Arc<dyn VfsFile>) -> Arc<dyn VfsFile> {
    Arc::new(UnsyncedFile(file))
}

impl VfsFile for UnsyncedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.0.metadata()
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
}
