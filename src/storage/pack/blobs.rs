//! Tells which blobs lose their record in a pack, so that their files can go.

use crate::error::StorageError;
use crate::ids::{Oid, Tid};
use crate::storage::reader::Reader;

use super::reach::Reachable;
use super::walk::{Revision, data_of, revision_at};

/// A record that a pack drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The object.
    pub oid: Oid,
    /// The transaction of the record.
    pub tid: Tid,
    /// Whether no record at all of the object is kept of the time before the pack.
    pub is_garbage: bool,
}

/// Takes a record with its data; to judge whether they are a blob's is up to it, since
/// they may be stored in another form than ZODB's pickles.
pub type DroppedBlobs<'a, E> = dyn FnMut(Dropped, &[u8]) -> Result<(), E> + 'a;

/// Reports a record that is not kept, if it has data.
pub(super) fn report_dropped<E: From<StorageError>>(
    reader: &Reader,
    revision: &Revision,
    reachable: &Reachable,
    blobs: &mut DroppedBlobs<'_, E>,
) -> Result<(), E> {
    let Some(data) = data_of(reader, *revision)? else {
        return Ok(());
    };
    let data = data.read(reader)?;
    let header = revision.header;
    let kept = reachable.get(header.oid);
    if let Some(kept) = kept {
        // An old ZEO stored a blob's record twice in a transaction: the file is still needed.
        let limit = reachable.pack_position;
        if revision_at(reader, kept, limit)?.header.tid == header.tid {
            return Ok(());
        }
    }
    let dropped = Dropped {
        oid: header.oid,
        tid: header.tid,
        is_garbage: kept.is_none(),
    };
    blobs(dropped, &data)
}
