//! Copies: snapshots and compaction.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zrs_ids::Oid;
use zrs_object_log::{Dump, Fold, Log, LogError};
use zrs_vfs::sim::SimVfs;

use super::sharing::pickles;
use super::story::{PATH, begin, commit, empty_disk, open};

#[test]
fn unreachable_objects_can_be_left_out() {
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
    log.store_full(oids[2], &[oids[0]], b"unreachable").unwrap();
    log.set_root(oids[0]).unwrap();
    log.vote().unwrap();
    log.finish().unwrap();
    log.compact([9; 16], 0, true, None).unwrap();
    log.unlock().unwrap();
    assert_eq!(log.len().unwrap(), 2);
    assert_eq!(log.stream_bytes(stream, 2).unwrap(), b"tes");
    assert!(matches!(log.load(oids[2]), Err(LogError::NoSuchObject(_))));
    assert_eq!(log.root().unwrap(), Some(oids[0]));
    // Ids are not allocated again.
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
        log.snapshot(time, &target, None).unwrap();
        target.vote().unwrap();
        target.finish().unwrap();
        target.unlock().unwrap();
        assert_eq!(pickles(&target, 1), [expected.as_bytes()]);
        assert_eq!(target.number().unwrap(), 1);
        begin(&target).unwrap();
        assert!(matches!(
            log.snapshot(None, &target, None),
            Err(LogError::NotEmpty(_))
        ));
        target.unlock().unwrap();
    }
}

/// A log whose four transactions have the times 10, 20, 30 and 40.
fn with_times(vfs: &SimVfs) -> Log {
    let log = open(vfs, false).unwrap();
    for time in 1..5 {
        assert!(log.lock(Duration::ZERO).unwrap());
        log.begin(time * 10).unwrap();
        log.store_full(Oid::from_u64(1), &[], format!("{time}").as_bytes())
            .unwrap();
        log.vote().unwrap();
        log.finish().unwrap();
        log.unlock().unwrap();
    }
    log
}

/// A state that a compaction has removed is not reported as an empty database.
#[test]
fn a_snapshot_of_a_time_before_a_compaction_is_refused() {
    let log = with_times(&empty_disk(0));
    while !log.lock(Duration::ZERO).unwrap() {}
    log.compact([9; 16], 1000, false, None).unwrap();
    log.unlock().unwrap();
    for (time, known) in [
        (9, false),
        (25, false),
        (39, false),
        (40, true),
        (999, true),
    ] {
        let target = open(&empty_disk(0), false).unwrap();
        begin(&target).unwrap();
        let copied = log.snapshot(Some(time), &target, None);
        if known {
            copied.unwrap();
            target.vote().unwrap();
            target.finish().unwrap();
            assert_eq!(pickles(&target, 1), [b"4"]);
        } else {
            let error = copied.unwrap_err();
            assert!(
                matches!(error, LogError::Compacted { oldest: 40, .. }),
                "{time}: {error}"
            );
        }
        target.unlock().unwrap();
    }
    // Before its first transaction a database that was never compacted was empty.
    let log = with_times(&empty_disk(0));
    let target = open(&empty_disk(0), false).unwrap();
    begin(&target).unwrap();
    log.snapshot(Some(9), &target, None).unwrap();
    target.unlock().unwrap();
}

/// Nothing can refer to an object that was left out, even while an instance has it in memory.
#[test]
fn objects_left_out_by_a_compaction_cannot_be_referred_to() {
    let vfs = empty_disk(0);
    let log = open(&vfs, false).unwrap();
    begin(&log).unwrap();
    let oids: Vec<_> = (0..3).map(|_| log.new_oid().unwrap()).collect();
    log.store_full(oids[0], &[oids[1]], b"root").unwrap();
    log.store_full(oids[1], &[], b"child").unwrap();
    log.store_full(oids[2], &[], b"unreachable").unwrap();
    log.set_root(oids[0]).unwrap();
    log.vote().unwrap();
    log.finish().unwrap();
    log.compact([9; 16], 0, true, None).unwrap();
    log.unlock().unwrap();
    for (as_root, full) in [(false, true), (false, false), (true, true)] {
        begin(&log).unwrap();
        let new = log.new_oid().unwrap();
        let references = [oids[0], oids[1], new, oids[if as_root { 1 } else { 2 }]];
        if full {
            log.store_full(oids[0], &references, b"root").unwrap();
        } else {
            log.store_change(oids[0], &references, b"root").unwrap();
        }
        log.store_full(new, &[], b"new").unwrap();
        if as_root {
            log.set_root(oids[2]).unwrap();
        }
        let Err(LogError::Dangling { oid, target, .. }) = log.vote() else {
            panic!("{as_root} {full}");
        };
        assert_eq!(target, oids[2]);
        assert_eq!(oid, Some(oids[0]).filter(|_| !as_root));
        log.fail().unwrap();
        log.unlock().unwrap();
    }
    // An object that is referred to but never written is missing too.
    begin(&log).unwrap();
    let new = log.new_oid().unwrap();
    log.store_full(oids[0], &[new], b"root").unwrap();
    assert!(matches!(log.vote(), Err(LogError::Dangling { .. })));
    log.unlock().unwrap();
    let mut dump = Dump::open(Arc::new(vfs.clone()), Path::new(PATH)).unwrap();
    while dump.read_next().unwrap().is_some() {}
    assert!(dump.dangling().unwrap().is_empty());
}

