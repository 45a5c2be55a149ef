//! A group that a full disk stops is cut off. A power cut after that may leave the old length
//! with zeros from the cut to the end of its sector, and the file must open.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use zrs_ids::{Oid, Tid};
use zrs_storage::filestorage::{FileStorage, Options, Restorer, TransactionMeta};
use zrs_vfs::sim::{Extent, Fault, SimVfs};

const PATH: &str = "Data.fs";
const ENOSPC: i32 = 28;

fn open(vfs: SimVfs) -> FileStorage {
    FileStorage::open(Arc::new(vfs), Path::new(PATH), Options::default()).unwrap()
}

/// Restore a group of transactions; returns whether that succeeded.
fn restore_group(storage: &Arc<FileStorage>) -> bool {
    let mut restorer = Restorer::new(Arc::clone(storage));
    let data = Bytes::from(vec![b'd'; 900]);
    for number in 1..3 {
        let tid = Tid::from_u64(number << 32);
        // An undo of a transaction in the group reads it, so the group is written before.
        let undone = (number > 1).then(|| Tid::from_u64(1 << 32));
        let meta = TransactionMeta {
            tid,
            status: b' ',
            user: Bytes::from_static(b"user"),
            description: Bytes::new(),
            extension: Bytes::new(),
        };
        let mut done = restorer.begin(&meta);
        for oid in 0..4 {
            done =
                done.and_then(|()| restorer.restore(Oid::from_u64(oid), tid, Some(&data), undone));
        }
        let done = done.and_then(|()| restorer.commit());
        if done.is_err() {
            return false;
        }
    }
    restorer.flush::<Infallible>(None).is_ok()
}

#[test]
fn a_file_opens_after_a_full_disk_and_a_power_cut() {
    for call in 0.. {
        let vfs = SimVfs::new(0).with_samples(300);
        let storage = Arc::new(open(vfs.clone()));
        vfs.fail(Fault {
            call: vfs.calls() + call,
            errno: ENOSPC,
            extent: Extent::TakesSpace,
            short: false,
        });
        let result = restore_group(&storage);
        for image in vfs.crash_images(vfs.operations()) {
            let last = open(image.open()).last_transaction().unwrap();
            assert!(result || last == Tid::ZERO, "{last}");
        }
        if result {
            return;
        }
    }
}
