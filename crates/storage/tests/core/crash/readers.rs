//! Other processes that read the file while it is written: a backup, `fsdump`, a check.

use std::collections::HashMap;
use std::path::Path;

use zrs_vfs::sim::{Change, FileId};

use super::power::ORDERED;
use super::recorder::{PATH, Recorder, empty_disk};
use super::step::Step::{self, *};

/// Transactions within one write and over several, small and in groups.
const STEPS: &[Step] = &[
    Store(&[(0, 20), (1, 3000)]),
    Group(&[&[(1, 100)], &[(2, 200)]]),
    Group(&[&[(1, 70_000)], &[(2, 90_000), (3, 5)], &[(3, 66_000)]]),
    GroupBefore(&[&[(4, 80_000)]], &[(5, 90_000)]),
    Group(&[&[(6, 4 << 20)], &[(7, 6 << 20)]]),
    Store(&[(1, 100_000)]),
];

/// The contents of the file after each change.
fn moments(log: &[Change]) -> Vec<Vec<u8>> {
    let mut files: HashMap<FileId, Vec<u8>> = HashMap::new();
    let (mut current, mut moments) = (None, Vec::new());
    for change in log {
        let changed = match change {
            Change::Create { path, file } | Change::Rename { to: path, file, .. } => {
                if path == Path::new(PATH) {
                    current = Some(*file);
                }
                *file
            }
            Change::Write { file, offset, data } => {
                let bytes = files.entry(*file).or_default();
                let end = offset + data.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*offset..end].copy_from_slice(data);
                *file
            }
            Change::SetLen { file, len } => {
                files.entry(*file).or_default().resize(*len, 0);
                *file
            }
            _ => continue,
        };
        if Some(changed) == current {
            moments.push(files.get(&changed).cloned().unwrap_or_default());
        }
    }
    moments
}

/// The status of the transaction after the last finished one, if it has any bytes.
///
/// ZODB's iterator raises `CorruptedDataError` for an incomplete header.
fn status_behind(bytes: &[u8]) -> Option<u8> {
    let mut at = 4;
    loop {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        assert!(rest.len() >= 23, "a part of a header: {rest:?}");
        let header = &rest[..23];
        let length = u64::from_be_bytes(header[8..16].try_into().unwrap());
        if !b" pu".contains(&header[16]) {
            return Some(header[16]);
        }
        at += usize::try_from(length).unwrap() + 8;
    }
}

#[test]
fn a_reader_finds_an_unfinished_transaction_or_none() {
    let mut recorder = Recorder::new(empty_disk(), ORDERED);
    recorder.run(STEPS).unwrap();
    let moments = moments(&recorder.vfs.log());
    let mut voted = 0;
    for (number, bytes) in moments.iter().enumerate() {
        match status_behind(bytes) {
            None => {}
            Some(b'c') => voted += 1,
            Some(other) => panic!("status {other:#04x} after change {number} of the file"),
        }
    }
    assert!(voted > STEPS.len(), "{voted} of {}", moments.len());
}
