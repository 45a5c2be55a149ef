//! Positions where transactions are known to begin, from a storage's index.
//!
//! A `Data.fs` has no index of transactions, and a scan that starts in the middle of a file
//! cannot distinguish a transaction from one inside a record's data. But a storage's index of
//! objects leads to data records, each of which has the position of its transaction. Positions
//! and tids ascend together, so a few reads bisect the file.
//!
//! A [`FileStorage`] provides its index directly. For any other storage, the hints come from its
//! index file, which may be outdated; every hint is verified before it is used.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use super::file::DataFile;
use super::filestorage::{FileStorage, sibling};
use super::index::Index;
use super::index_file::{FromStart, OBJECT_LEN, sample_index};
use crate::format::{
    DATA_HEADER_LEN, DataHeader, FIRST_TRANSACTION, TRANSACTION_HEADER_LEN, TransactionHeader,
};
use zrs_ids::{Oid, Tid};
use zrs_vfs::Vfs;

/// The maximum number of objects to take from the index.
const SAMPLES: usize = 1 << 14;

/// What a storage's index shows about the positions of transactions in its file.
#[derive(Clone)]
pub struct SeekHints(Source);

#[derive(Clone)]
enum Source {
    Storage(Weak<FileStorage>),
    IndexFile { vfs: Arc<dyn Vfs>, path: PathBuf },
}

/// Positions between which the first transaction after a given one begins, or ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Where a transaction that is not later than the given one begins.
    pub(super) lower: Option<u64>,
    /// Where a transaction that is later begins.
    pub(super) upper: Option<u64>,
}

impl SeekHints {
    /// Hints from the index of this storage, while it exists.
    pub fn new(storage: &Arc<FileStorage>) -> Self {
        Self(Source::Storage(Arc::downgrade(storage)))
    }

    /// Hints from the index file of the `Data.fs` at `path`.
    pub fn saved(vfs: Arc<dyn Vfs>, path: &Path) -> Self {
        let path = sibling(path, ".index");
        Self(Source::IndexFile { vfs, path })
    }

    /// The nearest known positions around the end of the transaction `tid` in `file`; `None` if
    /// that is not the storage's current file.
    pub(super) fn around(&self, file: &DataFile, tid: Tid) -> Option<Bounds> {
        let samples = match &self.0 {
            Source::Storage(storage) => {
                let (own, index) = storage.upgrade()?.file_and_index();
                // Both files are open, so equal identities mean the same file.
                if own.metadata().ok()?.identity != file.metadata().ok()?.identity {
                    return None;
                }
                samples(&index)
            }
            Source::IndexFile { vfs, path } => saved_samples(&**vfs, path)?,
        };
        bisect(file, &samples, tid)
    }
}

impl fmt::Debug for SeekHints {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SeekHints").finish_non_exhaustive()
    }
}

/// Some objects and their positions, in the order of the file.
fn samples(index: &Index) -> Vec<(u64, Oid)> {
    let step = index.len() / SAMPLES + 1;
    let mut samples: Vec<_> = index
        .iter()
        .step_by(step)
        .map(|(oid, position)| (position, oid))
        .collect();
    samples.sort_unstable();
    samples
}

/// Like [`samples`], but from an index file; `None` if it cannot be read.
fn saved_samples(vfs: &dyn Vfs, path: &Path) -> Option<Vec<(u64, Oid)>> {
    let file = vfs.open_read(path).ok()?;
    let length = usize::try_from(file.metadata().ok()?.len).ok()?;
    let step = length / OBJECT_LEN / SAMPLES + 1;
    let objects = sample_index(FromStart::buffered(file), step).ok()?;
    let mut samples: Vec<_> = (objects.into_iter())
        .map(|(oid, position)| (position, oid))
        .collect();
    samples.sort_unstable();
    Some(samples)
}

/// `None` if a record is not where the index has it: then the index is not used.
fn bisect(file: &DataFile, samples: &[(u64, Oid)], tid: Tid) -> Option<Bounds> {
    let mut bounds = Bounds::default();
    let (mut low, mut high) = (0, samples.len());
    while low < high {
        let middle = low.midpoint(high);
        let (position, oid) = *samples.get(middle)?;
        let (found, begin) = transaction_of(file, position, oid)?;
        if found <= tid {
            bounds.lower = Some(begin);
            low = middle + 1;
        } else {
            bounds.upper = Some(begin);
            high = middle;
        }
    }
    Some(bounds)
}

/// The transaction of the record of `oid` at `position`, and where it begins.
fn transaction_of(file: &DataFile, position: u64, oid: Oid) -> Option<(Tid, u64)> {
    let mut bytes = [0; DATA_HEADER_LEN];
    if file.read_at_most(&mut bytes, position).ok()? < bytes.len() {
        return None;
    }
    let record = DataHeader::parse(&bytes).ok()?;
    let begin = record.tloc;
    if record.oid != oid || begin < FIRST_TRANSACTION || begin >= position {
        return None;
    }
    let mut bytes = [0; TRANSACTION_HEADER_LEN];
    if file.read_at_most(&mut bytes, begin).ok()? < bytes.len() {
        return None;
    }
    let header = TransactionHeader::parse(&bytes).ok()?;
    let is_it = header.tid == record.tid
        && header.status.is_finished()
        && header.end(begin).is_ok_and(|end| end > position);
    is_it.then_some((record.tid, begin))
}

#[cfg(test)]
mod tests;
