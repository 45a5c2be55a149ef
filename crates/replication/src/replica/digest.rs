//! The digest of one transaction: equal for equal transactions, whatever packs have moved.
//!
//! It covers what every peer keeps byte for byte: tid, user, description, and the oid and
//! the data of each record. Positions, `prev` pointers and `data_txn` change with packs; the
//! extension is pickled anew by zc.zrs and in the Python 2 dialect. MD5 guards against
//! accidents, not against forgers, as in the stream.

use std::path::Path;
use std::sync::Arc;

use md5::{Digest as _, Md5};

use crate::proto::Digest;
use zrs_ids::Tid;
use zrs_storage::error::StorageResult;
use zrs_storage::format::TransactionStatus;
use zrs_storage::{DataRecord, StartPosition, Tail, TransactionRecord};
use zrs_vfs::Vfs;

/// What is taken in before anything of the transaction.
const PREFIX: &[u8] = b"zrs transaction 1";
/// Records are taken in until their data have as many bytes.
const ENOUGH: u64 = 16 << 20;
/// What stands for the length of the data where a record undoes its object's creation.
const NO_DATA: u64 = u64::MAX;

/// The digest of a transaction that this tail knows; `None` for one that a pack may have
/// taken records from.
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

/// The digest of the transaction `tid` in the `Data.fs` at `path`; `None` if it is not there,
/// or if a pack may have taken records from it. `end` is where a finished transaction ends.
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

/// The last transaction in the `Data.fs` at `path` of a storage that says that it is `tid`.
///
/// Where the end of a file was cut off because it was not whole, ZODB's storage goes on
/// naming the transaction that was lost. One that a pack removed is taken as given.
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
