//! Tells which blobs lose their record in a pack, so that their files can go.

use crate::error::StorageError;
use crate::ids::{Oid, Tid};
use crate::storage::reader::Reader;

use super::reach::Reachable;
use super::walk::{Revision, data_of, revision_at};

/// How a blob's record names its class.
const BLOB_MODULE: &[u8] = b"ZODB.blob";

/// A record that a pack drops and that may be a blob's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The object.
    pub oid: Oid,
    /// The transaction of the record.
    pub tid: Tid,
    /// Whether no record at all of the object is kept of the time before the pack.
    pub is_garbage: bool,
}

/// Takes a record that may be a blob's (its data name the blobs' module), with its data;
/// to judge them is up to it.
pub type DroppedBlobs<'a, E> = dyn FnMut(Dropped, &[u8]) -> Result<(), E> + 'a;

/// Reports a record that is not kept if it may be a blob's.
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
    let is_blob = data
        .windows(BLOB_MODULE.len())
        .any(|bytes| bytes == BLOB_MODULE);
    if !is_blob {
        return Ok(());
    }
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
