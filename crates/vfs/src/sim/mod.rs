//! A file system in memory that loses power and fails, for tests.
//!
//! [`SimVfs`] behaves like a file system and keeps a log of its changes.
//! [`SimVfs::crash_images`] returns what may be left on the disk if the power fails after any
//! number of those changes, and [`SimVfs::fail`] makes calls fail. Equal seeds and equal
//! calls give equal results.
//!
//! What survives a crash:
//! - A file's content is what its last sync made durable. Of what was written since, each
//!   sector of 512 bytes is as it was at that sync or after any write since, whatever its
//!   neighbours are. The length is any that the file had since.
//! - Cutting a file short is not reordered with what is written to the cut-off part.
//! - Names are those that the directory's last sync made durable, then any number of the
//!   changes since, in their order. Syncing a file does not make its name durable, nor does syncing
//!   a directory its own.
//! - After a failed sync what was written since the last one is still read, but reaches
//!   the disk only where it is written again, as on Linux.

mod crash;
mod disk;
mod fault;
mod handle;
mod log;
mod state;
#[cfg(test)]
mod tests;
mod tree;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

pub use self::crash::{CrashImages, Image};
use self::fault::Call;
pub use self::fault::{Extent, Fault};
use self::handle::SimFile;
pub use self::log::{Change, FileId};
use self::state::State;
use self::tree::Tree;
use super::{Metadata, Vfs, VfsFile};

/// The number of random images that [`SimVfs::crash_images`] adds by default.
const SAMPLES: usize = 24;

/// A simulated file system; clones are the same one.
#[derive(Clone, Debug)]
pub struct SimVfs {
    state: Arc<Mutex<State>>,
    seed: u64,
    samples: usize,
}

impl SimVfs {
    /// A file system that has only its top directory. The seed decides what [`crash_images`](Self::crash_images)
    /// samples.
    pub fn new(seed: u64) -> Self {
        Self::of(Tree::default(), seed)
    }

    /// A file system with durable files, and the directories that they are in.
    pub fn with_files<P: Into<PathBuf>>(
        seed: u64,
        files: impl IntoIterator<Item = (P, Vec<u8>)>,
    ) -> Self {
        let mut tree = Tree::default();
        for ((path, content), file) in files.into_iter().zip(0..) {
            let path = path.into();
            tree.add_directories(path.parent());
            tree.names.insert(path, FileId(file));
            tree.files.insert(FileId(file), content);
        }
        Self::of(tree, seed)
    }

    /// Add an empty, durable directory, and the directories that contain it.
    #[must_use]
    pub fn with_directory(self, path: impl AsRef<Path>) -> Self {
        {
            let state = &mut *self.state.lock();
            for tree in [&mut state.base, &mut state.live] {
                tree.add_directories(Some(path.as_ref()));
            }
        }
        self
    }

    fn of(tree: Tree, seed: u64) -> Self {
        let state = State {
            base: tree.clone(),
            live: tree,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            seed,
            samples: SAMPLES,
        }
    }

    /// Set the number of random images per crash, in addition to the systematic ones.
    #[must_use]
    pub fn with_samples(self, samples: usize) -> Self {
        Self { samples, ..self }
    }

    /// Put a label into the log, for instance that a transaction was acknowledged.
    pub fn mark(&self, label: impl Into<String>) {
        self.state.lock().log.push(Change::Mark(label.into()));
    }

    /// The number of changes and marks in the log. A crash may follow any of them.
    pub fn operations(&self) -> usize {
        self.state.lock().log.len()
    }

    /// The log.
    pub fn log(&self) -> Vec<Change> {
        self.state.lock().log.clone()
    }

    /// The current content of a file, as readers see it.
    pub fn content(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.state.lock();
        let file = state.live.names.get(path.as_ref())?;
        state.live.files.get(file).cloned()
    }

    /// The current paths.
    pub fn paths(&self) -> Vec<PathBuf> {
        let state = self.state.lock();
        let names = state.live.names.iter();
        let names = names.filter(|(_, file)| **file != FileId::DIRECTORY);
        names.map(|(path, _)| path.clone()).collect()
    }

    /// Make calls fail from now on, in addition to earlier faults.
    pub fn fail(&self, fault: Fault) {
        self.state.lock().faults.add(fault);
    }

    /// Remove all faults.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// The number of calls so far, including those that change nothing. It is the number of the
    /// next call for a [`Fault`].
    pub fn calls(&self) -> u64 {
        self.state.lock().faults.calls()
    }

    /// The number of injected failures.
    pub fn failures(&self) -> u64 {
        self.state.lock().faults.failures()
    }

    fn open(&self, state: &mut State, file: FileId, writable: bool) -> Arc<dyn VfsFile> {
        state.handles += 1;
        Arc::new(SimFile::new(&self.state, file, writable, state.handles))
    }
}

impl Vfs for SimVfs {
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        let mut state = self.state.lock();
        state.faults.call(Call::Other)?;
        let file = state.content_at(path)?;
        Ok(self.open(&mut state, file, false))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let mut state = self.state.lock();
        state.faults.call(Call::Other)?;
        let file = state.file_at(path)?;
        Ok(handle::metadata(&state, file))
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        let mut state = self.state.lock();
        state.faults.call(Call::Other)?;
        let file = state.content_at(path)?;
        Ok(self.open(&mut state, file, true))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        let mut state = self.state.lock();
        state.faults.call(Call::TakesSpace)?;
        let file = if let Ok(file) = state.file_at(path) {
            state.change(Change::SetLen { file, len: 0 });
            file
        } else {
            state.has_parent(path)?;
            // Files are kept for open handles, so the number is new.
            let file = FileId(state.live.files.len() as u64);
            let path = path.to_owned();
            state.change(Change::Create { path, file });
            file
        };
        Ok(self.open(&mut state, file, true))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.faults.call(Call::TakesSpace)?;
        if state.live.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.has_parent(path)?;
        let path = path.to_owned();
        state.change(Change::CreateDirectory { path });
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.faults.call(Call::TakesSpace)?;
        let file = state.file_at(from)?;
        if state.live.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.has_parent(to)?;
        let path = to.to_owned();
        state.change(Change::Link { path, file });
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.faults.call(Call::Other)?;
        // POSIX: renaming between two names of one file changes nothing.
        let file = state.file_at(from)?;
        state.has_parent(to)?;
        if file != state.file_at(to).unwrap_or(FileId::NONE) {
            let (from, to) = (from.to_owned(), to.to_owned());
            state.change(Change::Rename { from, to, file });
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.faults.call(Call::Other)?;
        state.file_at(path)?;
        let path = path.to_owned();
        state.change(Change::Remove { path });
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.faults.call(Call::Other)?;
        let path = path.to_owned();
        state.change(Change::SyncDirectory { path });
        Ok(())
    }
}
