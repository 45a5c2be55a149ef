//! Compares the index file with a scan of the data file.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::problem::{Fault, Problem};
use crate::index::Index;
use crate::index_file::read_index;
use zrs_ids::{Oid, Tid};
use zrs_vfs::{Vfs, VfsFile};

/// Report at most this many wrong positions individually.
const MAX_REPORTED: u64 = 20;

/// The result of reading the index file.
pub(super) enum SavedIndex {
    /// The file does not exist, or was already compared.
    None,
    /// The file cannot be read, for this reason.
    Unreadable(String),
    /// An index of the data file up to a position.
    Until(u64, Index),
}

impl SavedIndex {
    /// Read the index file of the `Data.fs` at `path`.
    pub(super) fn read(vfs: &dyn Vfs, path: &std::path::Path) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push(".index");
        let file = match vfs.open_read(&PathBuf::from(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::None,
            Err(error) => return Self::Unreadable(error.to_string()),
        };
        let from_start = FromStart { file, offset: 0 };
        match read_index(io::BufReader::with_capacity(1024 * 1024, from_start)) {
            Ok((end, index)) => Self::Until(end, index),
            Err(error) => Self::Unreadable(error.to_string()),
        }
    }

    /// Compare the index with the scan if the scan has reached the position that the index
    /// covers.
    pub(super) fn compare_at(&mut self, position: u64, scanned: &Index, out: &mut Vec<Problem>) {
        match self {
            Self::Until(end, index) if *end == position => {
                compare(index, scanned, out);
                *self = Self::None;
            }
            Self::Until(..) | Self::Unreadable(_) | Self::None => {}
        }
    }

    /// The problem to report if the index was not compared.
    pub(super) fn left_over(&mut self) -> Option<Problem> {
        let (position, fault) = match std::mem::replace(self, Self::None) {
            Self::None => return None,
            Self::Unreadable(reason) => (0, Fault::IndexUnreadable(reason)),
            Self::Until(end, _) => (end, Fault::IndexEnd { end }),
        };
        Some(problem(position, None, fault))
    }
}

fn compare(index: &Index, scanned: &Index, out: &mut Vec<Problem>) {
    let mut wrong = 0;
    let mut tell = |oid, found: u64, expected: u64| {
        wrong += 1;
        if wrong <= MAX_REPORTED {
            let position = if expected == 0 { found } else { expected };
            let fault = Fault::IndexEntry { found, expected };
            out.push(problem(position, Some(oid), fault));
        }
    };
    for (oid, expected) in scanned {
        let found = index.get(oid).unwrap_or(0);
        if found != expected {
            tell(oid, found, expected);
        }
    }
    for (oid, found) in index {
        if scanned.get(oid).is_none() {
            tell(oid, found, 0);
        }
    }
    if let Some(count) = wrong.checked_sub(MAX_REPORTED).filter(|count| *count > 0) {
        out.push(problem(0, None, Fault::IndexEntries { count }));
    }
}

fn problem(position: u64, oid: Option<Oid>, fault: Fault) -> Problem {
    Problem {
        position,
        tid: None::<Tid>,
        oid,
        skipped: 0,
        fault,
    }
}

/// Reads a file from its start.
struct FromStart {
    file: Arc<dyn VfsFile>,
    offset: u64,
}

impl io::Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
