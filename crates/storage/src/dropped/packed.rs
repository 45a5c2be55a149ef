//! Writes the list of a pack: the transactions that are missing from the packed file, and those
//! in earlier lists.

use std::path::Path;

use super::super::file::DataFile;
use super::super::seek::Forward;
use super::DroppedList;
use super::binding::{Binding, Kind};
use super::write::{Failed, Listed, TidWriter, replace};
use crate::error::StorageResult;
use crate::format::{FIRST_TRANSACTION, TransactionStatus};
use zrs_ids::Tid;
use zrs_vfs::Vfs;

/// Writes the list of what a pack of `source` up to `end` has dropped, merged with earlier lists,
/// next to the `Data.fs` at `path`. The packed file is `packed`, complete except for transactions
/// that the pack will copy unchanged; `time` is the pack time. The list is durable when this
/// returns.
///
/// # Errors
/// Those of reading the files and of writing the list; the old list stays then.
/// Those of reading the files and of writing the list; the old list stays then.
pub(crate) fn record(
    vfs: &dyn Vfs,
    path: &Path,
    source: &DataFile,
    end: u64,
    packed: &DataFile,
    time: Tid,
) -> StorageResult<()> {
    let earlier = DroppedList::of(vfs, path, source)?;
    let previous = match &earlier {
        Some(list) => list.binding,
        None => unlisted(source)?,
    };
    replace(vfs, path, |output| {
        let current = write_tids(output, earlier.as_ref(), source, end, packed, time)?;
        Ok([current, previous])
    })
}

/// The binding of a file without a list.
fn unlisted(file: &DataFile) -> StorageResult<Binding> {
    let (end, last) = Kept::new(file).packed_end()?;
    Ok(Binding {
        kind: Kind::Packed,
        end,
        last,
        complete_after: Tid::MAX,
    })
}

/// Merges the tids of an earlier list with those that `source` has but `packed` does not.
fn write_tids(
    output: &mut TidWriter<'_>,
    earlier: Option<&DroppedList>,
    source: &DataFile,
    end: u64,
    packed: &DataFile,
    time: Tid,
) -> Result<Binding, Failed> {
    let mut listed = Listed::new(earlier)?;
    let mut kept = Kept::new(packed);
    let (covered, mut complete_after) = earlier.map_or((0, Tid::ZERO), |list| {
        (list.binding.end, list.binding.complete_after)
    });
    let mut behind_unlisted = false;
    let mut last = Tid::ZERO;
    let mut walk = Forward::new(source, FIRST_TRANSACTION, Tid::ZERO);
    while walk.position() < end {
        let at = walk.position();
        let Some(header) = walk.header()? else { break };
        last = header.tid;
        let is_packed = header.status == TransactionStatus::Packed;
        if is_packed && at >= covered {
            // An earlier pack did not list the transactions that it dropped here.
            behind_unlisted = true;
        } else if std::mem::take(&mut behind_unlisted) {
            complete_after = Tid::from_u64(header.tid.as_u64() - 1);
        }
        if !kept.has(header.tid)? {
            listed.write_before(header.tid, output)?;
            output.add(header.tid)?;
        }
    }
    if behind_unlisted {
        complete_after = time.max(last);
    }
    listed.write_before(Tid::MAX, output)?;
    output.flush().map_err(Failed::Writing)?;
    let (end, last) = kept.packed_end()?;
    Ok(Binding {
        kind: Kind::Packed,
        end,
        last,
        complete_after,
    })
}

/// The transactions of a packed file, in order.
struct Kept<'file> {
    walk: Forward<'file>,
    next: Option<Tid>,
    /// Where the marked transactions at the beginning end, and the last of them.
    packed: (u64, Tid),
    is_in_packed: bool,
    begun: bool,
}

impl<'file> Kept<'file> {
    fn new(file: &'file DataFile) -> Self {
        Self {
            walk: Forward::new(file, FIRST_TRANSACTION, Tid::ZERO),
            next: None,
            packed: (0, Tid::ZERO),
            is_in_packed: true,
            begun: false,
        }
    }

    fn advance(&mut self) -> StorageResult<()> {
        self.begun = true;
        let header = self.walk.header()?;
        self.next = header.as_ref().map(|header| header.tid);
        match header {
            Some(header) if self.is_in_packed && header.status == TransactionStatus::Packed => {
                self.packed = (self.walk.position(), header.tid);
            }
            _ => self.is_in_packed = false,
        }
        Ok(())
    }

    /// Whether the file has `tid`; must be called with ascending tids.
    fn has(&mut self, tid: Tid) -> StorageResult<bool> {
        while !self.begun || self.next.is_some_and(|next| next < tid) {
            self.advance()?;
        }
        Ok(self.next == Some(tid))
    }

    fn packed_end(&mut self) -> StorageResult<(u64, Tid)> {
        while self.is_in_packed {
            self.advance()?;
        }
        Ok(self.packed)
    }
}
