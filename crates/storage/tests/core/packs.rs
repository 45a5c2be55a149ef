//! Packs, compared with the files that ZODB's pack writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zrs_ids::{Oid, Tid};
use zrs_storage::error::{StorageError, StorageResult};
use zrs_storage::pack::{IsBlob, Options, Pack, Packed, Target, native_references};
use zrs_storage::pickle::is_blob_record;
use zrs_storage::{DataFile, DataRecord, Reader};
use zrs_vfs::{OsVfs, Vfs};

/// One line of `packs.txt`, which `make_packs.py` describes.
struct Case {
    line: String,
    before: PathBuf,
    /// The end of the committed transactions when the pack began.
    start: u64,
    options: Options,
    expected: Expected,
    removed: String,
}

/// The result of ZODB's pack.
#[derive(PartialEq)]
enum Expected {
    /// Writes this file.
    File(PathBuf),
    /// Finds nothing to pack.
    Nothing,
    /// Misses an object that is referred to.
    NoSuchObject,
    /// Fails for a file that can be packed, or changes data.
    Fault,
}

impl Expected {
    fn parse(text: &str) -> Self {
        match text {
            "nothing" => Self::Nothing,
            "KeyError" => Self::NoSuchObject,
            "PackError" | "AssertionError" | "wrong" => Self::Fault,
            name => Self::File(folder().join(name)),
        }
    }

    fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

/// The folder of packs: that of the checkout, or one that `make_packs.py` has made.
fn folder() -> PathBuf {
    std::env::var_os("ZRS_PACKS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/packs"),
        PathBuf::from,
    )
}

fn cases() -> Vec<Case> {
    let text = fs::read_to_string(folder().join("packs.txt")).unwrap();
    let case = |line: &str| {
        let [before, start, time, kind, result, removed] = line.split(' ').collect::<Vec<_>>()[..]
        else {
            panic!("{line}")
        };
        Case {
            line: line.to_owned(),
            before: folder().join(before),
            start: start.parse().unwrap(),
            options: Options {
                time: Tid::from_u64(u64::from_str_radix(time, 16).unwrap()),
                gc: kind == "gc",
            },
            expected: Expected::parse(result),
            removed: removed.to_owned(),
        }
    };
    text.lines().map(case).collect()
}

/// The result of a pack, and the bytes of its file.
type Outcome = StorageResult<Option<(Packed, Vec<u8>)>>;

fn pack(case: &Case, is_blob: Option<&mut IsBlob<'_, StorageError>>) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let path: Arc<Path> = directory.path().join("Data.fs.pack").into();
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs);
    let source = DataFile::open(&*vfs, &case.before.as_path().into())?;
    let options = &case.options;
    let mut references = native_references();
    let started = Pack::start(
        Target {
            vfs: &vfs,
            path: &path,
            progress: &Arc::default(),
        },
        &source,
        case.start,
        options,
        &mut references,
        is_blob,
    );
    if !matches!(started, Ok(Some(_))) {
        assert!(!path.exists(), "{}: the file is still there", case.line);
    }
    let Some(mut pack) = started? else {
        return Ok(None);
    };
    for end in ends(&case.before)
        .into_iter()
        .filter(|end| *end > case.start)
    {
        pack.catch_up(end, &mut references, None)?;
    }
    let packed = pack.finish()?;
    let bytes = fs::read(&path).unwrap();
    assert_eq!(packed.end, bytes.len() as u64, "{}", case.line);
    Ok(Some((packed, bytes)))
}

