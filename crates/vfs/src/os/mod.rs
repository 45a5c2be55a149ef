//! The operating system's files. No other module opens, renames or removes files.

mod socket;

use std::fs::{self, File, OpenOptions};
use std::io;
#[cfg(target_os = "linux")]
use std::io::IoSliceMut;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FlockOperation, flock};
#[cfg(target_os = "linux")]
use rustix::fs::{XattrFlags, getxattr, removexattr, setxattr};
use rustix::io::Errno;
#[cfg(target_os = "linux")]
use rustix::io::{ReadWriteFlags, preadv2};

#[cfg(target_os = "linux")]
use super::Watch;
#[cfg(target_os = "linux")]
use super::watch::Inotify;
use super::{Identity, Metadata, Vfs, VfsFile};

pub use socket::SocketPath;

/// The number of symbolic links that the system follows in a row.
const MOST_LINKS: usize = 40;

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsVfs;

impl Vfs for OsVfs {
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        open(path, OpenOptions::new().read(true))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        fs::metadata(path).map(|metadata| Metadata::from(&metadata))
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        open(path, OpenOptions::new().read(true).write(true))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        open(path, &options)
    }

    fn create_like(&self, path: &Path, like: &Path) -> io::Result<Arc<dyn VfsFile>> {
        let Ok(metadata) = fs::metadata(like) else {
            return self.create(path);
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        // At no moment may a user open the new file that may not open the old one.
        options.mode(metadata.mode() & 0o777);
        let file = open(path, &options)?;
        let (owner, group) = (metadata.uid(), metadata.gid());
        // Only the superuser may change the owner; a member of the group may set the group.
        if chown(path, Some(owner), Some(group)).is_err() {
            let _ = chown(path, None, Some(group));
        }
        fs::set_permissions(path, metadata.permissions())?;
        #[cfg(target_os = "linux")]
        copy_access_list(like, path);
        Ok(file)
    }

    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            let Some(name) = path.file_name() else {
                return fs::canonicalize(path);
            };
            let parent = match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            let parent = fs::canonicalize(parent)?;
            let real = parent.join(name);
            match fs::read_link(&real) {
                Ok(target) => path = parent.join(target),
                // Not a link, or nothing is there yet.
                Err(_) => return Ok(real),
            }
        }
        Err(Errno::LOOP.into())
    }

    fn keeps_access(&self, old: &Path, new: &Path) -> io::Result<bool> {
        #[cfg(target_os = "linux")]
        if access_list(old) != access_list(new) {
            return Ok(false);
        }
        let (old, new) = (fs::metadata(old)?, fs::metadata(new)?);
        let mode = old.mode();
        let [owner, group, others] = [6, 3, 0].map(|shift| mode >> shift & 0o6);
        let same_group = old.gid() == new.gid();
        let owner_may = old.uid() == new.uid() || others == owner || same_group && group == owner;
        let group_may = same_group || others == group;
        Ok(mode & 0o777 == new.mode() & 0o777 && owner_may && group_may)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        #[expect(clippy::disallowed_methods, reason = "this is where files are renamed")]
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        #[expect(clippy::disallowed_methods, reason = "this is where files are removed")]
        fs::remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        #[expect(clippy::disallowed_methods, reason = "this is where files are opened")]
        File::open(path)?.sync_all()
    }

    #[cfg(target_os = "linux")]
    fn watch(&self, path: &Path) -> io::Result<Box<dyn Watch>> {
        Ok(Box::new(Inotify::watch(path)?))
    }
}

/// The extended attribute with a file's access control list, and its maximum size in bytes.
#[cfg(target_os = "linux")]
const ACCESS_LIST: &str = "system.posix_acl_access";
#[cfg(target_os = "linux")]
const LONGEST_LIST: usize = 1 << 16;

/// A file's access control list; `None` if it has only its permissions.
#[cfg(target_os = "linux")]
fn access_list(path: &Path) -> Option<Vec<u8>> {
    let mut list = vec![0; LONGEST_LIST];
    let len = getxattr(path, ACCESS_LIST, &mut list[..]).ok()?;
    list.truncate(len);
    Some(list)
}

/// Give a file the access control list of another, as far as the process and the file system
/// allow. A directory's default list may have given it a different one.
#[cfg(target_os = "linux")]
fn copy_access_list(from: &Path, to: &Path) {
    let (wanted, present) = (access_list(from), access_list(to));
    if wanted == present {
        return;
    }
    let _ = match wanted {
        Some(list) => setxattr(to, ACCESS_LIST, &list, XattrFlags::empty()),
        None => removexattr(to, ACCESS_LIST),
    };
}

fn open(path: &Path, options: &OpenOptions) -> io::Result<Arc<dyn VfsFile>> {
    #[expect(clippy::disallowed_methods, reason = "this is where files are opened")]
    let file = options.open(path)?;
    Ok(Arc::new(OsFile::new(file)))
}

