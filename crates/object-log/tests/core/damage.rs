//! Flipped bytes, unfinished transactions, and files that are not logs.

use std::path::Path;
use std::sync::Arc;

use zrs_ids::Oid;
use zrs_object_log::{Dump, HEADER_LEN, Log, LogError};
use zrs_vfs::Vfs;
use zrs_vfs::sim::SimVfs;

use super::story::Step::*;
use super::story::{INDEX, PATH, State, Story, commit, empty_disk, open};

/// A closed log of five transactions with its index, and its state.
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

/// Each object is unchanged, or cannot be read and the error has a position.
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
fn a_flipped_byte_is_reported_with_its_position_and_the_rest_stays_readable() {
    let (bytes, index, known) = sample();
    let mut found = 0;
    for at in HEADER_LEN..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x20;
        let files = vec![(PATH, flipped), (INDEX, index.clone())];
        let log = open(&SimVfs::with_files(0, files), false).unwrap();
        found += check(&log, &known, at);
        // Objects of other transactions are not affected.
        let unreadable = check(&log, &known, at);
        assert!(unreadable <= 2, "byte {at}: {unreadable}");
    }
    assert!(found > 700, "{found}");
}

/// Without the index, damage of the last transaction cannot be distinguished from an unfinished
/// one. That of all others can, because later ones show that the file was durable.
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

/// The position of the failed transaction. Neither it nor the last one was synced.
fn commit_start(bytes: &[u8]) -> usize {
    let is_begin = |at: &usize| {
        let head: &[u8; 48] = bytes[*at..].first_chunk().unwrap();
        let head = zrs_object_log::Head::parse(head, *at as u64);
        head.is_ok_and(|head| head.kind == zrs_object_log::Kind::Begin)
    };
    let begins: Vec<_> = (HEADER_LEN..bytes.len() - 48).filter(is_begin).collect();
    assert_eq!(begins.len(), 5);
    begins[3]
}

/// A log that is truncated anywhere opens with its complete transactions, and can be written.
#[test]
fn an_unfinished_transaction_is_cut_off() {
    let (bytes, _, known) = sample();
    for len in 0..bytes.len() {
        if (1..HEADER_LEN).contains(&len) {
            let vfs = SimVfs::with_files(0, vec![(PATH, bytes[..len].to_vec())]);
            assert!(open(&vfs, false).is_err(), "{len} bytes are not a log");
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
fn a_committed_transaction_that_is_cut_off_is_copied_next_to_the_log() {
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
fn other_files_are_refused_and_not_changed() {
    for content in [&b"some text, not a log\n"[..], &[7; 100], b"\x89dobbin\n"] {
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

/// The index shows what was durable: a shorter log is not opened as an older state.
#[test]
fn a_log_that_is_shorter_than_its_index_shows_is_refused_and_not_changed() {
    let (bytes, index, _) = sample();
    for len in HEADER_LEN..bytes.len() {
        let files = [(PATH, bytes[..len].to_vec()), (INDEX, index.clone())];
        let vfs = SimVfs::with_files(0, files);
        for read_only in [true, false] {
            let error = open(&vfs, read_only).err();
            let Some(LogError::Shortened {
                len: found,
                durable,
                transaction,
                ..
            }) = error
            else {
                panic!("{len}: {error:?}");
            };
            assert_eq!(found, len as u64);
            assert_eq!((durable, transaction), (bytes.len() as u64, 5));
        }
        assert_eq!(vfs.operations(), 0, "{len}");
        let mut dump = Dump::open(Arc::new(vfs.clone()), Path::new(PATH)).unwrap();
        assert!(dump.shortened().is_some());
        while dump.read_next().unwrap().is_some() {}
        // Without the index it is an earlier state of the log.
        let vfs = SimVfs::with_files(0, [(PATH, bytes[..len].to_vec())]);
        assert!(open(&vfs, false).unwrap().number().unwrap() < 5);
    }
}

/// An empty file does not become a new log unless the index is removed.
#[test]
fn an_emptied_log_does_not_become_a_new_one() {
    let (bytes, index, _) = sample();
    let vfs = SimVfs::with_files(0, [(PATH, Vec::new()), (INDEX, index)]);
    for read_only in [true, false] {
        assert!(matches!(
            open(&vfs, read_only).err(),
            Some(LogError::Emptied { durable, transaction: 5, .. }) if durable == bytes.len() as u64
        ));
    }
    let dump = Dump::open(Arc::new(vfs.clone()), Path::new(PATH)).err();
    assert!(matches!(dump, Some(LogError::Emptied { .. })));
    assert_eq!(vfs.operations(), 0);
    vfs.remove(Path::new(INDEX)).unwrap();
    assert_eq!(open(&vfs, false).unwrap().number().unwrap(), 0);
}

/// The same for a log that is truncated while it is open.
#[test]
fn a_log_that_becomes_shorter_is_not_written() {
    let vfs = empty_disk(0);
    let log = open(&vfs, false).unwrap();
    commit(&log, 1, b"one").unwrap();
    let len = log.end().unwrap();
    commit(&log, 1, b"two").unwrap();
    vfs.open_write(Path::new(PATH))
        .unwrap()
        .set_len(len)
        .unwrap();
    assert!(matches!(log.catch_up(), Err(LogError::Shortened { .. })));
    assert!(matches!(
        commit(&log, 1, b"three"),
        Err(LogError::Shortened { transaction: 2, .. })
    ));
    assert_eq!(vfs.content(PATH).unwrap().len() as u64, len);
    // The index is kept, so the next attempt to open the log fails too.
    log.close().unwrap();
    assert!(matches!(
        open(&vfs, false).err(),
        Some(LogError::Shortened { .. })
    ));
}

/// Two unfinished transactions at the same position are both copied.
#[test]
fn a_copy_of_an_unfinished_transaction_is_not_overwritten() {
    let mut story = Story::new(empty_disk(0));
    story.run(&[Commit(&[(1, 600)])]).unwrap();
    let vfs = story.vfs.clone();
    drop(story.log.take());
    let sound = vfs.content(PATH).unwrap();
    let mut kept = Vec::new();
    for byte in [b'x', b'y'] {
        let mut torn = sound.clone();
        torn[HEADER_LEN + 100] = byte;
        let file = vfs.open_write(Path::new(PATH)).unwrap();
        file.write_all_at(&torn, 0).unwrap();
        drop(open(&vfs, false).unwrap());
        kept.push(torn[HEADER_LEN..].to_vec());
    }
    for (suffix, torn) in ["", "-2"].iter().zip(kept) {
        let copy = format!("{PATH}.torn-{HEADER_LEN}{suffix}");
        assert_eq!(vfs.content(&copy), Some(torn), "{:?}", vfs.paths());
    }
}
