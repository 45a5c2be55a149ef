//! Changes of a file, reported by Linux's inotify.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::{Errno, read};

use super::Watch;

/// A watched file. It stays watched when its path comes to name another file; that too is
/// reported, because its link count changes.
pub(super) struct Inotify(OwnedFd);

impl Inotify {
    pub(super) fn watch(path: &Path) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let flags = WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::MOVE_SELF;
        inotify::add_watch(&events, path, flags)?;
        Ok(Self(events))
    }

    /// Discard the pending reports.
    fn forget(&self) -> io::Result<()> {
        let mut events = [0; 4096];
        loop {
            match read(&self.0, &mut events) {
                Ok(0) | Err(Errno::WOULDBLOCK) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Watch for Inotify {
    fn wait(&self, timeout: Duration) -> io::Result<()> {
        // A timeout too long for the system means no timeout.
        let timeout = Timespec::try_from(timeout).ok();
        let mut waited = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut waited, timeout.as_ref()) {
            Ok(0) | Err(Errno::INTR) => Ok(()),
            Ok(_) => self.forget(),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{OsVfs, Vfs};

    /// Whether a report is pending.
    fn is_told(watch: &Inotify) -> bool {
        let mut waited = [PollFd::new(&watch.0, PollFlags::IN)];
        let told = poll(&mut waited, Some(&Timespec::default())).unwrap() > 0;
        watch.wait(Duration::ZERO).unwrap();
        told
    }

    #[test]
    fn what_happens_to_a_file_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        fs::write(path("log"), b"x").unwrap();
        let file = OsVfs.open_write(&path("log")).unwrap();
        let watch = Inotify::watch(&path("log")).unwrap();
        assert!(!is_told(&watch));
        file.write_all_at(b"12", 1).unwrap();
        file.write_all_at(b"3", 3).unwrap();
        assert!(is_told(&watch));
        assert!(!is_told(&watch));
        file.set_len(1).unwrap();
        assert!(is_told(&watch));
        file.metadata().unwrap();
        file.sync_data().unwrap();
        assert!(!is_told(&watch));
        // Another handle keeps it open.
        fs::write(path("new"), b"x").unwrap();
        OsVfs.rename(&path("new"), &path("log")).unwrap();
        assert!(is_told(&watch));
    }

    #[test]
    fn a_missing_file_cannot_be_watched() {
        let directory = tempfile::tempdir().unwrap();
        let watched = OsVfs.watch(&directory.path().join("none"));
        assert_eq!(
            watched.err().map(|error| error.kind()),
            Some(io::ErrorKind::NotFound)
        );
    }
}
