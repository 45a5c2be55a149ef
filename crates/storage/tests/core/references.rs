//! References of records, compared with the results of ZODB's `referencesf`.

use std::sync::LazyLock;

use proptest::prelude::*;
use zrs_ids::Oid;
use zrs_storage::pickle::refs::{ReferenceReader, references};

struct Record {
    name: &'static str,
    bytes: Vec<u8>,
    /// `None` where ZODB refuses a reference.
    oids: Option<Vec<Oid>>,
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

static RECORDS: LazyLock<Vec<Record>> = LazyLock::new(|| {
    let lines = include_str!("../../../../tests/data/references.txt").lines();
    let oids = |text: &str| {
        text.split(',')
            .filter(|oid| !oid.is_empty())
            .map(|oid| Oid::from_u64(oid.parse().unwrap()))
            .collect()
    };
    lines
        .map(|line| {
            let [name, bytes, found] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            Record {
                name,
                bytes: unhex(bytes),
                oids: (found != "refused").then(|| oids(found)),
            }
        })
        .collect()
});

#[test]
fn references_are_those_that_zodb_finds_and_in_its_order() {
    assert!(RECORDS.len() > 200);
    let mut reader = ReferenceReader::new();
    let mut shared = Vec::new();
    for Record { name, bytes, oids } in RECORDS.iter() {
        assert_eq!(references(bytes).ok().as_ref(), oids.as_ref(), "{name}");
        shared.clear();
        assert_eq!(reader.read(bytes, &mut shared).is_ok(), oids.is_some());
        if let Some(oids) = oids {
            assert_eq!(&shared, oids, "{name}, with a reader that was used before");
        }
    }
}

#[test]
fn a_record_cut_off_anywhere_is_refused() {
    for Record { name, bytes, .. } in RECORDS.iter() {
        if bytes.len() < 2000 {
            for len in 0..bytes.len() {
                assert!(references(&bytes[..len]).is_err(), "{name} cut to {len}");
            }
        }
    }
}

proptest! {
    /// Real records with bytes changed: an answer or an error, and no panic.
    #[test]
    fn damaged_records_do_not_panic(
        chosen: prop::sample::Index,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut bytes = chosen.get(&RECORDS).bytes.clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(oids) = references(&bytes) {
            prop_assert!(oids.len() <= bytes.len());
        }
    }
}
