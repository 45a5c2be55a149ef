//! The tids of the transactions that packs have dropped completely, in a file next to the
//! `Data.fs`.
//!
//! Without this list, a transaction that is missing from a file may have been dropped by a pack
//! or may never have been in its history. docs/format.md describes the file's bytes. The list is
//! written before the packed file replaces the old one, so it is bound to both files: to each by
//! the end of the transactions that packs have marked, and by the last of these. A secondary
//! receives the list of its primary, and writes one for its own file (`received`). A list is
//! searched on disk, and written in one pass; it is never completely in memory.

mod binding;
mod packed;
mod received;
mod shipped;
mod tids;
mod write;

use std::io;
use std::path::{Path, PathBuf};

use self::binding::{Binding, HEADER_LEN, Kind, read_header};
pub(super) use self::packed::record;
pub use self::received::ReceivedList;
pub use self::shipped::{DroppedTids, Gap};
use self::tids::{TID_LEN, Tids};
use super::file::{DataFile, io_error};
use super::filestorage::sibling;
use super::seek::Forward;
use crate::error::StorageResult;
use zrs_ids::Tid;
use zrs_vfs::{Vfs, VfsFile};

/// The suffix of the list's name after that of the `Data.fs`.
const SUFFIX: &str = ".dropped";

/// The list that belongs to an open `Data.fs`.
pub(crate) struct DroppedList {
    file: std::sync::Arc<dyn VfsFile>,
    path: PathBuf,
    count: u64,
    binding: Binding,
    /// Whether the packed file is in place; before that, transactions in the list may still be in
    /// the file, or lost with its end in a power failure.
    is_current: bool,
}

/// What a list shows about a transaction that is not in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A pack has dropped it.
    Dropped,
    /// It was never in the file's history.
    Never,
    /// A pack that did not write a list may have dropped it.
    Uncovered,
}

impl DroppedList {
    /// The list of the `Data.fs` at `path`, opened as `file`; `None` if no list exists, or if it
    /// belongs to another file or is damaged, which is logged.
    ///
    /// # Errors
    /// Those of reading `file`.
    pub(crate) fn of(vfs: &dyn Vfs, path: &Path, file: &DataFile) -> StorageResult<Option<Self>> {
        let path = sibling(path, SUFFIX);
        let read = vfs.open_read(&path).and_then(|list| {
            let header = read_header(&*list)?;
            Ok((list, header))
        });
        let (list, (bindings, count)) = match read {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                log::warn!("{}: {error}; ignoring the list", path.display());
                return Ok(None);
            }
        };
        let [current, previous] = bindings;
        let (is_new, is_old) = (current.matches(file)?, previous.matches(file)?);
        let mut dropped = Self {
            file: list,
            path,
            count,
            binding: current,
            is_current: is_new,
        };
        if is_new && is_old {
            dropped.choose(previous, file)?;
        } else if is_old {
            dropped.binding = previous;
        }
        if is_new || is_old {
            return Ok(Some(dropped));
        }
        log::debug!(
            "{}: ignored, since it belongs to another file",
            dropped.path.display()
        );
        Ok(None)
    }

    /// Distinguishes the old file from the new one if one begins like the other: the new one has
    /// the longer marked part. If both are equally long, the pack has dropped transactions that
    /// follow.
    fn choose(&mut self, previous: Binding, file: &DataFile) -> StorageResult<()> {
        let end = self.binding.end;
        if previous.end == end || previous.kind == Kind::Received {
            let next = Forward::new(file, end, Tid::ZERO).header()?;
            // Without one, the end of the old file may have been lost.
            self.is_current = next.is_some();
            match next {
                Some(next) if self.contains(next.tid)? => {}
                _ => return Ok(()),
            }
        } else if previous.end < end {
            return Ok(());
        }
        self.binding = previous;
        self.is_current = false;
        Ok(())
    }

    /// The last transaction in the list, if the pack that wrote it was completed.
    ///
    /// # Errors
    /// Those of reading the list.
    pub(crate) fn last(&self) -> StorageResult<Option<Tid>> {
        match self.count.checked_sub(1).filter(|_| self.is_current) {
            Some(last) => self.tid(last).map(Some),
            None => Ok(None),
        }
    }

    /// What the list shows about a transaction that is not in the file and would begin at
    /// `position` there. `after_packed` is whether the transaction that does begin there is
    /// marked as packed.
    pub(crate) fn answer(
        &self,
        tid: Tid,
        position: u64,
        after_packed: bool,
    ) -> StorageResult<Answer> {
        if self.contains(tid)? {
            return Ok(Answer::Dropped);
        }
        let end = self.binding.end;
        let covered = position < end || position == end && !after_packed;
        Ok(if covered && tid > self.binding.complete_after {
            Answer::Never
        } else {
            Answer::Uncovered
        })
    }

    fn contains(&self, tid: Tid) -> StorageResult<bool> {
        let number = self.count_before(tid)?;
        Ok(number < self.count && self.tid(number)? == tid)
    }

    /// The number of tids that are earlier than this one.
    fn count_before(&self, tid: Tid) -> StorageResult<u64> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if self.tid(middle)? < tid {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The tids that are later than this one.
    fn tids_after(&self, tid: Tid) -> StorageResult<Tids> {
        let next = match tid.as_u64().checked_add(1) {
            Some(first) => self.count_before(Tid::from_u64(first))?,
            None => self.count,
        };
        let offset = HEADER_LEN as u64;
        Ok(Tids::new(&self.file, &self.path, offset, self.count, next))
    }

    fn tid(&self, number: u64) -> StorageResult<Tid> {
        let mut bytes = [0; TID_LEN];
        let offset = HEADER_LEN as u64 + number * TID_LEN as u64;
        let read = self.file.read_full_at(&mut bytes, offset);
        match read {
            Ok(TID_LEN) => Ok(Tid::from_u64(u64::from_be_bytes(bytes))),
            Ok(_) => Err(io_error(&self.path, io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(io_error(&self.path, error)),
        }
    }
}

/// Removes the list of a `Data.fs` that is created again.
pub(super) fn remove(vfs: &dyn Vfs, path: &Path) -> StorageResult<()> {
    let list = sibling(path, SUFFIX);
    match vfs.remove(&list) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&list, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