#[derive(Debug)]
struct OsFile {
    file: File,
    /// Whether the file system can tell what is cached; assumed until it refuses.
    #[cfg(target_os = "linux")]
    reads_cached: AtomicBool,
}

impl OsFile {
    fn new(file: File) -> Self {
        Self {
            file,
            #[cfg(target_os = "linux")]
            reads_cached: AtomicBool::new(true),
        }
    }
}

impl VfsFile for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    #[cfg(target_os = "linux")]
    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if !self.reads_cached.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut buffers = [IoSliceMut::new(buffer)];
        preadv2(&self.file, &mut buffers, offset, ReadWriteFlags::NOWAIT).map_err(|errno| {
            if matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) {
                self.reads_cached.store(false, Ordering::Relaxed);
                return io::ErrorKind::WouldBlock.into();
            }
            errno.into()
        })
    }

    fn metadata(&self) -> io::Result<Metadata> {
        let metadata = self.file.metadata();
        metadata.map(|metadata| Metadata::from(&metadata))
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn try_lock(&self) -> io::Result<bool> {
        match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        Ok(flock(&self.file, FlockOperation::Unlock)?)
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
    fn what_is_written_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("Data.fs");
        let file = OsVfs.create(&path).unwrap();
        file.write_all_at(b"hello", 3).unwrap();
        file.sync_data().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"\0\0\0hello");

        let again = OsVfs.open_write(&path).unwrap();
        again.write_all_at(b"J", 3).unwrap();
        again.set_len(5).unwrap();
        again.sync_all().unwrap();
        let mut buffer = [0; 8];
        assert_eq!(file.read_full_at(&mut buffer, 0).unwrap(), 5);
        assert_eq!(&buffer[..5], b"\0\0\0Je");

        OsVfs.create(&path).unwrap();
        assert_eq!(file.metadata().unwrap().len, 0);
    }

    #[test]
    fn paths_are_linked_renamed_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        fs::write(path("a"), b"a").unwrap();
        OsVfs.link(&path("a"), &path("old")).unwrap();
        let refused = OsVfs.link(&path("a"), &path("old")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        fs::write(path("b"), b"b").unwrap();
        OsVfs.rename(&path("b"), &path("a")).unwrap();
        OsVfs.sync_directory(directory.path()).unwrap();
        assert_eq!(fs::read(path("a")).unwrap(), b"b");
        assert_eq!(fs::read(path("old")).unwrap(), b"a");
        OsVfs.remove(&path("old")).unwrap();
        assert!(!path("old").exists());
        assert!(OsVfs.open_write(&path("old")).is_err());
        OsVfs.sync_directory(Path::new("")).unwrap();
        OsVfs.create_directory(&path("below")).unwrap();
        let refused = OsVfs.create_directory(&path("below")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        let refused = OsVfs.create_directory(&path("none/below")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_path_is_resolved_whether_or_not_its_file_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir(top.join("data")).unwrap();
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, top.join(name)).unwrap();
        };
        link("data", "directory");
        link("directory/real", "first");
        link("first", "second");
        let real = top.join("data/real");
        for name in [
            "data/real",
            "directory/real",
            "first",
            "second",
            "data/../second",
        ] {
            assert_eq!(OsVfs.real_path(&top.join(name)).unwrap(), real, "{name}");
        }
        fs::write(&real, b"x").unwrap();
        assert_eq!(OsVfs.real_path(&top.join("second")).unwrap(), real);
        assert!(OsVfs.real_path(Path::new("name")).unwrap().is_absolute());
        link("round", "round");
        let refused = OsVfs.real_path(&top.join("round")).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
        let refused = OsVfs.real_path(&top.join("none/real")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_that_takes_the_place_of_another_has_its_permissions() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (directory.path().join("old"), directory.path().join("new"));
        fs::write(&old, b"x").unwrap();
        for mode in [0o600, 0o660, 0o640, 0o444] {
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            fs::set_permissions(&old, permissions).unwrap();
            OsVfs.create_like(&new, &old).unwrap();
            assert_eq!(fs::metadata(&new).unwrap().mode() & 0o777, mode);
            assert!(OsVfs.keeps_access(&old, &new).unwrap());
            OsVfs.remove(&new).unwrap();
        }
        OsVfs.create(&new).unwrap();
        assert!(!OsVfs.keeps_access(&old, &new).unwrap());
    }

    #[test]
    fn a_file_opened_for_reading_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("Data.fs");
        fs::write(&path, b"x").unwrap();
        let file = OsVfs.open_read(&path).unwrap();
        assert!(file.write_all_at(b"y", 0).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }

    #[test]
    fn a_lock_excludes_other_handles_and_goes_with_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let first = OsVfs.create(&path).unwrap();
        let second = OsVfs.open_write(&path).unwrap();
        assert!(first.try_lock().unwrap());
        assert!(!second.try_lock().unwrap());
        first.unlock().unwrap();
        assert!(second.try_lock().unwrap());
        assert!(!first.try_lock().unwrap());
        drop(second);
        assert!(first.try_lock().unwrap());
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
