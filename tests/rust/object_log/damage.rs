//! Flipped bytes, torn ends, and files that are no logs.

use _zrs::dobbin::{HEADER_LEN, Log, LogError};
use _zrs::ids::Oid;
use _zrs::vfs::sim::SimVfs;

use super::story::Step::*;
use super::story::{INDEX, PATH, State, Story, commit, empty_disk, open};

/// A closed log of five transactions, and what it shows.
fn sample() -> (Vec<u8>, Vec<u8>, State) {
    let mut story = Story::new(empty_disk(0));
    story
        .run(&[
            Commit(&[(1, 600)]),
            Commit(&[(2, 40), (3, 40)]),
            Commit(&[(1, 30)]),
            Fail(&[(2, 5)], true),
            Commit(&[(4, 10)]),
        ])
        .unwrap();
    story.log().close().unwrap();
    let content = |path| story.vfs.content(path).unwrap();
    (content(PATH), content(INDEX), story.present())
}

/// Each object is as it was, or cannot be read and the reason names a place.
fn check(log: &Log, known: &State, at: usize) -> usize {
    let mut unreadable = 0;
    for (oid, pickles) in &known.objects {
        match log.load(Oid::from_u64(*oid)) {
            Ok(loaded) => assert_eq!(loaded.pickles, *pickles, "byte {at}, object {oid}"),
            Err(LogError::Corrupt {
                position,
                transaction,
                ..
            }) => {
                assert!(position <= at as u64, "byte {at}: {position}");
                assert!(transaction.is_some(), "byte {at}");
                unreadable += 1;
            }
            Err(error) => panic!("byte {at}, object {oid}: {error}"),
        }
    }
    unreadable
}

#[test]
fn a_flipped_byte_is_found_and_named_and_the_rest_stays_readable() {
    let (bytes, index, known) = sample();
    let mut found = 0;
    for at in HEADER_LEN..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x20;
        let files = vec![(PATH, flipped), (INDEX, index.clone())];
        let log = open(&SimVfs::with_files(0, files), false).unwrap();
        found += check(&log, &known, at);
        // The objects of other transactions are not concerned.
        let unreadable = check(&log, &known, at);
        assert!(unreadable <= 2, "byte {at}: {unreadable}");
    }
    assert!(found > 700, "{found}");
}

/// Without the index the last transaction's damage cannot be told from a torn end; that
/// of all others can, because later ones say that the file was durable.
#[test]
fn without_the_index_damage_before_the_last_transaction_is_found_while_opening() {
    let (bytes, _, known) = sample();
    let last = {
        let vfs = SimVfs::with_files(0, vec![(PATH, bytes.clone())]);
        let log = open(&vfs, false).unwrap();
        assert!(log.damaged().unwrap().is_empty());
        let end = log.end().unwrap();
        assert_eq!(end, bytes.len() as u64);
        commit_start(&bytes)
    };
    for at in HEADER_LEN..last {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x20;
        let vfs = SimVfs::with_files(0, vec![(PATH, flipped)]);
        let log = open(&vfs, false).unwrap();
        let damaged = log.damaged().unwrap();
        assert!(!damaged.is_empty(), "byte {at}");
        assert!(check(&log, &known, at) <= 2, "byte {at}");
        assert_eq!(log.number().unwrap(), 5, "byte {at}");
        assert_eq!(
            vfs.content(PATH).unwrap().len(),
            bytes.len(),
            "byte {at}: cut"
        );
        commit(&log, 9, b"goes on").unwrap();
    }
}

/// Where the failed transaction begins, which was not synced: it and the last one.
fn commit_start(bytes: &[u8]) -> usize {
    let is_begin = |at: &usize| {
        let head: &[u8; 48] = bytes[*at..].first_chunk().unwrap();
        let head = _zrs::dobbin::Head::parse(head, *at as u64);
        head.is_ok_and(|head| head.kind == _zrs::dobbin::Kind::Begin)
    };
    let begins: Vec<_> = (HEADER_LEN..bytes.len() - 48).filter(is_begin).collect();
    assert_eq!(begins.len(), 5);
    begins[3]
}

/// A log that is cut anywhere opens with the transactions that are whole, and goes on.
#[test]
fn a_torn_end_is_cut_off() {
    let (bytes, _, known) = sample();
    for len in 0..bytes.len() {
        if (1..HEADER_LEN).contains(&len) {
            let vfs = SimVfs::with_files(0, vec![(PATH, bytes[..len].to_vec())]);
            assert!(open(&vfs, false).is_err(), "{len} bytes are no log");
            continue;
        }
        let vfs = SimVfs::with_files(0, vec![(PATH, bytes[..len].to_vec())]);
        let log = open(&vfs, false).unwrap();
        for (oid, pickles) in &known.objects {
            if let Ok(loaded) = log.load(Oid::from_u64(*oid)) {
                assert!(pickles.starts_with(&loaded.pickles), "{len}");
            }
        }
        let number = commit(&log, 9, b"goes on").unwrap();
        drop(log);
        let again = open(&vfs, true).unwrap();
        assert_eq!(again.number().unwrap(), number, "{len}");
        assert_eq!(again.load(Oid::from_u64(9)).unwrap().pickles, [b"goes on"]);
        assert!(again.damaged().unwrap().is_empty(), "{len}");
    }
}

#[test]
fn a_committed_transaction_that_is_cut_off_is_kept_beside_the_log() {
    let (bytes, _, _) = sample();
    let mut flipped = bytes.clone();
    let at = bytes.len() - 200;
    flipped[at] ^= 1;
    let vfs = SimVfs::with_files(0, vec![(PATH, flipped.clone())]);
    open(&vfs, false).unwrap();
    let cut = vfs.content(PATH).unwrap().len();
    let kept = vfs.content(format!("{PATH}.torn-{cut}")).unwrap();
    assert_eq!(kept, flipped[cut..]);
}

#[test]
fn other_files_are_refused_and_left_alone() {
    for content in [&b"some text, not ours\n"[..], &[7; 100], b"\x89dobbin\n"] {
        let vfs = SimVfs::with_files(0, vec![(PATH, content.to_vec())]);
        assert!(open(&vfs, false).is_err());
        assert_eq!(vfs.content(PATH).unwrap(), content);
        assert_eq!(vfs.operations(), 0);
    }
    let mut newer = sample().0;
    newer[11] = 2;
    let checksum = crc32fast::hash(&newer[..28]).to_be_bytes();
    newer[28..32].copy_from_slice(&checksum);
    let opened = open(&SimVfs::with_files(0, vec![(PATH, newer)]), false);
    assert!(matches!(
        opened,
        Err(LogError::UnknownVersion { version: 2, .. })
    ));
}
