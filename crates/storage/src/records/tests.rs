use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::samples::{Content, FileBuilder, PATH, memory, read_all, tail};
use super::super::tail::READ_AHEAD;
use super::super::{DataFile, Tail};
use super::*;
use crate::error::StorageError;
use zrs_vfs::Vfs;

use Content::{Backpointer, Data};

fn read(file: &FileBuilder) -> StorageResult<Vec<DataRecord>> {
    let (vfs, _) = memory(&file.bytes);
    let all = read_all(&mut tail(&vfs, 0))?;
    Ok(all.into_iter().flat_map(|(_, records)| records).collect())
}

fn corruption(file: &FileBuilder) -> (u64, Corruption) {
    match read(file) {
        Err(StorageError::Corrupt {
            position,
            corruption,
            ..
        }) => (position, corruption),
        other => panic!("{other:?}"),
    }
}

#[test]
fn backpointers_lead_to_the_data_at_their_end_and_the_transaction_one_link_back() {
    let mut file = FileBuilder::new();
    file.add(10, &[(1, Data(b"one".to_vec()))]);
    file.add(20, &[(1, Backpointer(file.records[0]))]);
    file.add(30, &[(1, Backpointer(file.records[1]))]);
    file.add(40, &[(1, Backpointer(0))]);
    file.add(50, &[(1, Backpointer(file.records[3]))]);
    let records = read(&file).unwrap();
    let seen: Vec<_> = records
        .iter()
        .map(|record| (record.data.as_deref(), record.data_txn.map(Tid::as_u64)))
        .collect();
    assert_eq!(
        seen,
        [
            (Some(&b"one"[..]), None),
            (Some(b"one"), Some(10)),
            (Some(b"one"), Some(20)),
            (None, None),
            (None, Some(40)),
        ]
    );
}

#[test]
fn a_very_long_chain_of_backpointers_is_followed_without_recursion() {
    let mut file = FileBuilder::new();
    file.add(1, &[(1, Data(b"end".to_vec()))]);
    let links: Vec<_> = (0..3000_u64).collect();
    for link in &links {
        let back = file.records[usize::try_from(*link).unwrap()];
        file.add(link + 2, &[(1, Backpointer(back))]);
    }
    let last = read(&file).unwrap().pop().unwrap();
    assert_eq!(last.data.as_deref(), Some(&b"end"[..]));
    assert_eq!(last.data_txn, Some(Tid::from_u64(3000)));
}

#[test]
fn backpointers_to_other_bytes_are_corrupt() {
    let mut file = FileBuilder::new();
    file.add(10, &[(1, Data(b"one".to_vec()))]);
    let good = file.clone();
    for found in [1, 3, good.end(), good.end() + 40, u64::MAX] {
        let mut file = good.clone();
        file.add(20, &[(1, Backpointer(found))]);
        let expected = (file.records[1], Corruption::Backpointer { found });
        assert_eq!(corruption(&file), expected);
    }
    let mut file = good.clone();
    file.add(20, &[(2, Backpointer(good.records[0]))]);
    let (found, expected) = (Oid::from_u64(1), Oid::from_u64(2));
    assert_eq!(
        corruption(&file),
        (
            good.records[0],
            Corruption::BackpointerOid { found, expected }
        )
    );
}

#[test]
fn lengths_are_checked_before_memory_is_allocated() {
    let mut file = FileBuilder::new();
    file.add(10, &[(1, Data(b"one".to_vec()))]);
    let record = file.records[0];
    let at = usize::try_from(record).unwrap() + 34;
    file.bytes[at..at + 8].copy_from_slice(&(u64::MAX / 2).to_be_bytes());
    let (length, limit) = (u64::MAX / 2, file.end() - 8);
    assert_eq!(
        corruption(&file),
        (record, Corruption::RecordTooLong { length, limit })
    );
}

#[test]
fn bytes_left_over_in_a_transaction_are_corrupt() {
    let mut file = FileBuilder::new();
    file.add(10, &[(1, Data(vec![7; 40]))]);
    let record = file.records[0];
    // The data end ten bytes before the transaction.
    file.bytes[usize::try_from(record).unwrap() + 41] = 30;
    let left = 10;
    assert_eq!(
        corruption(&file),
        (record + 72, Corruption::RecordTooShort { left })
    );
}

