//! The list that a secondary receives from its primary.
//!
//! Received tids are kept in a file next to the `Data.fs` until they are merged with the
//! storage's own list. The storage's history is a prefix of the primary's, so a transaction up to
//! the storage's last one either is in its file or was dropped: by the primary before it could be
//! sent, or by the storage's own packs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::file::{DataFile, io_error};
use super::super::filestorage::sibling;
use super::super::seek::{self, Forward, transaction_before};
use super::DroppedList;
use super::binding::{Binding, Kind};
use super::tids::{BUFFER, TID_LEN, Tids};
use super::write::{Failed, Listed, TidWriter, replace};
use crate::error::StorageResult;
use zrs_ids::Tid;
use zrs_vfs::{Identity, Vfs, VfsFile};

/// A file without a list is compared with all of the primary's history up to this length.
const COMPARED_LEN: u64 = 1 << 30;
const SUFFIX: &str = ".dropped.part";

/// A list that is being received.
pub struct ReceivedList {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    /// The storage's own list is valid up to this transaction.
    after: Tid,
    /// Received tids after that and up to this transaction may be in the file.
    compared_to: Tid,
    complete_after: Tid,
    /// Whether the storage has a list.
    has_list: bool,
    /// The file for which that was determined.
    identity: Identity,
    /// The position up to which the list was last written.
    written: u64,
    /// The number of tids in the list that was last read or written.
    listed: u64,
    pending_tids: PendingTids,
}

impl ReceivedList {
    /// Begins to receive the list for the storage in the `Data.fs` at `path`, whose last
    /// transaction is `start`. `primary_has_list` is whether the primary will send one.
    ///
    /// # Errors
    /// Those of reading the files.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        path: &Path,
        start: Tid,
        primary_has_list: bool,
    ) -> StorageResult<Self> {
        let file = DataFile::open(&*vfs, &path.into())?;
        let metadata = file.metadata()?;
        let own = DroppedList::of(&*vfs, path, &file)?;
        let own = own.filter(|list| list.binding.complete_after < Tid::MAX);
        let is_compared = primary_has_list && metadata.len <= COMPARED_LEN;
        let (after, complete_after, written) = match &own {
            Some(list) => {
                let Binding {
                    last,
                    complete_after,
                    end,
                    ..
                } = list.binding;
                (last, complete_after, end)
            }
            None if is_compared => (Tid::ZERO, Tid::ZERO, 0),
            None => (start, start, 0),
        };
        Ok(Self {
            pending_tids: PendingTids::new(&vfs, path),
            vfs,
            path: path.to_owned(),
            after: after.min(start),
            compared_to: start,
            complete_after,
            has_list: own.is_some(),
            identity: metadata.identity,
            written,
            listed: own.map_or(0, |list| list.count),
        })
    }

    /// The storage's own list is valid up to this transaction: the primary is asked for what
    /// follows.
    pub fn after(&self) -> Tid {
        self.after
    }

    /// Whether the storage has a list.
    pub fn has_list(&self) -> bool {
        self.has_list
    }

    /// The position up to which the list was last written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The number of tids that are not written yet.
    pub fn pending(&self) -> u64 {
        self.pending_tids.pending()
    }

    /// Whether to write the list although more tids will be received: the cost of writing a list
    /// grows with its length.
    pub fn is_long(&self) -> bool {
        self.pending() >= self.listed.max((BUFFER / TID_LEN) as u64)
    }

    /// It is unknown what the primary has dropped up to this transaction.
    pub fn raise(&mut self, complete_after: Tid) {
        self.complete_after = self.complete_after.max(complete_after);
    }

    /// Received tids up to this transaction may be in the file.
    pub fn compare_to(&mut self, tid: Tid) {
        self.compared_to = self.compared_to.max(tid);
    }

    /// Keeps a tid that is later than the previous ones.
    ///
    /// # Errors
    /// Those of writing the file of pending tids.
    pub fn add(&mut self, tid: Tid) -> StorageResult<()> {
        self.pending_tids.add(tid)
    }

    /// Writes the list of `file`, valid up to the transaction `to`, with the tids received up to
    /// it; `end` is where that transaction or a later one ends. `is_listing` is whether packs of
    /// this storage write lists. Returns false, and does nothing, while the storage has no
    /// transaction.
    ///
    /// # Errors
    /// Those of reading the files and of writing the list; the old list stays then.
    pub fn write(
        &mut self,
        file: &DataFile,
        end: u64,
        to: Tid,
        is_listing: bool,
    ) -> StorageResult<bool> {
        let found = seek::find_after(file, to, Some(end), None, &|| false)?;
        let Some(place) = found.map(|found| found.position) else {
            return Ok(false);
        };
        let Some(last) = transaction_before(file, place)? else {
            return Ok(false);
        };
        let own = DroppedList::of(&*self.vfs, &self.path, file)?;
        let own = own.filter(|list| list.binding.complete_after < Tid::MAX);
        self.judge(file, own.as_ref(), to, is_listing)?;
        let binding = Binding {
            kind: Kind::Received,
            end: place,
            last: last.tid,
            complete_after: self.complete_after,
        };
        let is_current = own.as_ref().is_none_or(|list| list.is_current);
        // The file still has the transactions that an unfinished pack has listed.
        let compared_from = if is_current { self.after } else { Tid::ZERO };
        let compared_to = if is_current {
            self.compared_to
        } else {
            Tid::MAX
        };
        let mut present = Present::new(file, compared_from, compared_to)?;
        let mut listed = Listed::of_complete(own.as_ref(), is_current, to)?;
        let mut pending = self.pending_tids.tids()?;
        let mut count = 0;
        replace(&*self.vfs, &self.path, |output| {
            let limit = Tid::from_u64(to.as_u64().saturating_add(1));
            while let Some(tid) = pending.next_before(limit)? {
                listed.write_before_unless(tid, output, &mut present)?;
                write_unless(tid, output, &mut present)?;
            }
            listed.write_before_unless(Tid::MAX, output, &mut present)?;
            output.flush().map_err(Failed::Writing)?;
            count = output.count;
            Ok([binding, Binding::NONE])
        })?;
        self.pending_tids.pass(pending.position());
        self.has_list = true;
        self.listed = count;
        self.written = place;
        self.after = self.after.max(to);
        Ok(true)
    }

    /// The storage's current list limits what the new one can claim.
    fn judge(
        &mut self,
        file: &DataFile,
        own: Option<&DroppedList>,
        to: Tid,
        is_listing: bool,
    ) -> StorageResult<()> {
        let identity = file.metadata()?.identity;
        let was_packed = std::mem::replace(&mut self.identity, identity) != identity;
        match own {
            Some(list) if is_listing || !was_packed => self.raise(list.binding.complete_after),
            // The list was removed, or a pack did not write one.
            _ if was_packed || self.has_list => self.raise(to),
            _ => {}
        }
        Ok(())
    }
}

