//! Records which blobs lose their record in a pack, so that their files can be removed.

use crate::error::StorageError;
use crate::reader::Reader;
use zrs_ids::{Oid, Tid};

use super::walk::{RecordHead, data_of};

/// The revisions that a pack drops.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// The blob revisions without a record in the packed file, oldest first; empty if they were
    /// not requested. Other revisions of the same blob may be kept or follow later.
    pub blobs: Vec<(Oid, Tid)>,
}

/// Returns whether the data of a record are a blob's. They may be stored in another form than
/// ZODB's pickles.
pub type IsBlob<'a, E> = dyn FnMut(&[u8]) -> Result<bool, E> + 'a;

/// The blob revisions that a pack drops.
#[derive(Default)]
pub(super) struct DroppedBlobs {
    revisions: Vec<(Oid, Tid)>,
    /// The blobs and objects of the current transaction that lose a record, and those that keep
    /// one.
    dropped: Vec<Oid>,
    kept: Vec<Oid>,
}

impl DroppedBlobs {
    /// Notes a record that is not kept.
    pub(super) fn drop_record<E: From<StorageError>>(
        &mut self,
        reader: &Reader,
        revision: &RecordHead,
        is_blob: &mut IsBlob<'_, E>,
    ) -> Result<(), E> {
        let Some(data) = data_of(reader, *revision)? else {
            return Ok(());
        };
        let data = data.read(reader)?;
        if is_blob(&data)? {
            self.dropped.push(revision.header.oid);
        }
        Ok(())
    }

    /// Notes a record that is kept.
    pub(super) fn keep_record(&mut self, revision: &RecordHead) {
        self.kept.push(revision.header.oid);
    }

    /// Ends the transaction of the preceding records.
    ///
    /// Old versions of ZEO stored a blob's record twice in a transaction: if one of the two is
    /// kept, the file is still needed.
    pub(super) fn end_transaction(&mut self, tid: Tid) {
        self.dropped.sort_unstable();
        self.dropped.dedup();
        let kept = std::mem::take(&mut self.kept);
        let gone = self.dropped.drain(..).filter(|oid| !kept.contains(oid));
        self.revisions.extend(gone.map(|oid| (oid, tid)));
        self.kept = kept;
        self.kept.clear();
    }

    pub(super) fn into_revisions(self) -> Vec<(Oid, Tid)> {
        self.revisions
    }
}
