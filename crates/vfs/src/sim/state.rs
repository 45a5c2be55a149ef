//! What all clones and open files of a simulated file system share.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::fault::Faults;
use super::log::{Change, FileId, without_dot};
use super::tree::Tree;

/// What all clones and open files of a simulated file system share.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The initial, durable state.
    pub(super) base: Tree,
    /// The visible state.
    pub(super) live: Tree,
    pub(super) log: Vec<Change>,
    pub(super) faults: Faults,
    /// The handle that holds each file's lock.
    pub(super) locks: BTreeMap<FileId, u64>,
    pub(super) handles: u64,
}

impl State {
    /// Apply a change and log it.
    pub(super) fn change(&mut self, change: Change) {
        self.live.apply(&change);
        self.log.push(change);
    }

    /// Check that the directory of a new name exists.
    pub(super) fn has_parent(&self, path: &Path) -> io::Result<()> {
        match without_dot(path.parent()) {
            Some(parent) if parent.parent().is_some() => match self.file_at(parent)? {
                FileId::DIRECTORY => Ok(()),
                _ => Err(io::ErrorKind::NotADirectory.into()),
            },
            _ => Ok(()),
        }
    }

    pub(super) fn file_at(&self, path: &Path) -> io::Result<FileId> {
        let file = self.live.names.get(path).copied();
        file.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The file at a path, which must not be a directory.
    pub(super) fn content_at(&self, path: &Path) -> io::Result<FileId> {
        match self.file_at(path)? {
            FileId::DIRECTORY => Err(io::ErrorKind::IsADirectory.into()),
            file => Ok(file),
        }
    }
}
