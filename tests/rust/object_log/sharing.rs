//! Instances of one file.

use std::time::Duration;

use _zrs::dobbin::{Log, LogError};
use _zrs::ids::Oid;

use super::story::{begin, commit, empty_disk, open};

fn pickles(log: &Log, oid: u64) -> Vec<Vec<u8>> {
    log.load(Oid::from_u64(oid)).unwrap().pickles
}

#[test]
fn an_instance_sees_what_others_commit_when_it_looks_and_not_before() {
    let vfs = empty_disk(0);
    let (one, two) = (open(&vfs, false).unwrap(), open(&vfs, false).unwrap());
    commit(&one, 1, b"first").unwrap();
    assert!(matches!(
        two.load(Oid::from_u64(1)),
        Err(LogError::NoSuchObject(_))
    ));
    assert!(two.is_behind().unwrap());
    let changes = two.catch_up().unwrap();
    assert_eq!(
        changes.objects.into_iter().collect::<Vec<_>>(),
        [Oid::from_u64(1)]
    );
    assert!(!two.is_behind().unwrap());
    assert_eq!(pickles(&two, 1), [b"first"]);
    commit(&two, 1, b"second").unwrap();
    assert_eq!(pickles(&one, 1), [b"first"]);
    // Who commits catches up first, and numbers go on.
    assert_eq!(commit(&one, 2, b"third").unwrap(), 3);
    assert_eq!(pickles(&one, 1), [b"second"]);
}

#[test]
fn one_instance_writes_at_a_time_and_a_transaction_is_not_seen_in_part() {
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
fn others_go_on_with_a_compacted_file() {
    let vfs = empty_disk(0);
    let (one, two) = (open(&vfs, false).unwrap(), open(&vfs, false).unwrap());
    for _ in 0..10 {
        commit(&one, 1, &[b'x'; 700]).unwrap();
    }
    commit(&one, 2, b"garbage").unwrap();
    two.catch_up().unwrap();
    assert!(one.lock(Duration::ZERO).unwrap());
    let (before, after) = one.compact([9; 16], 0, false).unwrap();
    one.unlock().unwrap();
    assert!(after < before / 4, "{before} {after}");
    // The old file stays while somebody has it.
    assert_eq!(pickles(&two, 1).len(), 1);
    assert_eq!(two.catch_up().unwrap().objects.len(), 0);
    assert_eq!(commit(&two, 1, b"after").unwrap(), 12);
    one.catch_up().unwrap();
    assert_eq!(pickles(&one, 1), [b"after"]);
    assert_eq!(pickles(&one, 2), [b"garbage"]);
    assert_eq!(one.serial(Oid::from_u64(2)).unwrap(), 11);
}

#[test]
fn what_is_not_reachable_can_be_left_out() {
    let vfs = empty_disk(0);
    let log = open(&vfs, false).unwrap();
    begin(&log).unwrap();
    let oids: Vec<_> = (0..3).map(|_| log.new_oid().unwrap()).collect();
    let stream = log.begin_stream().unwrap();
    log.write_stream(b"bytes").unwrap();
    log.end_stream().unwrap();
    log.store_full(oids[0], &[oids[1], stream], b"root")
        .unwrap();
    log.store_full(oids[1], &[oids[0]], b"child").unwrap();
    log.store_full(oids[2], &[oids[0]], b"nobody's").unwrap();
    log.set_root(oids[0]).unwrap();
    log.vote().unwrap();
    log.finish().unwrap();
    log.compact([9; 16], 0, true).unwrap();
    log.unlock().unwrap();
    assert_eq!(log.len().unwrap(), 2);
    assert_eq!(log.stream_bytes(stream, 2).unwrap(), b"tes");
    assert!(matches!(log.load(oids[2]), Err(LogError::NoSuchObject(_))));
    assert_eq!(log.root().unwrap(), Some(oids[0]));
    // Ids are not given out again.
    begin(&log).unwrap();
    assert!(log.new_oid().unwrap() > stream);
    log.unlock().unwrap();
}

#[test]
fn a_snapshot_has_the_state_of_a_time_in_one_transaction() {
    let vfs = empty_disk(0);
    let log = open(&vfs, false).unwrap();
    for time in 1..5 {
        assert!(log.lock(Duration::ZERO).unwrap());
        log.begin(time * 10).unwrap();
        log.store_full(Oid::from_u64(1), &[], format!("{time}").as_bytes())
            .unwrap();
        log.vote().unwrap();
        log.finish().unwrap();
        log.unlock().unwrap();
    }
    for (time, expected) in [(Some(25), "2"), (Some(40), "4"), (None, "4")] {
        let target = empty_disk(0);
        let target = open(&target, false).unwrap();
        begin(&target).unwrap();
        log.snapshot(time, &target).unwrap();
        target.vote().unwrap();
        target.finish().unwrap();
        target.unlock().unwrap();
        assert_eq!(pickles(&target, 1), [expected.as_bytes()]);
        assert_eq!(target.number().unwrap(), 1);
        begin(&target).unwrap();
        assert!(matches!(
            log.snapshot(None, &target),
            Err(LogError::NotEmpty(_))
        ));
        target.unlock().unwrap();
    }
}

/// An object of 3000 bytes and changes of 10: what is written stays small, and so does the
/// number of records that rebuild it.
#[test]
fn changes_are_folded_before_there_are_many() {
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
