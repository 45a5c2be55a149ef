//! The log of changes of a simulated file system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// A file, independent of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub(super) u64);

impl FileId {
    /// The absence of a file.
    pub(super) const NONE: Self = Self(u64::MAX);
    /// The target of directories' names.
    pub(super) const DIRECTORY: Self = Self(u64::MAX - 1);
}

/// An operation that changed the file system, or a mark between them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the arguments of the call")]
pub enum Change {
    /// Bytes were written.
    Write {
        file: FileId,
        offset: usize,
        data: Bytes,
    },
    /// A file was truncated or extended.
    SetLen { file: FileId, len: usize },
    /// A file was synced.
    Sync { file: FileId },
    /// Syncing a file failed; what had not been synced is lost.
    FailedSync { file: FileId },
    /// An empty file was created.
    Create { path: PathBuf, file: FileId },
    /// A directory was created.
    CreateDirectory { path: PathBuf },
    /// A file was given another name.
    Link { path: PathBuf, file: FileId },
    /// A file was renamed.
    Rename {
        from: PathBuf,
        to: PathBuf,
        file: FileId,
    },
    /// A name was removed.
    Remove { path: PathBuf },
    /// A directory was synced.
    SyncDirectory { path: PathBuf },
    /// A label set by the test.
    Mark(String),
}

impl Change {
    pub(super) fn apply_to_names(&self, names: &mut BTreeMap<PathBuf, FileId>) {
        match self {
            Self::Create { path, file } | Self::Link { path, file } => {
                names.insert(path.clone(), *file);
            }
            Self::CreateDirectory { path } => {
                names.insert(path.clone(), FileId::DIRECTORY);
            }
            // Its former name, in another directory, may never have become durable.
            Self::Rename { from, to, file } => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Self::Remove { path } => {
                names.remove(path);
            }
            _ => {}
        }
    }

    /// Whether it changes names, and syncing this directory makes it durable.
    pub(super) fn is_in_directory(&self, directory: &Path) -> bool {
        let holds = |path: &Path| without_dot(path.parent()) == without_dot(Some(directory));
        match self {
            Self::Create { path, .. }
            | Self::CreateDirectory { path }
            | Self::Link { path, .. }
            | Self::Remove { path } => holds(path),
            Self::Rename { from, to, .. } => holds(from) || holds(to),
            _ => false,
        }
    }
}

/// The current directory has two spellings.
pub(super) fn without_dot(directory: Option<&Path>) -> Option<&Path> {
    directory.map(|path| path.strip_prefix(".").unwrap_or(path))
}
