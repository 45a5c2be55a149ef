//! Failing file system calls, and full disks.

use std::path::Path;

use zrs_ids::Oid;
use zrs_object_log::{Log, LogError, LogResult};
use zrs_vfs::Vfs as _;
use zrs_vfs::sim::{Extent, Fault};

use super::story::Step::{self, *};
use super::story::{INDEX, PATH, Story, begin, commit, empty_disk, open, state_of};

const STEPS: &[Step] = &[
    Commit(&[(1, 900), (2, 1700)]),
    Commit(&[(1, 30)]),
    SaveIndex,
    Fail(&[(1, 30)], true),
    Stream(1500),
    Commit(&[(2, 3000)]),
    Compact,
    Commit(&[(1, 40)]),
];

/// Fail every call in turn. After a restart, and after an additional power failure, the log has
/// all acknowledged transactions, and later commits survive too.
#[test]
fn acknowledged_transactions_survive_any_failing_call() {
    let mut whole = Story::new(empty_disk(0));
    whole.run(STEPS).unwrap();
    let (calls, known) = (whole.vfs.calls(), whole.present());
    let mut failed = 0;
    for extent in [Extent::Once, Extent::Syncs, Extent::TakesSpace, Extent::All] {
        for call in 0..calls {
            let vfs = empty_disk(call);
            vfs.fail(Fault {
                call,
                errno: if extent == Extent::TakesSpace { 28 } else { 5 },
                extent,
                short: call % 2 == 0,
            });
            let mut story = Story::new(vfs);
            let Err(error) = story.run(STEPS) else {
                continue;
            };
            failed += 1;
            assert!(matches!(error, LogError::Io { .. }), "{call}: {error}");
            drop(story.log.take());
            story.vfs.clear_faults();
            let log = story.vfs.log();
            let allowed = story.allowed(&log);
            let log = open(&story.vfs, false).unwrap();
            let found = state_of(&log, &known).unwrap();
            assert!(allowed.contains(&found), "{extent:?} {call}: {found:?}");
            commit(&log, 88, b"after").unwrap();
            for image in story.vfs.crash_images(story.vfs.operations()).take(6) {
                let log = open(&image.open(), false).unwrap();
                assert_eq!(state_of(&log, &known).unwrap(), found, "{}", image.label());
                assert_eq!(
                    log.load(zrs_ids::Oid::from_u64(88)).unwrap().pickles.len(),
                    1
                );
            }
        }
    }
    assert!(failed > 100, "{failed}");
}

#[test]
fn after_a_failed_sync_the_log_refuses_writes_until_it_is_opened_again() {
    let vfs = empty_disk(0);
    let log = open(&vfs, false).unwrap();
    commit(&log, 1, b"one").unwrap();
    vfs.fail(Fault {
        call: vfs.calls(),
        errno: 5,
        extent: Extent::Syncs,
        short: false,
    });
    assert!(matches!(commit(&log, 1, b"two"), Err(LogError::Io { .. })));
    vfs.clear_faults();
    assert!(matches!(
        commit(&log, 1, b"three"),
        Err(LogError::Failed(_))
    ));
    drop(log);
    commit(&open(&vfs, false).unwrap(), 1, b"four").unwrap();
}

/// A failed write is undone, so this instance and others can continue to commit.
#[test]
fn after_a_failed_write_the_log_can_be_written() {
    for (call, short) in (0..12).flat_map(|call| [(call, false), (call, true)]) {
        let vfs = empty_disk(0);
        let (log, other) = (open(&vfs, false).unwrap(), open(&vfs, false).unwrap());
        commit(&log, 1, b"one").unwrap();
        other.catch_up().unwrap();
        vfs.fail(Fault {
            call: vfs.calls() + call,
            errno: 28,
            extent: Extent::TakesSpace,
            short,
        });
        let failed = commit_or_fail(&log, 2, &vec![b'x'; 5 << 20]);
        let behind = other.catch_up().unwrap();
        vfs.clear_faults();
        match failed {
            Ok(()) => assert!(behind.objects.contains(&Oid::from_u64(2)), "{call}"),
            Err(LogError::Io { .. }) => assert!(behind.objects.is_empty(), "{call}"),
            Err(error) => panic!("{call}: {error}"),
        }
        commit(&log, 3, b"three").unwrap();
        commit(&other, 4, b"four").unwrap();
        log.catch_up().unwrap();
        for log in [&log, &other, &open(&vfs, false).unwrap()] {
            assert_eq!(log.load(Oid::from_u64(3)).unwrap().pickles, [b"three"]);
            assert_eq!(log.load(Oid::from_u64(4)).unwrap().pickles, [b"four"]);
            assert_eq!(
                log.load(Oid::from_u64(2)).is_ok(),
                !behind.objects.is_empty()
            );
            assert!(log.damaged().unwrap().is_empty());
        }
    }
}

/// Commit an object in full; after an error, fail the transaction as participants do.
fn commit_or_fail(log: &Log, oid: u64, pickle: &[u8]) -> LogResult<()> {
    begin(log)?;
    let voted = log
        .store_full(Oid::from_u64(oid), &[], pickle)
        .and_then(|()| log.vote());
    let done = match voted {
        Ok(()) => log.finish().map(drop),
        Err(error) => {
            log.fail().unwrap();
            Err(error)
        }
    };
    log.unlock().unwrap();
    done
}

/// Saving the index is not part of a commit: a failure is not returned, and leaves no file.
#[test]
fn an_index_that_cannot_be_saved_fails_neither_a_checkpoint_nor_closing() {
    let mut saved = 0;
    for call in 0..8 {
        for close in [false, true] {
            let vfs = empty_disk(0);
            let log = open(&vfs, false).unwrap();
            let len = if close { 1 } else { 65 << 20 };
            commit(&log, 1, &vec![b'x'; len]).unwrap();
            vfs.fail(Fault {
                call: vfs.calls() + call,
                errno: 13,
                extent: Extent::TakesSpace,
                short: false,
            });
            if close {
                log.close().unwrap();
            } else {
                log.checkpoint();
            }
            vfs.clear_faults();
            let index = vfs.content(INDEX).is_some();
            saved += usize::from(index);
            assert_eq!(
                vfs.paths().len(),
                1 + usize::from(index),
                "{:?}",
                vfs.paths()
            );
            if !close {
                commit(&log, 2, b"more").unwrap();
            }
        }
    }
    assert!((1..16).contains(&saved), "{saved}");
}

/// Objects stayed outdated: the changes were reported neither by the transaction that could
/// not begin nor afterwards.
#[test]
fn changes_are_reported_after_a_transaction_that_could_not_begin() {
    let mut failed = 0;
    for call in 0..12 {
        let vfs = empty_disk(0);
        let (log, other) = (open(&vfs, false).unwrap(), open(&vfs, false).unwrap());
        commit(&log, 1, b"one").unwrap();
        commit(&other, 1, b"two").unwrap();
        let file = vfs.open_write(Path::new(PATH)).unwrap();
        let end = file.metadata().unwrap().len;
        file.write_all_at(&[1; 30], end).unwrap();
        vfs.fail(Fault {
            call: vfs.calls() + call,
            errno: 5,
            extent: Extent::Once,
            short: false,
        });
        let begun = begin(&log);
        vfs.clear_faults();
        if begun.is_ok() {
            continue;
        }
        failed += 1;
        let changes = log.catch_up().unwrap();
        assert!(changes.objects.contains(&Oid::from_u64(1)), "{call}");
    }
    assert!(failed > 1, "{failed}");
}
