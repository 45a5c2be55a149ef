use std::path::Path;

use super::super::filestorage::Options;
use super::super::index_file::write_index;
use super::super::samples::{Content, FileBuilder, PATH, data_file, memory};
use super::super::seek::find_after;
use super::*;
use crate::memory::MemoryVfs;

/// More transactions than a search walks over before it uses hints, some with a whole `Data.fs`
/// in their data, whose transactions look like those outside.
fn file_with_files_in_it() -> FileBuilder {
    let inner = FileBuilder::uniform(40, 10).bytes;
    let mut file = FileBuilder::new();
    for number in 1..=4000_u64 {
        let data = if number % 50 == 0 {
            &inner[..]
        } else {
            b"data"
        };
        let records = [(number % 1500, Content::Data(data.to_vec()))];
        file.add(number * 10, if number % 11 == 0 { &[] } else { &records });
    }
    file
}

fn storage(file: &FileBuilder) -> (Arc<MemoryVfs>, Arc<FileStorage>) {
    let (vfs, _) = memory(&file.bytes);
    let options = Options {
        read_only: true,
        ..Options::default()
    };
    let storage = FileStorage::open(Arc::clone(&vfs) as _, Path::new(PATH), options).unwrap();
    (vfs, Arc::new(storage))
}

fn first_after(file: &FileBuilder, start: u64) -> u64 {
    let after = (file.transactions.iter()).find(|(tid, _)| tid.as_u64() > start);
    after.map_or(file.end(), |(_, position)| *position)
}

#[test]
fn a_search_with_hints_equals_a_full_scan() {
    let file = file_with_files_in_it();
    let (vfs, storage) = storage(&file);
    let handle = data_file(&*vfs, Path::new(PATH));
    let known = SeekHints::new(&storage);
    let middle = file.transactions[2000].1;
    for known_end in [None, Some(file.end()), Some(middle), Some(77)] {
        for start in (1..=40_000).filter(|start| start % 130 == 0 || start % 999 == 0) {
            let tid = Tid::from_u64(start);
            let found = find_after(&handle, tid, known_end, Some(&known), &|| false);
            let position = found.unwrap().unwrap().position;
            assert_eq!(position, first_after(&file, start), "{start} {known_end:?}");
        }
    }
}

#[test]
fn hints_are_beginnings_of_near_transactions_on_both_sides() {
    let file = file_with_files_in_it();
    let (vfs, storage) = storage(&file);
    let handle = data_file(&*vfs, Path::new(PATH));
    let known = SeekHints::new(&storage);
    // The index leads only to the last 1,500 transactions.
    for start in (25_100..40_000).step_by(770) {
        let bounds = known.around(&handle, Tid::from_u64(start)).unwrap();
        let begins: Vec<u64> = file.transactions.iter().map(|(_, at)| *at).collect();
        let place = first_after(&file, start);
        let at = begins.binary_search(&place).unwrap_or(begins.len());
        let lower = begins.binary_search(&bounds.lower.unwrap()).unwrap();
        assert!(lower < at && at - lower < 4, "{start} {bounds:?} {place}");
        if let Some(upper) = bounds.upper {
            let upper = begins.binary_search(&upper).unwrap();
            assert!(upper >= at && upper - at < 4, "{start} {bounds:?} {place}");
        }
    }
    let before_all = known.around(&handle, Tid::from_u64(100)).unwrap();
    assert_eq!(before_all.lower, None);
}

/// The hints from an index file that was saved when the file was half as long.
fn saved_halfway(file: &FileBuilder) -> (Arc<MemoryVfs>, SeekHints) {
    let half = file.transactions[2000].1;
    let (_, storage) = storage(&FileBuilder {
        bytes: file.bytes[..usize::try_from(half).unwrap()].to_vec(),
        ..FileBuilder::new()
    });
    let index = write_index(half, &storage.file_and_index().1);
    let (vfs, _) = memory(&file.bytes);
    vfs.create(&format!("{PATH}.index"), &index);
    let known = SeekHints::saved(Arc::clone(&vfs) as _, Path::new(PATH));
    (vfs, known)
}

#[test]
fn a_saved_index_gives_hints_for_the_part_that_it_covers() {
    let file = file_with_files_in_it();
    let (vfs, known) = saved_halfway(&file);
    let handle = data_file(&*vfs, Path::new(PATH));
    let bounds = known.around(&handle, Tid::from_u64(15_005)).unwrap();
    let (_, place) = file.transactions[1500];
    assert!(bounds.lower.unwrap() <= place && place <= bounds.upper.unwrap());
    let behind = known.around(&handle, Tid::from_u64(30_000)).unwrap();
    assert!(behind.lower.unwrap() > file.transactions[1900].1);
    assert_eq!(behind.upper, None);
    for start in (1..=40_000).step_by(499) {
        let found = find_after(&handle, Tid::from_u64(start), None, Some(&known), &|| false);
        let position = found.unwrap().unwrap().position;
        assert_eq!(position, first_after(&file, start), "{start}");
    }
}

#[test]
fn a_damaged_index_or_one_of_another_file_gives_no_hints() {
    let file = file_with_files_in_it();
    let (vfs, known) = saved_halfway(&file);
    vfs.create(PATH, &FileBuilder::uniform(4000, 10).bytes);
    let handle = data_file(&*vfs, Path::new(PATH));
    assert_eq!(known.around(&handle, Tid::from_u64(1000)), None);

    let (vfs, known) = saved_halfway(&file);
    let handle = data_file(&*vfs, Path::new(PATH));
    vfs.create(&format!("{PATH}.index"), b"no index");
    assert_eq!(known.around(&handle, Tid::from_u64(1000)), None);
}

#[test]
fn another_file_has_no_hints() {
    let file = file_with_files_in_it();
    let (vfs, storage) = storage(&file);
    let known = SeekHints::new(&storage);
    vfs.create(PATH, &FileBuilder::uniform(4000, 10).bytes);
    let replaced = data_file(&*vfs, Path::new(PATH));
    assert_eq!(known.around(&replaced, Tid::from_u64(30_000)), None);
}

#[test]
fn a_closed_or_dropped_storage_gives_no_hints() {
    let file = file_with_files_in_it();
    let (vfs, storage) = storage(&file);
    let handle = data_file(&*vfs, Path::new(PATH));
    let known = SeekHints::new(&storage);
    assert_ne!(known.around(&handle, Tid::from_u64(30_000)), None);
    storage.close().unwrap();
    assert_eq!(known.around(&handle, Tid::from_u64(30_000)), None);
    drop(storage);
    assert_eq!(known.around(&handle, Tid::from_u64(30_000)), None);
}

#[test]
fn a_search_with_a_wrong_index_walks_the_whole_file() {
    let mut file = file_with_files_in_it();
    let (_, storage) = storage(&file);
    let index = storage.file_and_index().1;
    for record in &file.records {
        let at = usize::try_from(*record).unwrap();
        file.bytes[at] ^= 1;
    }
    let (vfs, _) = memory(&file.bytes);
    let handle = data_file(&*vfs, Path::new(PATH));
    assert_eq!(
        bisect(&handle, &samples(&index), Tid::from_u64(30_000)),
        None
    );
}
