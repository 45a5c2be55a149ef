//! Workloads: steps that a crash may interrupt anywhere.

use super::step::Step::{self, *};

/// A workload's name and steps.
pub(super) type Workload = (&'static str, &'static [Step]);

/// A transaction within a sector, one over a few, and one over many.
const SMALL: Step = Store(&[(0, 20)]);
const MEDIUM: Step = Store(&[(0, 300), (1, 700), (2, 200)]);
const MEDIUM_BLOB: Step = StoreBlobs(&[(3, 513)]);
const LARGE: Step = Store(&[(1, 10), (3, 3000), (4, 5000)]);

/// Enough objects for an index of more than two sectors.
const MANY: [(u64, usize); 300] = {
    let (mut objects, mut oid) = ([(0, 1); 300], 0);
    while oid < objects.len() {
        objects[oid].0 = oid as u64;
        oid += 1;
    }
    objects
};

pub(super) const WORKLOADS: &[Workload] = &[
    (
        "commits",
        &[
            SMALL,
            MEDIUM,
            SMALL,
            LARGE,
            Store(&[(2, 600), (5, 1)]),
            SMALL,
        ],
    ),
    (
        "votes and aborts",
        &[
            MEDIUM,
            AbortVoted(&[(0, 2000)]),
            SMALL,
            AbortFinishing(&[(1, 900), (7, 30)]),
            Abort(&[(8, 100)]),
            Store(&[(1, 1100)]),
            VoteAndDie(&[(2, 800)]),
            SMALL,
            VoteAndDie(&[(0, 1)]),
            MEDIUM,
        ],
    ),
    (
        "undo and restore",
        &[
            MEDIUM,
            LARGE,
            Undo,
            Undo,
            Store(&[(1, 50)]),
            Restore(&[(1, 0), (2, 400), (9, 900)]),
            Undo,
            Delete(2),
            Undo,
            Delete(1),
        ],
    ),
    (
        "index",
        &[
            SMALL,
            Save,
            MEDIUM,
            Reopen,
            LARGE,
            Save,
            ReopenWithoutIndex,
            SMALL,
            Reopen,
        ],
    ),
    (
        "blobs",
        &[
            SMALL,
            StoreBlobs(&[(1, 700)]),
            StoreBlobs(&[(1, 3000), (0x300, 0)]),
            MEDIUM_BLOB,
            AbortBlobs(&[(2, 900)]),
            SMALL,
            StoreBlobs(&[(2, 40), (0x0001_0000, 1500)]),
        ],
    ),
    (
        "pack",
        &[
            MEDIUM,
            LARGE,
            SMALL,
            Store(&[(0, 30), (11, 2000)]),
            Pack {
                ago: 1,
                gc: true,
                keep_old: true,
                meanwhile: &[],
            },
            Store(&[(2, 900)]),
            Undo,
            Pack {
                ago: 0,
                gc: false,
                keep_old: false,
                meanwhile: &[],
            },
            SMALL,
        ],
    ),
    (
        "pack beside a commit",
        &[
            MEDIUM,
            Store(&[(9, 2000)]),
            SMALL,
            Save,
            Store(&[(1, 400)]),
            Pack {
                ago: 0,
                gc: true,
                keep_old: true,
                meanwhile: &[(1, 800), (2, 5)],
            },
            MEDIUM,
            Pack {
                ago: 0,
                gc: true,
                keep_old: true,
                meanwhile: &[(0, 90)],
            },
            Reopen,
            SMALL,
        ],
    ),
    (
        "index of many objects",
        &[Store(&MANY), Save, SMALL, Reopen],
    ),
    (
        "groups",
        &[
            Group(&[&[(0, 20)], &[(1, 300), (2, 700)], &[(0, 40)]]),
            Group(&[&[(3, 1500)], &[(4, 10)]]),
            Settle,
            Group(&[&[(0, 1)]]),
            // Reads data that are not visible yet, so they are written before the group is
            // complete.
            Group(&[&[(1, 600)], &[(1, 0), (5, 900)], &[(5, 0)]]),
            Die,
            Group(&[&[(2, 2000)], &[(6, 30)]]),
            Store(&[(0, 300)]),
            Group(&[&[(7, 450)], &[(7, 1)]]),
            Save,
            Group(&[&[(0, 5)], &[(0, 6)], &[(1, 7)]]),
            Reopen,
            Group(&[&[(8, 100)]]),
        ],
    ),
    (
        "groups with a transaction on its way",
        &[
            GroupBefore(&[&[(0, 20)], &[(1, 300)]], &[(2, 700), (3, 20)]),
            GroupBeforeAbort(&[&[(0, 900)], &[(4, 3)]], &[(2, 1700)]),
            GroupBefore(&[&[(1, 60)], &[(1, 0)]], &[(1, 0), (0, 40)]),
            GroupBeforeAbort(&[&[(5, 2)], &[(5, 0)]], &[(5, 0), (6, 800)]),
            SMALL,
            Group(&[&[(0, 30)]]),
            Settle,
            Undo,
        ],
    ),
];

/// Transactions and groups that do not fit into memory: they are written before they are
/// complete.
pub(super) const HUGE: &[Workload] = &[
    (
        "spilled",
        &[SMALL, Store(&[(1, 5 << 20), (2, 5 << 20), (3, 300)]), SMALL],
    ),
    (
        "a spilled group",
        &[
            SMALL,
            // It exceeds the memory limit in the middle of its third transaction.
            Group(&[
                &[(1, 3 << 20)],
                &[(0, 300), (2, 4 << 20)],
                &[(3, 3 << 20), (4, 700)],
                &[(1, 0), (5, 40)],
            ]),
            Group(&[&[(0, 30)]]),
            SMALL,
        ],
    ),
    (
        "a spilled transaction behind a group",
        &[
            GroupBefore(&[&[(0, 20)], &[(1, 300)]], &[(2, 9 << 20), (3, 20)]),
            GroupBeforeAbort(&[&[(0, 900)], &[(4, 3)]], &[(5, 9 << 20), (6, 50)]),
            Group(&[&[(1, 60)], &[(1, 0)]]),
            Settle,
        ],
    ),
];
