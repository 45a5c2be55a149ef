//! Files and names as a running system sees them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::log::{Change, FileId, without_dot};

/// Files and their names.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    pub(super) files: BTreeMap<FileId, Vec<u8>>,
    pub(super) names: BTreeMap<PathBuf, FileId>,
}

impl Tree {
    /// Add this directory, and the directories that contain it.
    pub(super) fn add_directories(&mut self, path: Option<&Path>) {
        let above = without_dot(path).into_iter().flat_map(Path::ancestors);
        for directory in above.filter(|path| path.parent().is_some()) {
            self.names.insert(directory.to_owned(), FileId::DIRECTORY);
        }
    }

    /// The change as a running system sees it.
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { file, offset, data } => {
                let content = self.files.entry(*file).or_default();
                let end = offset + data.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(data);
            }
            Change::SetLen { file, len } => self.files.entry(*file).or_default().resize(*len, 0),
            Change::Create { file, .. } => {
                self.files.insert(*file, Vec::new());
            }
            _ => {}
        }
        change.apply_to_names(&mut self.names);
    }
}