fn write_unless(
    tid: Tid,
    output: &mut TidWriter<'_>,
    present: &mut Present<'_>,
) -> Result<(), Failed> {
    if !present.has(tid)? {
        output.add(tid)?;
    }
    Ok(())
}

impl Listed {
    /// The tids of a list; if its pack was not finished, only those up to `to`, since the end of
    /// the file may have been lost.
    fn of_complete(list: Option<&DroppedList>, is_current: bool, to: Tid) -> StorageResult<Self> {
        let listed = Self::new(list)?;
        Ok(if is_current { listed } else { listed.up_to(to) })
    }

    fn write_before_unless(
        &mut self,
        tid: Tid,
        output: &mut TidWriter<'_>,
        present: &mut Present<'_>,
    ) -> Result<(), Failed> {
        while let Some(found) = self.next_before(tid)? {
            write_unless(found, output, present)?;
        }
        self.skip(tid)?;
        Ok(())
    }
}

/// The transactions in a part of a file; must be queried with ascending tids.
struct Present<'file> {
    walk: Option<Forward<'file>>,
    from: Tid,
    to: Tid,
    next: Option<Tid>,
}

impl<'file> Present<'file> {
    /// The part after the transaction `from` up to the transaction `to`.
    fn new(file: &'file DataFile, from: Tid, to: Tid) -> StorageResult<Self> {
        let walk = if from < to {
            let found = seek::find_after(file, from, None, None, &|| false)?;
            found.map(|found| Forward::new(file, found.position, Tid::ZERO))
        } else {
            None
        };
        Ok(Self {
            walk,
            from,
            to,
            next: None,
        })
    }

    fn has(&mut self, tid: Tid) -> StorageResult<bool> {
        if tid <= self.from || tid > self.to {
            return Ok(false);
        }
        while self.next.is_none_or(|next| next < tid) {
            let Some(walk) = &mut self.walk else {
                break;
            };
            match walk.header()? {
                Some(header) => self.next = Some(header.tid),
                None => self.walk = None,
            }
        }
        Ok(self.next == Some(tid))
    }
}

/// Received tids that are not in the list yet. They are in a file if they are too many for
/// memory; it is removed in the end.
struct PendingTids {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    like: PathBuf,
    file: Option<Arc<dyn VfsFile>>,
    buffer: Vec<u8>,
    /// The number of tids in the file.
    count: u64,
    /// The number of tids that are in the list.
    passed: u64,
}

impl PendingTids {
    fn new(vfs: &Arc<dyn Vfs>, path: &Path) -> Self {
        Self {
            vfs: Arc::clone(vfs),
            path: sibling(path, SUFFIX),
            like: path.to_owned(),
            file: None,
            buffer: Vec::new(),
            count: 0,
            passed: 0,
        }
    }

    fn pending(&self) -> u64 {
        self.count + (self.buffer.len() / TID_LEN) as u64 - self.passed
    }

    fn add(&mut self, tid: Tid) -> StorageResult<()> {
        self.buffer.extend_from_slice(tid.as_bytes());
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> StorageResult<Arc<dyn VfsFile>> {
        let error = |error| io_error(&self.path, error);
        let file = if let Some(file) = &self.file {
            Arc::clone(file)
        } else {
            let file = self.vfs.create_like(&self.path, &self.like);
            Arc::clone(self.file.insert(file.map_err(error)?))
        };
        let offset = self.count * TID_LEN as u64;
        file.write_all_at(&self.buffer, offset).map_err(error)?;
        self.count += (self.buffer.len() / TID_LEN) as u64;
        self.buffer.clear();
        Ok(file)
    }

    /// The pending tids.
    fn tids(&mut self) -> StorageResult<Tids> {
        let file = self.flush()?;
        Ok(Tids::new(&file, &self.path, 0, self.count, self.passed))
    }

    /// Notes that the tids up to this number are in the list.
    fn pass(&mut self, number: u64) {
        self.passed = number;
        if self.pending() == 0 {
            (self.count, self.passed) = (0, 0);
        }
    }
}

impl Drop for PendingTids {
    fn drop(&mut self) {
        if self.file.is_some() {
            // The file may already be removed.
            let _ = self.vfs.remove(&self.path);
        }
    }
}
