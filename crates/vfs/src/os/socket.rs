//! UNIX sockets in the file system, where a path may also name a file with data.

use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{self, Path, PathBuf};

use crate::Identity;

/// A UNIX socket that a server has bound to a path.
#[derive(Clone, Debug)]
pub struct SocketPath {
    /// Absolute: the process may change its directory before the socket is removed.
    path: PathBuf,
    identity: Identity,
}

impl SocketPath {
    /// The socket at `path`.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if anything but a socket is there, a symbolic link
    /// included; the system's.
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        if !FileType::is_socket(&metadata.file_type()) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the path exists and is not a socket",
            ));
        }
        Ok(Self {
            path: path::absolute(path)?,
            identity: Identity {
                device: metadata.dev(),
                inode: metadata.ino(),
            },
        })
    }

    /// Remove the path if it still names this socket.
    ///
    /// # Errors
    /// Those of [`Self::of`].
    pub fn remove(&self) -> io::Result<()> {
        if Self::of(&self.path)?.identity != self.identity {
            return Ok(());
        }
        #[expect(clippy::disallowed_methods, reason = "this is where files are removed")]
        fs::remove_file(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_the_socket_itself_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let first = UnixListener::bind(&path).unwrap();
        let bound = SocketPath::of(&path).unwrap();
        let aside = directory.path().join("aside");
        #[expect(clippy::disallowed_methods, reason = "a test's own files")]
        fs::rename(&path, aside).unwrap();
        assert_eq!(bound.remove().unwrap_err().kind(), io::ErrorKind::NotFound);

        let second = UnixListener::bind(&path).unwrap();
        bound.remove().unwrap();
        assert!(path.exists(), "another server's socket");
        SocketPath::of(&path).unwrap().remove().unwrap();
        assert!(!path.exists());

        fs::write(&path, b"data").unwrap();
        assert_eq!(
            bound.remove().unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(fs::read(&path).unwrap(), b"data");
        drop((first, second));
    }
}
