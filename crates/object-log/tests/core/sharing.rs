//! Instances of one file.

use std::path::Path;
use std::time::Duration;

use zrs_ids::Oid;
use zrs_object_log::{CommitWaiter, Log, LogError};
use zrs_vfs::Vfs;

use super::story::{PATH, begin, commit, empty_disk, open};

pub(super) fn pickles(log: &Log, oid: u64) -> Vec<Vec<u8>> {
    log.load(Oid::from_u64(oid)).unwrap().pickles
}

#[test]
fn an_instance_sees_commits_of_others_when_it_catches_up_and_not_before() {
    let vfs = empty_disk(0);
    let (one, two) = (open(&vfs, false).unwrap(), open(&vfs, false).unwrap());
    commit(&one, 1, b"first").unwrap();
    assert!(matches!(
        two.load(Oid::from_u64(1)),
        Err(LogError::NoSuchObject(_))
    ));
    assert!(is_behind(&two));
    let changes = two.catch_up().unwrap();
    assert_eq!(
        changes.objects.into_iter().collect::<Vec<_>>(),
        [Oid::from_u64(1)]
    );
    assert!(!is_behind(&two));
    assert_eq!(pickles(&two, 1), [b"first"]);
    commit(&two, 1, b"second").unwrap();
    assert_eq!(pickles(&one, 1), [b"first"]);
    // A commit catches up first, and continues the numbers.
    assert_eq!(commit(&one, 2, b"third").unwrap(), 3);
    assert_eq!(pickles(&one, 1), [b"second"]);
}

fn is_behind(log: &Log) -> bool {
    log.is_behind(&mut CommitWaiter::default()).unwrap()
}

/// A waiter that returned for less than a transaction would find nothing.
#[test]
fn only_committed_transactions_end_a_wait() {
    let vfs = empty_disk(0);
    let (one, two) = (open(&vfs, false).unwrap(), open(&vfs, false).unwrap());
    let mut waiter = CommitWaiter::default();
    let mut behind = || two.is_behind(&mut waiter).unwrap();
    assert!(!behind());
    for outcome in [false, true] {
        begin(&one).unwrap();
        one.begin_stream().unwrap();
        for _ in 0..3 {
            one.write_stream(&vec![b'x'; 5 << 20]).unwrap();
            assert!(!behind());
        }
        one.end_stream().unwrap();
        one.vote().unwrap();
        assert!(!behind());
        if outcome {
            one.finish().unwrap();
        } else {
            one.fail().unwrap();
        }
        one.unlock().unwrap();
        assert_eq!(behind(), outcome);
        assert!(!is_behind(&one));
    }
    assert_eq!(two.catch_up().unwrap().transactions, 2);
    // A failed transaction and an unfinished one, with other bytes at their position.
    begin(&one).unwrap();
    one.store_full(Oid::from_u64(1), &[], &[b'x'; 1000])
        .unwrap();
    one.vote().unwrap();
    let mut waiter = CommitWaiter::default();
    assert!(!two.is_behind(&mut waiter).unwrap());
    one.fail().unwrap();
    one.unlock().unwrap();
    assert!(!two.is_behind(&mut waiter).unwrap());
    commit(&one, 1, b"committed").unwrap();
    assert!(two.is_behind(&mut waiter).unwrap());
    two.catch_up().unwrap();
    assert!(!two.is_behind(&mut waiter).unwrap());
}

/// Unreadable bytes may be left by a crash; they end a wait once.
#[test]
fn unreadable_bytes_end_a_wait_once() {
    let vfs = empty_disk(0);
    let (one, two) = (open(&vfs, false).unwrap(), open(&vfs, false).unwrap());
    let end = one.end().unwrap();
    vfs.open_write(Path::new(PATH))
        .unwrap()
        .write_all_at(&[7; 100], end)
        .unwrap();
    assert!(is_behind(&two));
    two.catch_up().unwrap();
    assert!(!is_behind(&two));
    commit(&one, 1, b"committed").unwrap();
    assert!(is_behind(&two));
}

#[test]
fn one_instance_writes_at_a_time_and_no_transaction_is_visible_in_part() {
    let vfs = empty_disk(0);
    let (one, two) = (open(&vfs, false).unwrap(), open(&vfs, false).unwrap());
    begin(&one).unwrap();
    assert!(!two.lock(Duration::ZERO).unwrap());
    one.store_full(Oid::from_u64(1), &[], b"first").unwrap();
    one.vote().unwrap();
    assert_eq!(two.catch_up().unwrap().transactions, 0);
    one.finish().unwrap();
    one.unlock().unwrap();
    assert_eq!(two.catch_up().unwrap().transactions, 1);
    assert!(two.lock(Duration::ZERO).unwrap());
    assert!(!one.lock(Duration::ZERO).unwrap());
    two.unlock().unwrap();
}

#[test]
fn others_continue_with_a_compacted_file() {
    let vfs = empty_disk(0);
    let (one, two) = (open(&vfs, false).unwrap(), open(&vfs, false).unwrap());
    for _ in 0..10 {
        commit(&one, 1, &[b'x'; 700]).unwrap();
    }
    commit(&one, 2, b"garbage").unwrap();
    two.catch_up().unwrap();
    assert!(one.lock(Duration::ZERO).unwrap());
    let (before, after) = one.compact([9; 16], 0, false, None).unwrap();
    one.unlock().unwrap();
    assert!(is_behind(&two));
    assert!(after < before / 4, "{before} {after}");
    // The old file stays readable while an instance has it open.
    assert_eq!(pickles(&two, 1).len(), 1);
    assert_eq!(two.catch_up().unwrap().objects.len(), 0);
    assert_eq!(commit(&two, 1, b"after").unwrap(), 12);
    one.catch_up().unwrap();
    assert_eq!(pickles(&one, 1), [b"after"]);
    assert_eq!(pickles(&one, 2), [b"garbage"]);
    assert_eq!(one.serial(Oid::from_u64(2)).unwrap(), 11);
}

/// An object of 3000 bytes and changes of 10 bytes: the file stays small, and so does the number
/// of records to load.
#[test]
fn long_chains_of_changes_are_replaced_by_a_full_record() {
    let vfs = empty_disk(0);
    let log = open(&vfs, false).unwrap();
    let oid = Oid::from_u64(1);
    let (mut full, mut longest) = (0, 0);
    for _ in 0..2000 {
        begin(&log).unwrap();
        if log.wants_full(oid).unwrap() {
            log.store_full(oid, &[], &[b'f'; 3000]).unwrap();
            full += 1;
        } else {
            log.store_change(oid, &[], &[b'c'; 10]).unwrap();
        }
        log.vote().unwrap();
        log.finish().unwrap();
        log.unlock().unwrap();
        longest = longest.max(log.load(oid).unwrap().pickles.len());
    }
    assert!(full < 50, "{full}");
    assert!((17..=257).contains(&longest), "{longest}");
}
