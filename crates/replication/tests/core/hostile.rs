//! Arbitrary bytes: short runs of the cargo-fuzz targets in `fuzz`. The environment variable
//! `ZRS_FUZZ_CASES` sets the number of cases of each.

#[path = "../../../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "it is a crate of its own too")]
mod targets;

use std::sync::LazyLock;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use zrs_ids::{Oid, Tid};
use zrs_replication::proto::{Outgoing, RecordHeader, TransactionBegin};
use zrs_storage::pickle::{Dialect, Extension};

/// Good files, records, headers and streams, which are then damaged.
struct Samples {
    files: Vec<Vec<u8>>,
    indexes: Vec<Vec<u8>>,
    records: Vec<Vec<u8>>,
    headers: Vec<Vec<u8>>,
    streams: Vec<Vec<u8>>,
    logs: Vec<Vec<u8>>,
}

static SAMPLES: LazyLock<Samples> = LazyLock::new(|| {
    let packs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/packs");
    let paths = std::fs::read_dir(packs).unwrap();
    let mut paths: Vec<_> = paths.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "fs"));
    paths.sort();
    let hexadecimal = |text: &str| {
        let lines = text.lines().filter_map(|line| line.split(' ').nth(1));
        lines.map(unhex).collect()
    };
    Samples {
        files: paths.iter().map(|path| std::fs::read(path).unwrap()).collect(),
        indexes: vec![
            include_bytes!("../../../../tests/data/zodb6.index")[..1500].to_vec(),
            include_bytes!("../../../../tests/data/python2.index")[..1500].to_vec(),
            b"\x80\x03J\x7b\0\0\0.\x80\x03C\x06\0\0\0\0\0\0C\x10\0\x01\0\x02\0\0\0\0\0\x04\0\0\0\0\0\x2e\x86.\x80\x03N."
                .to_vec(),
        ],
        records: hexadecimal(include_str!("../../../../tests/data/references.txt")),
        headers: hexadecimal(include_str!("../../../../tests/data/headers.txt")),
        streams: vec![stream(Dialect::Python2), stream(Dialect::Python3)],
        logs: vec![targets::sample_object_log()],
    }
});

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let digits = digits.map(|pair| std::str::from_utf8(pair).unwrap());
    digits
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

/// A byte that determines the sizes of pieces, and a primary's stream.
fn stream(dialect: Dialect) -> Vec<u8> {
    let mut outgoing = Outgoing::new(Tid::ZERO, dialect);
    for number in 1..4 {
        let tid = Tid::from_u64(number);
        let meta = TransactionBegin {
            tid,
            status: b' ',
            user: Bytes::from_static(b"user"),
            description: Bytes::new(),
            extension: Extension::default(),
        };
        let header = |data_txn| RecordHeader {
            oid: Oid::from_u64(number),
            tid,
            data_txn,
        };
        outgoing.transaction(meta).unwrap();
        outgoing.record(header(None), Some(b"data")).unwrap();
        outgoing.record(header(Some(tid)), None).unwrap();
        outgoing.blob(header(None), b"blob", 1).unwrap();
        outgoing.block(b"block").unwrap();
        outgoing.commit().unwrap();
    }
    [&[7], &outgoing.take()[..]].concat()
}

/// Damage to a good sample.
#[derive(Clone, Debug)]
enum Damage {
    /// A byte is replaced by any value, or by one that is common in numbers.
    Byte(Index, u8),
    /// The end is missing.
    Cut(Index),
    /// A part is repeated elsewhere.
    Copy(Index, Index, usize),
    /// A part is missing.
    Remove(Index, usize),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Byte(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Self::Copy(from, to, len) => {
                let from = from.index(bytes.len());
                let part = bytes[from..(from + len).min(bytes.len())].to_vec();
                let to = to.index(bytes.len());
                bytes.splice(to..to, part);
            }
            Self::Remove(from, len) => {
                let from = from.index(bytes.len());
                let end = (from + len).min(bytes.len());
                bytes.drain(from..end);
            }
        }
    }
}

fn apply(damage: &[Damage], bytes: &mut Vec<u8>) {
    for damage in damage {
        damage.apply(bytes);
    }
}

fn any_damage() -> impl Strategy<Value = Vec<Damage>> {
    let byte = prop_oneof![
        any::<u8>(),
        Just(0),
        Just(1),
        Just(0xff),
        Just(b'c'),
        Just(b' ')
    ];
    let damage = prop_oneof![
        8 => (any::<Index>(), byte).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => (any::<Index>(), any::<Index>(), 1_usize..200)
            .prop_map(|(from, to, len)| Damage::Copy(from, to, len)),
        1 => (any::<Index>(), 1_usize..100).prop_map(|(from, len)| Damage::Remove(from, len)),
    ];
    prop::collection::vec(damage, 0..6)
}

/// Noise, or a damaged sample.
fn hostile(samples: &'static [Vec<u8>]) -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::collection::vec(any::<u8>(), 0..300);
    let damaged = (any::<Index>(), any_damage()).prop_map(move |(chosen, damage)| {
        let mut bytes = chosen.get(samples).clone();
        apply(&damage, &mut bytes);
        bytes
    });
    prop_oneof![1 => noise, 9 => damaged]
}

fn cases() -> u32 {
    let cases = std::env::var("ZRS_FUZZ_CASES");
    cases.map_or(2000, |cases| cases.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn any_bytes_as_headers(bytes in hostile(&SAMPLES.files)) {
        targets::format(&bytes);
    }

    #[test]
    fn any_bytes_as_a_data_file(bytes in hostile(&SAMPLES.files)) {
        targets::data_file(&bytes);
    }

    #[test]
    fn any_bytes_as_an_index_file(bytes in hostile(&SAMPLES.indexes)) {
        targets::index_file(&bytes);
    }

    #[test]
    fn any_bytes_as_an_index_beside_a_data_file(
        index in hostile(&SAMPLES.indexes), file in hostile(&SAMPLES.files)
    ) {
        let len = (index.len() as u16).to_be_bytes();
        targets::data_file_and_index(&[&len[..], &index, &file].concat());
    }

    #[test]
    fn any_bytes_as_a_log_of_objects(bytes in hostile(&SAMPLES.logs)) {
        targets::object_log(&bytes);
        targets::object_log_heads(&bytes);
    }

    #[test]
    fn any_bytes_as_pickles(bytes in hostile(&SAMPLES.headers)) {
        targets::pickles(&bytes);
    }

    #[test]
    fn any_bytes_as_records(bytes in hostile(&SAMPLES.records)) {
        targets::references(&bytes);
        targets::pickles(&bytes);
    }

    #[test]
    fn any_bytes_to_a_primary(bytes in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..100),
        any_damage().prop_map(|damage| {
            let mut bytes = b"\x03\0\0\0\x06zrs2.1\0\0\0\x080123\0\0\0\x07\0\0\0\0\0\0\0\0".to_vec();
            apply(&damage, &mut bytes);
            bytes
        }),
    ]) {
        targets::primary_peer(&bytes);
    }

    #[test]
    fn any_bytes_to_a_secondary(bytes in hostile(&SAMPLES.streams)) {
        targets::secondary_peer(&bytes);
    }
}
