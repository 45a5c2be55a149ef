//! Reads files written by ZODB on Python 2.7 and 3.8, and compares the results with what ZODB
//! read from them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use md5::{Digest, Md5};
use serde_json::Value;

use super::samples::{data_file, golden};
use super::{DataRecord, Tail, seek};
use crate::error::{StorageError, StorageResult};
use zrs_ids::{Oid, Tid};
use zrs_vfs::OsVfs;

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn open(path: &Path, start: Tid, known_end: Option<u64>) -> Tail {
    Tail::open(Arc::new(OsVfs), path, start, known_end).unwrap()
}

/// The captured files that begin with `prefix`, with their expected contents.
fn captures(prefix: &str) -> Vec<(PathBuf, Value)> {
    let Some(folder) = golden() else {
        return Vec::new();
    };
    let mut captures = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with(prefix) && path.extension().is_some_and(|end| end == "fs") {
            let json = fs::read(path.with_extension("json")).unwrap();
            captures.push((path, serde_json::from_slice(&json).unwrap()));
        }
    }
    assert!(captures.len() >= 2, "captures of {prefix} are missing");
    captures
}

fn check_record(record: &DataRecord, expected: &Value) {
    assert_eq!(hex(record.oid.as_bytes()), text(&expected["oid"]));
    let (size, md5) = match &expected["back"] {
        Value::Null => (&expected["size"], &expected["md5"]),
        _ => (&expected["loaded_size"], &expected["loaded_md5"]),
    };
    match &record.data {
        None => assert!(md5.is_null() && expected["back"] == 0, "{expected}"),
        Some(data) => {
            assert_eq!(data.len() as u64, size.as_u64().unwrap());
            assert_eq!(hex(&Md5::digest(data)), text(md5));
        }
    }
    let data_txn = record.data_txn.map(|tid| hex(tid.as_bytes()));
    assert_eq!(data_txn.as_deref(), expected["back_tid"].as_str());
}

#[test]
fn files_are_read_as_by_zodb() {
    for (path, json) in captures("py") {
        let mut tail = open(&path, Tid::ZERO, None);
        let expected = json["fs"]["transactions"].as_array().unwrap();
        for expected in expected {
            let transaction = tail.next(None).unwrap().unwrap();
            assert_eq!(transaction.position, expected["at"].as_u64().unwrap());
            assert_eq!(hex(transaction.tid.as_bytes()), text(&expected["tid"]));
            assert_eq!(hex(&transaction.user), text(&expected["user"]));
            assert_eq!(
                hex(&transaction.description),
                text(&expected["description"])
            );
            let extension = text(&expected["extension_pickle"]);
            assert_eq!(hex(&transaction.extension), extension);
            assert_eq!(
                char::from(transaction.status.as_byte()).to_string(),
                text(&expected["status"])
            );
            let own: StorageResult<Vec<_>> = transaction.records().collect();
            let shared: StorageResult<Vec<_>> = tail.records(&transaction).collect();
            let records = shared.unwrap();
            assert_eq!(own.unwrap(), records);
            let expected = expected["records"].as_array().unwrap();
            assert_eq!(records.len(), expected.len());
            for (record, expected) in records.iter().zip(expected) {
                assert_eq!(record.tid, transaction.tid);
                check_record(record, expected);
            }
        }
        assert!(tail.next(None).unwrap().is_none());
        assert_eq!(tail.position(), fs::metadata(&path).unwrap().len());
    }
}

#[test]
fn files_of_the_documents_are_read() {
    for (path, json) in captures("doc2007") {
        let mut tail = open(&path, Tid::ZERO, None);
        for expected in json.as_array().unwrap() {
            let transaction = tail.next(None).unwrap().unwrap();
            assert_eq!(hex(transaction.tid.as_bytes()), text(&expected["tid"]));
            assert_eq!(transaction.user, text(&expected["user"]));
            assert_eq!(transaction.description, text(&expected["description"]));
            let expected = expected["records"].as_array().unwrap();
            let records = tail.records(&transaction);
            let records: StorageResult<Vec<_>> = records.collect();
            let records = records.unwrap();
            assert_eq!(records.len(), expected.len());
            for (record, expected) in records.iter().zip(expected) {
                assert_eq!(hex(record.oid.as_bytes()), text(&expected["oid"]));
                let data = record.data.as_ref().map(|data| hex(data));
                assert_eq!(data.as_deref(), expected["data"].as_str());
                let data_txn = record.data_txn.map(|tid| hex(tid.as_bytes()));
                assert_eq!(data_txn.as_deref(), expected["data_txn"].as_str());
            }
        }
        assert!(tail.next(None).unwrap().is_none());
    }
}

#[test]
fn every_start_is_found_from_both_ends() {
    for (path, json) in captures("py") {
        let file = data_file(&OsVfs, &path);
        let end = fs::metadata(&path).unwrap().len();
        let transactions = json["fs"]["transactions"].as_array().unwrap();
        let tid = |hex| Tid::from_u64(u64::from_str_radix(hex, 16).unwrap());
        let starts: Vec<_> = transactions
            .iter()
            .map(|transaction| (tid(text(&transaction["tid"])), transaction["at"].as_u64()))
            .collect();
        for (index, (tid, at)) in starts.iter().enumerate() {
            let next = starts.get(index + 1).map_or(Some(end), |(_, at)| *at);
            let before = Tid::from_u64(tid.as_u64() - 1);
            for known_end in [None, Some(end), *at, Some(end - 1), Some(end + 1)] {
                let after = |start| seek::position_after(&file, start, known_end, &|| false);
                assert_eq!(after(*tid).unwrap(), next);
                assert_eq!(after(before).unwrap(), *at);
            }
        }
        let high = seek::position_after(&file, Tid::MAX, Some(end), &|| false);
        let last = starts[starts.len() - 1].0;
        assert!(
            matches!(high, Err(StorageError::TidTooHigh { start: Tid::MAX, last: l }) if l == last)
        );
    }
}

#[test]
fn a_cut_capture_gives_a_prefix() {
    for (path, _) in captures("py") {
        let bytes = fs::read(&path).unwrap();
        let whole: Vec<_> = {
            let mut tail = open(&path, Tid::ZERO, None);
            std::iter::from_fn(|| tail.next(None).unwrap().map(|t| t.end())).collect()
        };
        let directory = tempfile::tempdir().unwrap();
        let cut_path = directory.path().join("Data.fs");
        for cut in (0..bytes.len()).step_by(bytes.len() / 250 + 1) {
            fs::write(&cut_path, &bytes[..cut]).unwrap();
            let mut tail = open(&cut_path, Tid::ZERO, None);
            let mut ends = Vec::new();
            while let Some(transaction) = tail.next(None).unwrap() {
                for record in tail.records(&transaction) {
                    assert_ne!(record.unwrap().oid, Oid::MAX);
                }
                ends.push(transaction.end());
            }
            let finished = whole.iter().filter(|end| **end <= cut as u64).count();
            assert_eq!(ends, whole[..finished]);
        }
    }
}
