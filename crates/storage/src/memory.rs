//! A file system in memory, for tests, with files that tests can write and truncate and that
//! count reads.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use zrs_vfs::{Identity, Metadata, Vfs, VfsFile};

/// Paths and their files.
#[derive(Debug, Default)]
pub(super) struct MemoryVfs {
    files: Mutex<HashMap<PathBuf, Arc<MemoryFile>>>,
    inodes: AtomicU64,
}

impl MemoryVfs {
    pub(super) fn create(&self, path: &str, content: &[u8]) -> Arc<MemoryFile> {
        let file = Arc::new(MemoryFile {
            content: Mutex::new(content.to_vec()),
            inode: self.inodes.fetch_add(1, Ordering::Relaxed),
            reads: AtomicU64::new(0),
        });
        self.files.lock().insert(path.into(), Arc::clone(&file));
        file
    }

    pub(super) fn rename(&self, old: &str, new: &str) {
        let mut files = self.files.lock();
        let file = files.remove(Path::new(old)).unwrap();
        files.insert(new.into(), file);
    }

    fn get(&self, path: &Path) -> io::Result<Arc<MemoryFile>> {
        let files = self.files.lock();
        files
            .get(path)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Vfs for MemoryVfs {
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        self.get(path).map(|file| file as Arc<dyn VfsFile>)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.get(path)?.metadata()
    }
}

/// A file in memory.
#[derive(Debug)]
pub(super) struct MemoryFile {
    content: Mutex<Vec<u8>>,
    inode: u64,
    reads: AtomicU64,
}

impl MemoryFile {
    /// Cut the file to `len` bytes, then append `bytes`.
    pub(super) fn rewrite(&self, len: usize, bytes: &[u8]) {
        let mut content = self.content.lock();
        content.truncate(len);
        content.extend_from_slice(bytes);
    }

    pub(super) fn set_byte(&self, position: usize, byte: u8) {
        self.content.lock()[position] = byte;
    }

    /// How often the file was read.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

impl VfsFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let content = self.content.lock();
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| content.get(offset..));
        let rest = rest.unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        Ok(Metadata {
            identity: Identity {
                device: 0,
                inode: self.inode,
            },
            len: self.content.lock().len() as u64,
        })
    }
}
