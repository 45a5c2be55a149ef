use std::path::Path;

use super::super::samples::{Content, FileBuilder, PATH, data_file, memory};
use super::*;

fn search(file: &FileBuilder, start: u64, known_end: Option<u64>) -> StorageResult<u64> {
    let (vfs, _) = memory(&file.bytes);
    let file = data_file(&*vfs, Path::new(PATH));
    let found = position_after(&file, Tid::from_u64(start), known_end, &|| false)?;
    Ok(found.unwrap())
}

/// Transactions of all sizes around those at which the walks change how they read.
fn mixed_sizes() -> FileBuilder {
    let mut file = FileBuilder::new();
    for number in 1..400_u64 {
        let size = match number % 7 {
            0 => 200_000,
            1 => 32 * 1024,
            2 => 32 * 1024 - 111,
            number => usize::try_from(number * 50).unwrap(),
        };
        let records = [(number, Content::Data(vec![b'x'; size]))];
        file.add(number * 10, if number % 11 == 0 { &[] } else { &records });
    }
    file
}

#[test]
fn searches_for_every_tid_and_gap_from_both_ends_equal_a_full_scan() {
    let file = mixed_sizes();
    let (vfs, _) = memory(&file.bytes);
    let handle = data_file(&*vfs, Path::new(PATH));
    let middle = file.transactions[200].1;
    for known_end in [None, Some(file.end()), Some(middle)] {
        for start in (1..=3990).filter(|start| start % 10 == 0 || start % 37 == 0) {
            let expected = file
                .transactions
                .iter()
                .find(|(tid, _)| tid.as_u64() > start)
                .map_or(file.end(), |(_, position)| *position);
            let found = position_after(&handle, Tid::from_u64(start), known_end, &|| false);
            assert_eq!(found.unwrap(), Some(expected), "{start} {known_end:?}");
        }
    }
}

#[test]
fn zero_is_the_beginning_also_of_an_empty_file() {
    assert_eq!(search(&FileBuilder::new(), 0, None).unwrap(), 4);
    assert_eq!(search(&FileBuilder::uniform(3, 10), 0, Some(4)).unwrap(), 4);
}

#[test]
fn a_start_above_the_last_is_too_high() {
    for (count, last) in [(0, 0), (3, 30)] {
        let file = FileBuilder::uniform(count, 10);
        for known_end in [None, Some(file.end()), Some(4)] {
            let error = search(&file, 31, known_end).unwrap_err();
            let (start, last) = (Tid::from_u64(31), Tid::from_u64(last));
            assert!(
                matches!(error, StorageError::TidTooHigh { start: s, last: l } if (s, l) == (start, last)),
                "{error}"
            );
        }
    }
}

#[test]
fn an_unfinished_transaction_is_not_the_last() {
    let mut file = FileBuilder::uniform(3, 10);
    let end = file.end();
    file.add_with(40, TransactionStatus::Voted, &[]);
    assert_eq!(search(&file, 30, None).unwrap(), end);
    assert_eq!(search(&file, 30, Some(file.end())).unwrap(), end);
    assert!(search(&file, 40, None).is_err());
    for cut in file.bytes.len() - 20..file.bytes.len() {
        let mut cut_off = file.clone();
        cut_off.bytes.truncate(cut);
        assert_eq!(search(&cut_off, 30, None).unwrap(), end);
    }
}

#[test]
fn an_outdated_or_wrong_known_end_does_not_change_the_result() {
    let file = FileBuilder::uniform(50, 100);
    for known_end in (0..file.end() + 40).chain([u64::MAX - 1, u64::MAX]) {
        assert_eq!(
            search(&file, 490, Some(known_end)).unwrap(),
            file.transactions[49].1,
            "{known_end}"
        );
    }
}

#[test]
fn the_nearer_end_determines_the_cost() {
    // 100,000 transactions of 133 bytes: 13 MB, some 100 windows.
    let file = FileBuilder::uniform(100_000, 50);
    let cost = |start: u64, known_end| {
        let (vfs, memory) = memory(&file.bytes);
        let handle = data_file(&*vfs, Path::new(PATH));
        position_after(&handle, Tid::from_u64(start), known_end, &|| false).unwrap();
        memory.reads()
    };
    let whole = cost(999_990, None);
    assert!(whole > 100, "{whole}");
    assert!(cost(1_000_000, Some(file.end())) < 4);
    assert!(cost(999_990, Some(file.end())) < 8);
    assert!(cost(990_000, Some(file.end())) < 16);
    assert!(cost(10, Some(file.end())) < 8);
    assert!(cost(500_000, Some(file.end())) < whole + 20);
}

