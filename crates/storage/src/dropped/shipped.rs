//! The list that a primary's stream sends.

use std::path::Path;

use super::super::file::DataFile;
use super::DroppedList;
use super::tids::Tids;
use crate::error::StorageResult;
use zrs_ids::Tid;
use zrs_vfs::Vfs;

/// The tids after some transaction that a pack has dropped from an open file.
pub struct DroppedTids {
    list: Option<(DroppedList, Tids)>,
}

/// A place between two transactions of a file, or at its end.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// Where the transaction after it begins, or will begin.
    pub position: u64,
    /// Whether the transaction before it is marked as packed.
    pub after_packed: bool,
    /// Whether the transaction after it is marked as packed.
    pub before_packed: bool,
}

impl DroppedTids {
    /// The tids later than `after` in the list of this file.
    pub(crate) fn of(
        vfs: &dyn Vfs,
        path: &Path,
        file: &DataFile,
        after: Tid,
    ) -> StorageResult<Self> {
        let list = DroppedList::of(vfs, path, file)?;
        // The list of an interrupted pack may contain nothing about earlier packs of the file.
        let list = match list.filter(|list| list.binding.complete_after < Tid::MAX) {
            Some(list) => {
                let tids = list.tids_after(after)?;
                Some((list, tids))
            }
            None => None,
        };
        Ok(Self { list })
    }

    /// The list has each dropped transaction that is later than this one; `None` if no list
    /// exists.
    pub fn complete_after(&self) -> Option<Tid> {
        let list = self.list.as_ref();
        list.map(|(list, _)| list.binding.complete_after)
    }

    /// Whether it is known which transactions were dropped between two transactions: either the
    /// list is complete there, or no pack has dropped any.
    pub fn covers(&self, gap: Gap) -> bool {
        let end = self.list.as_ref().map_or(0, |(list, _)| list.binding.end);
        gap.position < end || !gap.before_packed && (gap.position == end || !gap.after_packed)
    }

    /// Passes and returns the next tid if it is earlier than `limit`.
    ///
    /// # Errors
    /// Those of reading the list.
    pub fn next_before(&mut self, limit: Tid) -> StorageResult<Option<Tid>> {
        match &mut self.list {
            Some((_, tids)) => tids.next_before(limit),
            None => Ok(None),
        }
    }

    /// Whether the list has a tid that is earlier than `limit`.
    ///
    /// # Errors
    /// Those of reading the list.
    pub fn has_before(&mut self, limit: Tid) -> StorageResult<bool> {
        match &mut self.list {
            Some((_, tids)) => Ok(tids.peek()?.is_some_and(|tid| tid < limit)),
            None => Ok(false),
        }
    }

    /// Passes a tid that is still in the file: the pack that will drop it is not finished.
    ///
    /// # Errors
    /// Those of reading the list.
    pub fn skip(&mut self, tid: Tid) -> StorageResult<()> {
        match &mut self.list {
            Some((_, tids)) => tids.skip(tid),
            None => Ok(()),
        }
    }

    /// Whether tids in the list that are later than every transaction in the file were dropped
    /// from its end. While a pack is not finished, those transactions may instead have been lost.
    pub fn is_current(&self) -> bool {
        self.list.as_ref().is_some_and(|(list, _)| list.is_current)
    }
}
