//! Damage that crashes once caused.

use super::check::check;
use super::power::{ORDERED, images};
use super::recorder::{PATH, Recorder, empty_disk, open};
use super::step::Step;

/// A storage with one transaction that ends `place` bytes into a sector.
fn ending_at(place: usize) -> Recorder {
    let store = |len: usize| Step::Store(Box::leak(Box::new([(0, len)])));
    let run = |len| {
        let mut recorder = Recorder::new(empty_disk(), ORDERED);
        recorder.run(&[store(len)]).unwrap();
        recorder
    };
    let end = run(0).storage().size() as usize;
    let recorder = run((place + 1024 - end % 512) % 512);
    assert_eq!(recorder.storage().size() as usize % 512, place);
    recorder
}

/// Lengths of records in two sectors, and in several.
pub(super) const VOTES: [Step; 2] = [
    Step::VoteAndDie(&[(1, 200)]),
    Step::VoteAndDie(&[(1, 700), (2, 300)]),
];

/// A storage after the vote of a transaction that begins `place` bytes into a sector.
pub(super) fn voted_at(place: usize, vote: Step) -> Recorder {
    let mut recorder = ending_at(place % 512);
    recorder.step(&vote).unwrap();
    recorder
}

/// A vote wrote all of its record at once. If the sector with the header did not reach the disk
/// but the one with the length at the end did, that length was taken as proof of a good
/// transaction, and the file was refused, by us and by ZODB. If the header spanned two sectors
/// and only the first reached the disk, the transaction looked finished and damaged.
#[test]
fn a_vote_that_is_torn_anywhere_is_cut_off() {
    for (place, step) in (480..=512).flat_map(|place| VOTES.map(|step| (place, step))) {
        let recorder = voted_at(place, step);
        for (image, _) in images(&recorder, 16) {
            if let Err(problem) = check(&image.open(), ORDERED, &recorder.states) {
                panic!("at {place}, {}: {problem}", image.label());
            }
        }
    }
}

/// The last records were all expected to be current. An index was refused, and the whole file
/// scanned, if one of the last five records was followed by another one of its object.
#[test]
fn an_index_is_trusted_though_an_object_was_stored_twice() {
    let mut recorder = Recorder::new(empty_disk(), ORDERED);
    let store = Step::Store(&[(0, 100)]);
    recorder.run(&[store, store, Step::Reopen]).unwrap();
    assert!(recorder.storage().used_index());
}

/// A file got its name before its magic was durable. After a crash, the magic could be four
/// zeros, and the file could never be opened.
#[test]
fn a_file_has_its_magic_when_it_has_its_name() {
    let vfs = empty_disk();
    drop(open(&vfs, ORDERED).unwrap());
    for operations in 0..=vfs.operations() {
        for image in vfs.crash_images(operations) {
            let content = image.content(PATH);
            assert!(content.is_none_or(|content| content == b"FS30"));
        }
    }
}