#[test]
fn an_iterator_ends_after_an_error() {
    let mut file = FileBuilder::new();
    file.add(10, &[(1, Backpointer(3)), (2, Data(b"x".to_vec()))]);
    let (vfs, _) = memory(&file.bytes);
    let mut tail = tail(&vfs, 0);
    let transaction = tail.next(None).unwrap().unwrap();
    let results: Vec<_> = transaction.records().map(|record| record.is_ok()).collect();
    assert_eq!(results, [false]);
}

/// A window begins with the incomplete structure at the end of the previous one, so this allows
/// for more windows than the length requires; a transaction that ends in the next window takes
/// two more reads.
fn assert_few_reads(reads: u64, length: usize) {
    let windows = length.div_ceil(READ_AHEAD) as u64;
    assert!(reads <= 3 * windows + 20, "{reads} for {windows} windows");
}

#[test]
fn small_transactions_share_reads() {
    let file = FileBuilder::uniform(20_000, 100);
    let (vfs, memory) = memory(&file.bytes);
    let mut tail = tail(&vfs, 0);
    // If the file ends within the window, each header is read again.
    let mut count = 0;
    while let Some(transaction) = tail.next(Some(Tid::from_u64(150_000))).unwrap() {
        count += tail.records(&transaction).count();
    }
    assert_eq!(count, 15_000);
    assert_few_reads(memory.reads(), file.bytes.len());
    assert_eq!(read_all(&mut tail).unwrap().len(), 5000);
}

#[test]
fn a_large_transaction_is_read_through_a_window_of_fixed_size() {
    let records: Vec<_> = (0..30_000)
        .map(|oid| (oid, Data(vec![b'r'; 100])))
        .collect();
    let mut file = FileBuilder::new();
    file.add(10, &records);
    let (vfs, memory) = memory(&file.bytes);
    let mut tail = tail(&vfs, 0);
    let transaction = tail.next(None).unwrap().unwrap();
    assert_eq!(tail.records(&transaction).count(), 30_000);
    assert_few_reads(memory.reads(), file.bytes.len());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..400), magic: bool, start: u64,
    ) {
        let bytes = if magic { [&b"FS30"[..], &bytes].concat() } else { bytes };
        read_everything(&bytes, start);
    }

    /// Changed bytes in a good file reach deeper states than random ones.
    #[test]
    fn a_changed_file_never_panics(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(), start in 0_u64..70,
    ) {
        let mut file = FileBuilder::new();
        file.add(10, &[(1, Data(vec![1; 60])), (2, Data(vec![2; 5]))]);
        file.add(20, &[(1, Backpointer(file.records[0])), (2, Backpointer(0))]);
        file.add(30, &[(2, Backpointer(file.records[3])), (1, Backpointer(file.records[2]))]);
        file.add(40, &[]);
        let mut bytes = file.bytes;
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        read_everything(&bytes, start);
        bytes.truncate(cut.index(bytes.len()));
        read_everything(&bytes, start);
    }
}

/// Read everything that can be read, from both ends; data are never longer than the file.
fn read_everything(bytes: &[u8], start: u64) {
    let (vfs, _) = memory(bytes);
    let vfs = vfs as Arc<dyn Vfs>;
    for known_end in [None, Some(bytes.len() as u64)] {
        let path = Path::new(PATH);
        let start = Tid::from_u64(start);
        let Ok(mut tail) = Tail::open(Arc::clone(&vfs), path, start, known_end) else {
            continue;
        };
        while let Ok(Some(transaction)) = tail.next(None) {
            for record in tail.records(&transaction) {
                let len = record
                    .ok()
                    .and_then(|record| record.data)
                    .map(|data| data.len());
                assert!(len.is_none_or(|len| len <= bytes.len()));
            }
        }
    }
    let file = DataFile::open(&*vfs, &Path::new(PATH).into()).unwrap();
    let _ = file.has_magic();
}
