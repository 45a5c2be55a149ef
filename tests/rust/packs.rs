//! Packs, against the files that ZODB's pack writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use _zrs::error::{StorageError, StorageResult};
use _zrs::ids::{Oid, Tid};
use _zrs::pickle::is_blob_record;
use _zrs::storage::pack::{
    Dropped, DroppedBlobs, Options, Pack, Packed, Target, native_references,
};
use _zrs::storage::{DataFile, DataRecord, Reader};
use _zrs::vfs::{OsVfs, Vfs};

/// One line of `packs.txt`, which `make_packs.py` explains.
struct Case {
    line: String,
    before: PathBuf,
    /// Where the committed transactions ended when the pack began.
    start: u64,
    options: Options,
    expected: Expected,
    removed: String,
}

/// What ZODB does.
#[derive(PartialEq)]
enum Expected {
    /// Writes this file.
    File(PathBuf),
    /// Finds nothing to pack.
    Nothing,
    /// Misses an object that is referred to.
    NoSuchObject,
    /// Fails at what can be packed, or writes something else than there was.
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

/// The folder of packs: that of the checkout, or another one that `make_packs.py` has made.
fn folder() -> PathBuf {
    std::env::var_os("ZRS_PACKS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/packs"),
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

/// What a pack gives, and the bytes of its file.
type Outcome = StorageResult<Option<(Packed, Vec<u8>)>>;

fn pack(case: &Case, blobs: Option<&mut DroppedBlobs<'_, StorageError>>) -> Outcome {
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
        blobs,
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
        pack.catch_up(end)?;
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

/// Where the transactions of a file end.
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

/// Where the last record of each object is.
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

/// Where ZODB fails, or its result is wrong: all that is later than the pack time says what it said before.
fn check_later(case: &Case, bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let say = |path: &Path| {
        let mut all = transactions(path, case.options.time);
        for record in all.iter_mut().flat_map(|(_, _, records)| records) {
            // Where the data are may differ, not what they are.
            (record.position, record.data_txn) = (0, None);
        }
        all
    };
    let same = say(file.path()) == say(&case.before);
    assert!(same, "{}: says something else", case.line);
}

fn check(case: &Case, outcome: Outcome) {
    let line = &case.line;
    match (&case.expected, outcome) {
        (Expected::Nothing, Ok(None))
        | (Expected::NoSuchObject, Err(StorageError::NoSuchObject { .. })) => {}
        (Expected::Fault, Ok(Some((packed, bytes)))) => {
            check_index(&packed, &bytes, line);
            check_later(case, &bytes);
        }
        (Expected::File(path), Ok(Some((packed, bytes)))) => {
            let expected = fs::read(path).unwrap();
            let same = bytes.iter().zip(&expected).take_while(|(a, b)| a == b);
            let same = same.count();
            assert!(bytes == expected, "{line}: differs from {same} on");
            check_index(&packed, &bytes, line);
        }
        (_, Err(error)) => panic!("{line}: {error}"),
        (_, Ok(None)) => panic!("{line}: nothing to pack"),
        (_, Ok(Some((_, bytes)))) => panic!("{line}: {} bytes", bytes.len()),
    }
}

#[test]
fn packed_files_are_those_of_zodb_byte_for_byte() {
    let cases = cases();
    let packed = cases.iter().filter(|case| case.expected.is_file());
    assert!(packed.count() >= 20);
    for case in &cases {
        check(case, pack(case, None));
    }
}

/// Two transactions undone at once leave two records of an object in one transaction. A
/// later undo goes back to the second; ZODB's pack makes it lead to the first, and the
/// object silently changes.
#[test]
fn a_backpointer_leads_to_what_it_led_to_among_two_records_of_an_object() {
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

#[test]
fn blobs_to_be_removed_are_those_that_zodb_notes() {
    let mut noted = 0;
    for case in &cases() {
        let mut lines = Vec::new();
        let mut note = |dropped: Dropped, data: &[u8]| {
            if !is_blob_record(data) {
                return Ok(());
            }
            let (oid, tid) = (dropped.oid.as_u64(), dropped.tid.as_u64());
            let line = format!("{oid:016x}");
            lines.push(if dropped.is_garbage {
                line
            } else {
                format!("{line}{tid:016x}")
            });
            Ok(())
        };
        let outcome = pack(case, Some(&mut note));
        if case.expected.is_file() {
            noted += lines.len();
            let lines = if lines.is_empty() {
                "-".to_owned()
            } else {
                lines.join(",")
            };
            assert_eq!(lines, case.removed, "{}", case.line);
        }
        check(case, outcome);
    }
    assert!(noted > 0);
}