/// A log with an object and five changes of it; the last one refers to another object.
fn with_a_chain(vfs: &SimVfs) -> Log {
    let log = open(vfs, false).unwrap();
    commit(&log, 2, b"referred to").unwrap();
    commit(&log, 1, &[b'f'; 700]).unwrap();
    for number in 0..5 {
        begin(&log).unwrap();
        let references: &[Oid] = if number == 4 {
            &[Oid::from_u64(2)]
        } else {
            &[]
        };
        log.store_change(Oid::from_u64(1), references, b"c")
            .unwrap();
        log.set_root(Oid::from_u64(1)).unwrap();
        log.vote().unwrap();
        log.finish().unwrap();
        log.unlock().unwrap();
    }
    log
}

fn fold(pickles: &[&[u8]]) -> Option<(Vec<Oid>, Vec<u8>)> {
    (!pickles.is_empty()).then(|| (vec![Oid::from_u64(2)], pickles.concat()))
}

#[test]
fn copies_have_one_record_of_each_object_if_they_can_be_folded() {
    let vfs = empty_disk(0);
    let log = with_a_chain(&vfs);
    let oid = Oid::from_u64(1);
    let folded = [&[b'f'; 700][..], b"ccccc"].concat();
    for (fold, expected) in [(None, 6), (Some(&fold as &Fold<'_>), 1)] {
        let target = open(&empty_disk(0), false).unwrap();
        begin(&target).unwrap();
        log.snapshot(None, &target, fold).unwrap();
        target.vote().unwrap();
        target.finish().unwrap();
        target.unlock().unwrap();
        assert_eq!(pickles(&target, 1).len(), expected);
        assert_eq!(pickles(&target, 1).concat(), folded);
        assert_eq!(target.serial(oid).unwrap(), 1);
    }
    // If the function returns nothing, the chain is copied.
    for (identity, fold, expected) in [
        (7, &(|_: &[&[u8]]| None) as &Fold<'_>, 6),
        (8, &fold, 1),
        (9, &fold, 1),
    ] {
        begin(&log).unwrap();
        log.compact([identity; 16], 0, true, Some(fold)).unwrap();
        log.unlock().unwrap();
        assert_eq!(pickles(&log, 1).len(), expected);
        assert_eq!((log.serial(oid).unwrap(), log.number().unwrap()), (7, 7));
    }
    // The object that it refers to was kept.
    assert_eq!(pickles(&log, 1), [folded]);
    assert_eq!(pickles(&log, 2), [b"referred to"]);
    log.close().unwrap();
    assert!(open(&vfs, false).unwrap().damaged().unwrap().is_empty());
}

/// Readers of the same instance do not wait for a compaction, and keep their view.
#[test]
fn objects_are_read_during_a_compaction() {
    let vfs = empty_disk(0);
    let log = with_a_chain(&vfs);
    let fold = |pickles: &[&[u8]]| {
        assert_eq!(log.load(Oid::from_u64(1)).unwrap().pickles, pickles);
        assert_eq!(log.catch_up().unwrap().transactions, 0);
        fold(pickles)
    };
    begin(&log).unwrap();
    log.compact([9; 16], 0, true, Some(&fold)).unwrap();
    log.unlock().unwrap();
    assert_eq!(pickles(&log, 1).len(), 1);
    commit(&log, 1, b"after").unwrap();
    assert_eq!(pickles(&log, 1), [b"after"]);
}

/// If a current object cannot be read, the file is left unchanged. Damage in old states is
/// dropped.
#[test]
fn a_damaged_log_is_compacted_only_if_no_current_object_is_lost() {
    for (damaged, compacted) in [("past", true), ("present", false)] {
        let vfs = empty_disk(0);
        let log = open(&vfs, false).unwrap();
        for pickle in ["past", "present", "other"] {
            let oid = 1 + u64::from(pickle == "other");
            commit(&log, oid, pickle.as_bytes()).unwrap();
        }
        log.close().unwrap();
        let mut bytes = vfs.content(PATH).unwrap();
        let mut windows = bytes.windows(damaged.len());
        let at = windows
            .position(|found| found == damaged.as_bytes())
            .unwrap();
        bytes[at] ^= 1;
        let files = [(PATH, bytes.clone())];
        let vfs = SimVfs::with_files(0, files);
        let log = open(&vfs, false).unwrap();
        assert_eq!(log.damaged().unwrap().len(), 1);
        assert!(log.lock(Duration::ZERO).unwrap());
        let result = log.compact([9; 16], 0, false, None);
        log.unlock().unwrap();
        assert_eq!(result.is_ok(), compacted);
        assert_eq!(log.damaged().unwrap().is_empty(), compacted);
        assert!(vfs.content(format!("{PATH}.compact")).is_none());
        if compacted {
            assert_eq!(pickles(&log, 1), [b"present"]);
        } else {
            assert!(matches!(
                result,
                Err(LogError::Corrupt {
                    transaction: Some(2),
                    ..
                })
            ));
            assert_eq!(vfs.content(PATH).unwrap(), bytes);
        }
        assert_eq!(pickles(&log, 2), [b"other"]);
    }
}
