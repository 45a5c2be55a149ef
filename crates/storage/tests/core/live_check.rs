//! A check of a file that a storage is writing to.

use std::fs;
use std::sync::Arc;

use zrs_ids::{Oid, Tid};
use zrs_storage::check::{Check, CheckOptions};
use zrs_storage::format::{DataHeader, MAGIC, TransactionHeader, TransactionStatus};
use zrs_vfs::os::OsVfs;

/// A transaction with one record, of an object with the same number.
fn transaction(number: u64, tloc: u64) -> Vec<u8> {
    let tid = Tid::from_u64(number);
    let data = DataHeader {
        oid: Oid::from_u64(number),
        tid,
        prev: 0,
        tloc,
        data_len: 10,
    };
    let header = TransactionHeader {
        tid,
        length: 23 + 42 + 10,
        status: TransactionStatus::Complete,
        user_len: 0,
        description_len: 0,
        extension_len: 0,
    };
    let length = header.length.to_be_bytes();
    [
        &header.to_bytes()[..],
        &data.to_bytes(),
        &[b'd'; 10],
        &length,
    ]
    .concat()
}

/// The check read ahead, and used bytes that it had read before the transaction was complete.
#[test]
fn a_transaction_that_is_completed_during_the_check_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    let first = [&MAGIC[..], &transaction(1, 4)].concat();
    let second = transaction(2, first.len() as u64);
    let incomplete = [&first[..], &vec![0; second.len()]].concat();
    fs::write(&path, incomplete).unwrap();
    let options = CheckOptions {
        index: false,
        references: false,
        live: true,
    };
    let mut check = Check::open(Arc::new(OsVfs), &path, options).unwrap();
    check.step(1).unwrap();
    assert_eq!(check.counts().transactions, 1);
    fs::write(&path, [&first[..], &second].concat()).unwrap();
    check.step(1).unwrap();
    let problems = check.take_problems();
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(check.counts().records, 2);
}