/// The transactions of a file after `time`, each as its records.
fn transactions(path: &Path, time: Tid) -> Vec<(Tid, Vec<u8>, Vec<DataRecord>)> {
    let file = DataFile::open(&OsVfs, &path.into()).unwrap();
    let end = file.metadata().unwrap().len;
    let mut reader = Reader::new(file);
    let (mut position, mut previous, mut found) = (4, Tid::ZERO, Vec::new());
    while position < end {
        let transaction = reader.transaction(position, previous).unwrap().unwrap();
        if transaction.tid > time {
            let records = transaction.records().collect::<StorageResult<Vec<_>>>();
            let head = [
                &transaction.user[..],
                &transaction.description,
                &transaction.extension,
            ];
            found.push((transaction.tid, head.concat(), records.unwrap()));
        }
        (position, previous) = (transaction.end(), transaction.tid);
    }
    found
}

/// The end positions of a file's transactions.
fn ends(path: &Path) -> Vec<u64> {
    let file = DataFile::open(&OsVfs, &path.into()).unwrap();
    let mut reader = Reader::new(file);
    let (mut position, mut previous, mut ends) = (4, Tid::ZERO, Vec::new());
    while let Some(transaction) = reader.transaction(position, previous).unwrap() {
        (position, previous) = (transaction.end(), transaction.tid);
        ends.push(position);
    }
    ends
}

/// The position of each object's last record.
fn scan(path: &Path) -> BTreeMap<Oid, u64> {
    let records = transactions(path, Tid::ZERO).into_iter();
    let records = records.flat_map(|(_, _, records)| records);
    records
        .map(|record| (record.oid, record.position))
        .collect()
}

fn check_index(packed: &Packed, bytes: &[u8], line: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let found: BTreeMap<_, _> = packed.index.iter().collect();
    assert_eq!(found, scan(file.path()), "{line}");
}

/// If ZODB fails or its result is wrong: everything after the pack time is unchanged.
fn check_later(case: &Case, bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let say = |path: &Path| {
        let mut all = transactions(path, case.options.time);
        for record in all.iter_mut().flat_map(|(_, _, records)| records) {
            // The position of the data may differ, but not the data.
            (record.position, record.data_txn) = (0, None);
        }
        all
    };
    let same = say(file.path()) == say(&case.before);
    assert!(same, "{}: says something else", case.line);
}

/// The data of the records of each object, by transaction.
fn data_of(path: &Path) -> BTreeMap<(Oid, Tid), Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for (tid, _, records) in transactions(path, Tid::ZERO) {
        for record in records {
            found.insert((record.oid, tid), record.data.map(|data| data.to_vec()));
        }
    }
    found
}

/// An object that existed at the pack time and has lost its state of that time, although a record
/// of the packed file refers to it, or has a backpointer to another revision of it from before
/// the pack time.
fn lost(case: &Case, bytes: &[u8]) -> Option<Oid> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let (before, after) = (data_of(&case.before), data_of(file.path()));
    let mut then = BTreeMap::new();
    for ((oid, tid), data) in &before {
        if *tid <= case.options.time {
            then.insert(*oid, data.is_some().then_some(*tid));
        }
    }
    let time = case.options.time;
    let later = transactions(file.path(), time);
    let later = later.iter().flat_map(|(_, _, records)| records);
    let copies = later.filter(|record| record.data_txn.is_some_and(|tid| tid <= time));
    let mut needed: BTreeSet<Oid> = copies.map(|record| record.oid).collect();
    for data in after.values().flatten() {
        needed.extend(zrs_storage::pickle::refs::references(data).unwrap());
    }
    let mut needed = needed.into_iter();
    needed.find(|oid| {
        let then = then.get(oid).copied().flatten();
        then.is_some_and(|tid| !after.contains_key(&(*oid, tid)))
    })
}