#[test]
fn each_large_transaction_takes_one_read() {
    let file = FileBuilder::uniform(40, 300_000);
    for (start, known_end) in [(390, None), (10, Some(file.end()))] {
        let (vfs, memory) = memory(&file.bytes);
        let handle = data_file(&*vfs, Path::new(PATH));
        position_after(&handle, Tid::from_u64(start), known_end, &|| false).unwrap();
        assert!(memory.reads() <= 2 * 40 + 4, "{}", memory.reads());
    }
}

#[test]
fn a_search_can_be_stopped() {
    let file = FileBuilder::uniform(2000, 10);
    let (vfs, memory) = memory(&file.bytes);
    let handle = data_file(&*vfs, Path::new(PATH));
    let asked = std::cell::Cell::new(0);
    let cancelled = || {
        asked.set(asked.get() + 1);
        asked.get() > 2
    };
    let found = position_after(&handle, Tid::from_u64(20_000), None, &cancelled);
    assert_eq!(found.unwrap(), None);
    assert_eq!(asked.get(), 3);
    assert!(memory.reads() < 5);
}

#[test]
fn damaged_lengths_and_descending_tids_are_corrupt() {
    let file = FileBuilder::uniform(5, 10);
    let second = usize::try_from(file.transactions[1].1).unwrap();
    let corruption = |at: usize, byte: u8| {
        let mut broken = file.clone();
        broken.bytes[at] = byte;
        // No transaction ends at the end of the file, so no walk can begin there.
        broken.bytes.pop();
        match search(&broken, 45, None) {
            Err(StorageError::Corrupt {
                position,
                corruption,
                ..
            }) => (position, corruption),
            other => panic!("{other:?}"),
        }
    };
    let length = 23 + 17 + 42 + 10;
    assert_eq!(
        corruption(second - 1, 7),
        (
            4,
            Corruption::RedundantLength {
                length,
                redundant: 7
            }
        )
    );
    let (found, previous) = (Tid::from_u64(10), Tid::from_u64(10));
    assert_eq!(
        corruption(second + 7, 10),
        (second as u64, Corruption::TidOrder { found, previous })
    );
    assert_eq!(
        corruption(second + 16, b'x'),
        (second as u64, Corruption::Status { found: b'x' })
    );
}

/// A file with damage in the header of one transaction.
fn damaged(count: u64, damaged: usize) -> FileBuilder {
    let mut file = FileBuilder::uniform(count, 10);
    let position = usize::try_from(file.transactions[damaged].1).unwrap();
    // The high byte of the length.
    file.bytes[position + 8] = 0xff;
    file
}

#[test]
fn damage_before_the_transaction_is_avoided_by_the_walk_from_the_end() {
    for at in [0, 99] {
        let file = damaged(2000, at);
        for known_end in [Some(file.end()), None, Some(file.end() - 7)] {
            for number in [2000_usize, 1999, 1000, at + 2] {
                let start = number as u64 * 10;
                let expected = file
                    .transactions
                    .get(number)
                    .map_or(file.end(), |(_, at)| *at);
                let found = search(&file, start, known_end).unwrap();
                assert_eq!(found, expected, "{at} {known_end:?} {start}");
            }
        }
    }
}

#[test]
fn damage_after_the_transaction_is_avoided_by_the_walk_from_the_beginning() {
    let file = damaged(2000, 1900);
    let found = search(&file, 10_000, Some(file.end())).unwrap();
    assert_eq!(found, file.transactions[1000].1);
}

#[test]
fn damage_on_both_sides_is_an_error() {
    let mut file = damaged(2000, 900);
    let position = usize::try_from(file.transactions[1100].1).unwrap();
    file.bytes[position + 8] = 0xff;
    let error = search(&file, 10_000, Some(file.end())).unwrap_err();
    let expected = file.transactions[900].1;
    assert!(
        matches!(error, StorageError::Corrupt { position, .. } if position == expected),
        "{error}"
    );
}
