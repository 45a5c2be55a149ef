//! The digest of one transaction. Equal transactions have equal digests, wherever packs have
//! moved them.
//!
//! It covers the parts that every peer keeps byte for byte: tid, user, description, and the oid and
//! the data of each record. Positions, `prev` pointers and `data_txn` change with packs; the
//! extension is pickled again by zc.zrs and in the Python 2 dialect. As in the stream, MD5
//! protects against accidents, not against forgery.

use std::path::Path;
use std::sync::Arc;

use md5::{Digest as _, Md5};

use crate::proto::Digest;
use zrs_ids::Tid;
use zrs_storage::error::StorageResult;
use zrs_storage::format::TransactionStatus;
use zrs_storage::{DataRecord, StartPosition, Tail, TransactionRecord};
use zrs_vfs::Vfs;

/// Digested before the transaction.
const PREFIX: &[u8] = b"zrs transaction 1";
/// Records are digested until their data reach this many bytes.
const ENOUGH: u64 = 16 << 20;
/// Digested in place of the data's length if a record undoes its object's creation.
const NO_DATA: u64 = u64::MAX;

/// The digest of a transaction that the tail has read; `None` if a pack may have removed
/// records from it.
///
/// # Errors
/// Those of reading the file.
pub(super) fn transaction_digest(
    tail: &mut Tail,
    transaction: &TransactionRecord,
) -> StorageResult<Option<Digest>> {
    if transaction.status != TransactionStatus::Complete {
        return Ok(None);
    }
    let mut md5 = Md5::new_with_prefix(PREFIX);
    md5.update(transaction.tid.as_bytes());
    for text in [&transaction.user, &transaction.description] {
        md5.update((text.len() as u64).to_be_bytes());
        md5.update(text);
    }
    let mut taken = 0;
    for record in tail.records(transaction) {
        taken += take_in(&mut md5, &record?);
        if taken >= ENOUGH {
            break;
        }
    }
    Ok(Some(Digest::new(md5.finalize().into())))
}

fn take_in(md5: &mut Md5, record: &DataRecord) -> u64 {
    let data = record.data.as_deref();
    let len = data.map_or(NO_DATA, |data| data.len() as u64);
    md5.update(record.oid.as_bytes());
    md5.update(len.to_be_bytes());
    md5.update(data.unwrap_or_default());
    if data.is_some() { len } else { 0 }
}

/// The digest of the transaction `tid` in the `Data.fs` at `path`; `None` if the file
/// does not have it, or if a pack may have removed records from it. `end` is the end of a
/// finished transaction.
///
/// # Errors
/// Those of reading the file.
pub fn digest_in_file(
    vfs: Arc<dyn Vfs>,
    path: &Path,
    tid: Tid,
    end: Option<u64>,
) -> StorageResult<Option<Digest>> {
    let Some(mut tail) = Tail::open_stoppable(vfs, path, tid, end, None, Arc::default())? else {
        return Ok(None);
    };
    match tail.start_position()? {
        StartPosition::Here(transaction) => transaction_digest(&mut tail, &transaction),
        _ => Ok(None),
    }
}

/// The last transaction in the `Data.fs` at `path`; the storage reports `tid`.
///
/// After the unfinished end of a file was cut off, ZODB's storage still reports the transaction
/// that was lost. A transaction that a pack removed is returned as reported.
///
/// # Errors
/// Those of reading the file.
pub fn last_in_file(
    vfs: Arc<dyn Vfs>,
    path: &Path,
    tid: Tid,
    end: Option<u64>,
) -> StorageResult<Tid> {
    let Some(mut tail) = Tail::open_stoppable(vfs, path, tid, end, None, Arc::default())? else {
        return Ok(tid);
    };
    Ok(match tail.start_position()? {
        StartPosition::Unknown(before) => before,
        _ => tid,
    })
}
