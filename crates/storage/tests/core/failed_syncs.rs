//! After a failed sync the system may drop what it could not write and report success the next
//! time, so nothing becomes durable by another attempt.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use zrs_ids::{Oid, Tid};
use zrs_storage::error::StorageError;
use zrs_storage::filestorage::{FileStorage, Options, Restorer, TransactionMeta};
use zrs_vfs::sim::{Extent, Fault, SimVfs};

const PATH: &str = "Data.fs";
const EIO: i32 = 5;

fn restore(storage: &Arc<FileStorage>, tid: Tid) {
    let mut restorer = Restorer::new(Arc::clone(storage));
    let meta = TransactionMeta {
        tid,
        status: b' ',
        user: Bytes::new(),
        description: Bytes::new(),
        extension: Bytes::new(),
    };
    restorer.begin(&meta).unwrap();
    let data = Bytes::from_static(b"data");
    restorer.restore(Oid::ZERO, tid, Some(&data), None).unwrap();
    restorer.commit().unwrap();
    restorer.flush::<Infallible>(None).unwrap();
}

#[test]
fn a_sync_after_a_failed_one_makes_nothing_durable() {
    let vfs = SimVfs::new(0);
    let storage = FileStorage::open(Arc::new(vfs.clone()), Path::new(PATH), Options::default());
    let storage = Arc::new(storage.unwrap());
    let (first, second) = (Tid::from_u64(1 << 32), Tid::from_u64(2 << 32));
    restore(&storage, first);
    storage.sync_status().unwrap();
    restore(&storage, second);
    vfs.fail(Fault {
        call: vfs.calls(),
        errno: EIO,
        extent: Extent::Once,
        short: false,
    });
    assert!(matches!(
        storage.sync_status(),
        Err(StorageError::Io { .. })
    ));
    assert!(matches!(
        storage.sync_status(),
        Err(StorageError::Failed { .. })
    ));
    assert_eq!(storage.durable().1, first);
    let image = vfs.crash_images(vfs.operations()).next().unwrap();
    let vfs = Arc::new(image.open());
    let recovered = FileStorage::open(vfs, Path::new(PATH), Options::default()).unwrap();
    assert_eq!(recovered.last_transaction().unwrap(), first);
}