fn check(case: &Case, outcome: Outcome) {
    let line = &case.line;
    match (&case.expected, outcome) {
        (Expected::Nothing, Ok(None))
        | (Expected::NoSuchObject, Err(StorageError::NoSuchObject { .. })) => {}
        (Expected::Fault, Ok(Some((packed, bytes)))) => {
            check_index(&packed, &bytes, line);
            check_later(case, &bytes);
            assert_eq!(lost(case, &bytes), None, "{line}");
        }
        (Expected::File(path), Ok(Some((packed, bytes)))) => {
            let expected = fs::read(path).unwrap();
            if lost(case, &expected).is_some() {
                check_later(case, &bytes);
            } else {
                let same = bytes.iter().zip(&expected).take_while(|(a, b)| a == b);
                let same = same.count();
                assert!(bytes == expected, "{line}: differs from {same} on");
            }
            check_index(&packed, &bytes, line);
            assert_eq!(lost(case, &bytes), None, "{line}");
        }
        (_, Err(error)) => panic!("{line}: {error}"),
        (_, Ok(None)) => panic!("{line}: nothing to pack"),
        (_, Ok(Some((_, bytes)))) => panic!("{line}: {} bytes", bytes.len()),
    }
}

/// Except if ZODB's pack loses an object, which [`check`] finds itself.
#[test]
fn packed_files_are_those_of_zodb_byte_for_byte() {
    let cases = cases();
    let packed = cases.iter().filter(|case| case.expected.is_file());
    assert!(packed.count() >= 20);
    for case in &cases {
        check(case, pack(case, None));
    }
}

/// ZODB's pack keeps an object that is stored again after the pack time, but neither its earlier
/// state nor the objects to which it refers. Some cases are of this kind, most are not.
#[test]
fn objects_that_a_kept_record_refers_to_are_kept_where_zodb_loses_them() {
    let (mut closed, mut lossy) = (0, 0);
    for case in &cases() {
        if let Expected::File(path) = &case.expected {
            let is_lossy = lost(case, &fs::read(path).unwrap()).is_some();
            *(if is_lossy { &mut lossy } else { &mut closed }) += 1;
            let (_, bytes) = pack(case, None).unwrap().unwrap();
            assert_eq!(lost(case, &bytes), None, "{}", case.line);
        }
    }
    assert!(closed >= 40 && lossy >= 1, "{closed}, {lossy}");
}

/// Undoing two transactions at once leaves two records of an object in one transaction. A later
/// undo has a backpointer to the second; ZODB's pack changes it to the first, and the object
/// silently changes.
#[test]
fn a_backpointer_keeps_its_target_among_two_records_of_an_object() {
    let cases = cases();
    let wrong = cases.iter().filter(|case| case.line.contains(" wrong "));
    let mut checked = 0;
    for case in wrong {
        let (_, bytes) = pack(case, None).unwrap().unwrap();
        check_later(case, &bytes);
        checked += 1;
    }
    assert!(checked > 0);
}

/// The blobs that ZODB's pack records: a revision, or an object without any revision left from
/// before the pack time.
fn noted(removed: &str) -> BTreeSet<&str> {
    removed.split(',').filter(|line| *line != "-").collect()
}

/// We never name an object without a revision, because it can have later ones.
#[test]
fn blobs_to_be_removed_are_the_revisions_of_those_that_zodb_notes() {
    let mut count = 0;
    for case in &cases() {
        let mut is_blob = |data: &[u8]| Ok(is_blob_record(data));
        let outcome = pack(case, Some(&mut is_blob));
        if let (Expected::File(path), Ok(Some((packed, _)))) = (&case.expected, &outcome) {
            let expected = noted(&case.removed);
            let dropped = packed.dropped.blobs.iter().map(|(oid, tid)| {
                let oid = format!("{:016x}", oid.as_u64());
                let revision = format!("{oid}{:016x}", tid.as_u64());
                let of_object = expected.contains(oid.as_str());
                if of_object { oid } else { revision }
            });
            let dropped: BTreeSet<String> = dropped.collect();
            count += dropped.len();
            let same = dropped.iter().eq(expected.iter());
            let excused = lost(case, &fs::read(path).unwrap()).is_some();
            assert!(same || excused, "{}: {dropped:?}", case.line);
        }
        check(case, outcome);
    }
    assert!(count > 0);
}
