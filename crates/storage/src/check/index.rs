//! The index file, compared with what a scan of the file finds.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::problem::{Fault, Problem};
use crate::index::Index;
use crate::index_file::read_index;
use zrs_ids::{Oid, Tid};
use zrs_vfs::{Vfs, VfsFile};

/// How many wrong positions are told one by one.
const TOLD: u64 = 20;

/// What is known of the index file.
pub(super) enum SavedIndex {
    /// There is none, or it is compared already.
    None,
    /// It cannot be read, for this reason.
    Unreadable(String),
    /// It knows the file up to a position.
    Until(u64, Index),
}

impl SavedIndex {
    /// Read the index of the file at `path`.
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

    /// Compare with what the file has up to `position`, if that is how far the index goes.
    pub(super) fn compare_at(&mut self, position: u64, scanned: &Index, out: &mut Vec<Problem>) {
        match self {
            Self::Until(end, index) if *end == position => {
                compare(index, scanned, out);
                *self = Self::None;
            }
            Self::Until(..) | Self::Unreadable(_) | Self::None => {}
        }
    }

    /// What is wrong with it if it was never compared.
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
        if wrong <= TOLD {
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
    if let Some(count) = wrong.checked_sub(TOLD).filter(|count| *count > 0) {
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
