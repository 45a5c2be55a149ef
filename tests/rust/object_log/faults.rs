//! Calls of the file system that fail, and disks that are full.

use _zrs::dobbin::LogError;
use _zrs::vfs::sim::{Extent, Fault};

use super::story::Step::{self, *};
use super::story::{Story, commit, empty_disk, open, show};

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

/// Fail every call in turn; after a restart, and after a power cut on top of it, what was
/// acknowledged is there, and what is committed then survives too.
#[test]
fn whatever_call_fails_what_was_acknowledged_is_there() {
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
            let shown = show(&log, &known).unwrap();
            assert!(allowed.contains(&shown), "{extent:?} {call}: {shown:?}");
            commit(&log, 88, b"after").unwrap();
            for image in story.vfs.crash_images(story.vfs.operations()).take(6) {
                let log = open(&image.open(), false).unwrap();
                assert_eq!(show(&log, &known).unwrap(), shown, "{}", image.label());
                assert_eq!(
                    log.load(_zrs::ids::Oid::from_u64(88))
                        .unwrap()
                        .pickles
                        .len(),
                    1
                );
            }
        }
    }
    assert!(failed > 100, "{failed}");
}

#[test]
fn after_a_failed_write_the_log_refuses_work_until_it_is_opened_again() {
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
