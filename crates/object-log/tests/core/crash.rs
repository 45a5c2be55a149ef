//! A power failure after every operation. Each disk image that may result can be opened, has
//! all acknowledged transactions, and has the current one completely or not at all.

use zrs_vfs::sim::SimVfs;

use super::story::Step::{self, *};
use super::story::{INDEX, PATH, State, Story, commit, empty_disk, open, state_of};

const WORKLOADS: &[(&str, &[Step])] = &[
    (
        "commits",
        &[
            Commit(&[(1, 20)]),
            Commit(&[(1, 900), (2, 1700)]),
            Commit(&[(1, 30)]),
            Commit(&[(1, 30), (2, 600), (3, 5)]),
            Commit(&[(1, 2500)]),
        ],
    ),
    (
        "failures",
        &[
            Commit(&[(1, 900)]),
            Fail(&[(1, 700), (2, 2000)], true),
            Fail(&[(1, 10)], false),
            Commit(&[(2, 50)]),
            VoteAndDie(&[(1, 1500)]),
            Commit(&[(3, 1000)]),
            VoteAndDie(&[(1, 3)]),
            Fail(&[(3, 10)], true),
            Reopen,
            Commit(&[(1, 10)]),
        ],
    ),
    (
        "index",
        &[
            Commit(&[(1, 600)]),
            SaveIndex,
            Commit(&[(1, 40), (2, 40)]),
            Reopen,
            Commit(&[(2, 1200)]),
            SaveIndex,
            Commit(&[(3, 40)]),
        ],
    ),
    (
        "compaction",
        &[
            Commit(&[(1, 900), (2, 1700)]),
            Commit(&[(1, 40)]),
            Stream(1300),
            SaveIndex,
            Compact,
            Commit(&[(1, 50), (2, 9)]),
            Reopen,
            Compact,
            Commit(&[(5, 700)]),
        ],
    ),
];

fn full() -> bool {
    std::env::var("ZRS_CRASH").is_ok_and(|value| value == "full")
}

/// Open a disk image, read it, commit, and open it again with and without its index.
fn check(vfs: &SimVfs, known: &State, allowed: &[State]) -> Result<usize, String> {
    let log = open(vfs, false).map_err(|error| format!("opening: {error}"))?;
    let mut found = state_of(&log, known).map_err(|error| format!("reading: {error}"))?;
    let number = allowed.iter().position(|state| *state == found);
    let number = number.ok_or_else(|| format!("{} objects found", found.objects.len()))?;
    if !log.damaged().unwrap().is_empty() {
        return Err(format!("damaged: {:?}", log.damaged()));
    }
    commit(&log, 77, b"probe").map_err(|error| format!("committing: {error}"))?;
    let mut known = known.clone();
    known.objects.insert(77, vec![b"probe".to_vec()]);
    found.objects.insert(77, vec![b"probe".to_vec()]);
    log.close().map_err(|error| format!("closing: {error}"))?;
    for index in [true, false] {
        if !index {
            let files = vec![(PATH, vfs.content(PATH).unwrap())];
            let without = SimVfs::with_files(0, files);
            let log = open(&without, false).map_err(|error| format!("without index: {error}"))?;
            assert_eq!(state_of(&log, &known).unwrap(), found, "without index");
            continue;
        }
        assert!(vfs.content(INDEX).is_some());
        let log = open(vfs, true).map_err(|error| format!("again: {error}"))?;
        assert_eq!(state_of(&log, &known).unwrap(), found, "again");
    }
    Ok(number)
}

fn sweep((name, steps): &(&str, &[Step]), samples: usize) {
    let mut story = Story::new(empty_disk(0));
    story.run(steps).unwrap();
    let known = story.present();
    assert_eq!(state_of(story.log(), &known).unwrap(), known, "{name}");
    let log = story.vfs.log();
    let vfs = story.vfs.clone().with_samples(samples);
    let (mut tried, mut later) = (0, 0);
    for operations in 0..=log.len() {
        let allowed = story.allowed(&log[..operations]);
        for image in vfs.crash_images(operations) {
            tried += 1;
            match check(&image.open(), &known, allowed) {
                Ok(number) => later += number,
                Err(problem) => panic!("{name}, {}: {problem}", image.label()),
            }
        }
    }
    assert!(tried > 50, "{name}: {tried}");
    assert!(later > 0, "{name}: no failure was late enough");
}

#[test]
fn acknowledged_transactions_survive_and_none_is_visible_in_part() {
    for workload in WORKLOADS {
        sweep(workload, if full() { 300 } else { 8 });
    }
}

#[test]
fn a_stream_of_many_blocks_survives() {
    let steps = &[Commit(&[(1, 9)]), Stream(400_000), Commit(&[(1, 10)])];
    let mut story = Story::new(empty_disk(0));
    story.run(steps).unwrap();
    let (known, log) = (story.present(), story.vfs.log());
    assert_eq!(state_of(story.log(), &known).unwrap(), known);
    for operations in 0..=log.len() {
        let allowed = story.allowed(&log[..operations]);
        for image in story
            .vfs
            .crash_images(operations)
            .take(if full() { 40 } else { 4 })
        {
            if let Err(problem) = check(&image.open(), &known, allowed) {
                panic!("{}: {problem}", image.label());
            }
        }
    }
}
