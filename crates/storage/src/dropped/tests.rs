//! Histories with packs: after each pack and each crash during one, every transaction is answered
//! correctly, whether it is in the file, was dropped by packs, or never existed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::samples::{Content, FileBuilder};
use super::*;
use crate::format::TransactionStatus;
use crate::{StartPosition, Tail};
use zrs_vfs::sim::SimVfs;

const PATH: &str = "/Data.fs";
const PACKED: &str = "/Data.fs.pack";
/// Tids of a history are multiples of this; those in between never existed.
const STEP: u64 = 10;

/// A file with these transactions, those up to `time` marked as packed.
fn file(tids: &BTreeSet<u64>, time: u64) -> Vec<u8> {
    let mut file = FileBuilder::new();
    for &tid in tids {
        let status = if tid <= time {
            TransactionStatus::Packed
        } else {
            TransactionStatus::Complete
        };
        file.add_with(tid, status, &[(tid, Content::Data(vec![b'd'; 3]))]);
    }
    file.bytes
}

fn open(vfs: &SimVfs, path: &str) -> DataFile {
    DataFile::open(vfs, &Path::new(path).into()).unwrap()
}

fn start_position(vfs: &SimVfs, start: u64) -> StartPosition {
    let vfs = Arc::new(vfs.clone());
    let (start, stop) = (Tid::from_u64(start), Arc::default());
    let tail = Tail::open_stoppable(vfs, Path::new(PATH), start, None, None, stop);
    tail.unwrap().unwrap().start_position().unwrap()
}

/// Checks the answer for each transaction, and for one after each that never existed.
fn check(vfs: &SimVfs, history: &BTreeSet<u64>, kept: &BTreeSet<u64>) {
    for &tid in history {
        let found = start_position(vfs, tid);
        let is_right = match found {
            StartPosition::Here(_) => kept.contains(&tid),
            StartPosition::Packed => !kept.contains(&tid),
            _ => false,
        };
        assert!(is_right, "{tid} of {history:?}, in the file are {kept:?}");
        let never = start_position(vfs, tid + 1);
        assert!(
            matches!(never, StartPosition::Unknown(_)),
            "{} was never in {history:?}, in the file are {kept:?}",
            tid + 1
        );
    }
}

/// Whether the packed file is in place in this image.
fn is_packed(vfs: &SimVfs, packed: &[u8]) -> bool {
    vfs.content(PATH).unwrap() == packed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn each_transaction_is_answered_correctly_after_packs_and_crashes(
        rounds in prop::collection::vec((1..12_u64, any::<u64>(), any::<u64>()), 1..5)
    ) {
        let (mut history, mut kept, mut time) = (BTreeSet::new(), BTreeSet::new(), 0);
        let mut list = None;
        for (more, keep, when) in rounds {
            let first = history.len() as u64 + 1;
            let new = (first..first + more).map(|number| number * STEP);
            history.extend(new.clone());
            kept.extend(new);
            let source = file(&kept, time);
            let last = history.last().copied().unwrap();
            time += when % (last - time + STEP);
            // A pack keeps the root's record, and everything after its time.
            let keeps = |tid: u64| tid > time || keep >> (tid / STEP % 64) & 1 == 1;
            let least = kept.first().copied();
            let still: BTreeSet<_> = kept.iter().copied()
                .filter(|tid| keeps(*tid) || Some(*tid) == least)
                .collect();
            let packed = file(&still, time);
            let files = [(PATH, source.clone()), (PACKED, packed.clone())];
            let vfs = match list.take() {
                None => SimVfs::with_files(0, files),
                Some(bytes) => SimVfs::with_files(0, files.into_iter().chain([(LIST, bytes)])),
            };
            let (before, after) = (open(&vfs, PATH), open(&vfs, PACKED));
            let end = source.len() as u64;
            record(&vfs, Path::new(PATH), &before, end, &after, Tid::from_u64(time)).unwrap();
            if still.first().is_some_and(|tid| *tid <= time) {
                check(&vfs, &history, &kept);
                vfs.rename(Path::new(PACKED), Path::new(PATH)).unwrap();
                vfs.sync_directory(Path::new("/")).unwrap();
                check(&vfs, &history, &still);
                for operations in 0..=vfs.operations() {
                    for image in vfs.crash_images(operations).take(4) {
                        let image = image.open();
                        let now = if is_packed(&image, &packed) { &still } else { &kept };
                        check(&image, &history, now);
                    }
                }
                kept = still;
            } else {
                time = 0;
            }
            list = vfs.content(LIST);
        }
    }
}

const LIST: &str = "/Data.fs.dropped";

fn packed_once() -> SimVfs {
    let source: BTreeSet<_> = (1..=9).map(|number| number * STEP).collect();
    let still: BTreeSet<_> = [10, 50, 90].into();
    let vfs = SimVfs::with_files(0, [(PATH, file(&source, 0)), (PACKED, file(&still, 60))]);
    let (before, after) = (open(&vfs, PATH), open(&vfs, PACKED));
    let end = before.metadata().unwrap().len;
    record(
        &vfs,
        Path::new(PATH),
        &before,
        end,
        &after,
        Tid::from_u64(60),
    )
    .unwrap();
    vfs.rename(Path::new(PACKED), Path::new(PATH)).unwrap();
    vfs
}

#[test]
fn a_damaged_list_is_not_used() {
    let vfs = packed_once();
    assert!(matches!(start_position(&vfs, 20), StartPosition::Packed));
    assert!(matches!(
        start_position(&vfs, 21),
        StartPosition::Unknown(_)
    ));
    let whole = vfs.content(LIST).unwrap();
    for at in 0..HEADER_LEN {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        let files = [(PATH, vfs.content(PATH).unwrap()), (LIST, damaged)];
        let vfs = SimVfs::with_files(0, files);
        assert!(
            matches!(start_position(&vfs, 20), StartPosition::Unverified),
            "{at}"
        );
    }
    let short = whole[..whole.len() - 1].to_vec();
    let vfs = SimVfs::with_files(0, [(PATH, vfs.content(PATH).unwrap()), (LIST, short)]);
    assert!(matches!(
        start_position(&vfs, 20),
        StartPosition::Unverified
    ));
}

#[test]
fn transactions_that_a_pack_dropped_without_a_list_stay_unverified() {
    let source: BTreeSet<_> = [10, 50, 90, 100, 110].into();
    let still: BTreeSet<_> = [10, 50, 110].into();
    let vfs = SimVfs::with_files(0, [(PATH, file(&source, 60)), (PACKED, file(&still, 100))]);
    let (before, after) = (open(&vfs, PATH), open(&vfs, PACKED));
    let end = before.metadata().unwrap().len;
    record(
        &vfs,
        Path::new(PATH),
        &before,
        end,
        &after,
        Tid::from_u64(100),
    )
    .unwrap();
    vfs.rename(Path::new(PACKED), Path::new(PATH)).unwrap();
    for (start, expected) in [
        (20, "unverified"),
        (70, "unverified"),
        (90, "packed"),
        (95, "never"),
    ] {
        let found = match start_position(&vfs, start) {
            StartPosition::Packed => "packed",
            StartPosition::Unverified => "unverified",
            StartPosition::Unknown(_) => "never",
            StartPosition::Here(_) | StartPosition::Beginning => "here",
        };
        assert_eq!(found, expected, "{start}");
    }
}
