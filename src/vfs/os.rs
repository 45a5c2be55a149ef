//! The operating system's files, and the one place that opens them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use super::{Identity, Metadata, Vfs, VfsFile};

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsVfs;

impl Vfs for OsVfs {
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        #[expect(clippy::disallowed_methods, reason = "this is where files are opened")]
        let file = File::open(path)?;
        Ok(Arc::new(OsFile(file)))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        fs::metadata(path).map(|metadata| Metadata::from(&metadata))
    }
}

/// Remove the UNIX socket at a path that no server listens on any more.
///
/// # Errors
/// The system's.
pub fn remove_socket(path: &Path) -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "this is where files are removed")]
    fs::remove_file(path)
}

#[derive(Debug)]
struct OsFile(File);

impl VfsFile for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.0.metadata().map(|metadata| Metadata::from(&metadata))
    }
}

impl From<&fs::Metadata> for Metadata {
    fn from(metadata: &fs::Metadata) -> Self {
        Self {
            identity: Identity {
                device: metadata.dev(),
                inode: metadata.ino(),
            },
            len: metadata.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_at_positions_and_tells_files_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("Data.fs");
        fs::write(&path, b"0123456789").unwrap();
        let file = OsVfs.open_read(&path).unwrap();
        let mut buffer = [0; 4];
        assert_eq!(file.read_full_at(&mut buffer, 3).unwrap(), 4);
        assert_eq!(&buffer, b"3456");
        assert_eq!(file.read_full_at(&mut buffer, 8).unwrap(), 2);
        assert_eq!(file.read_full_at(&mut buffer, 50).unwrap(), 0);
        assert_eq!(file.metadata().unwrap(), OsVfs.metadata(&path).unwrap());
        assert_eq!(file.metadata().unwrap().len, 10);

        let other = directory.path().join("other");
        fs::write(&other, b"x").unwrap();
        assert_ne!(
            OsVfs.metadata(&other).unwrap().identity,
            file.metadata().unwrap().identity
        );
    }

    #[test]
    fn a_missing_file_is_not_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none");
        let kind = |result: io::Result<_>| result.err().map(|error: io::Error| error.kind());
        assert_eq!(
            kind(OsVfs.metadata(&path).map(drop)),
            Some(io::ErrorKind::NotFound)
        );
        assert_eq!(
            kind(OsVfs.open_read(&path).map(drop)),
            Some(io::ErrorKind::NotFound)
        );
    }
}
