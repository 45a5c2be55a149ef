//! The data of objects.

use std::collections::BTreeSet;

use bytes::Bytes;
use zrs_ids::{Oid, Tid};

/// An object's record: pickles of a class and of a state with references to the objects `2n + 1`
/// and `2n + 2`, if they exist, and bytes that distinguish records.
pub(super) fn record(oid: Oid, len: usize, tid: Tid, there: &BTreeSet<Oid>) -> Bytes {
    let mut record = b"\x80\x03cpersistent.list\nPersistentList\n.\x80\x03](".to_vec();
    for child in [1, 2] {
        let child = Oid::from_u64(2 * oid.as_u64() + child);
        if there.contains(&child) {
            record.extend_from_slice(b"C\x08");
            record.extend_from_slice(child.as_bytes());
            record.push(b'Q');
        }
    }
    let filler = noise(oid.as_u64() ^ tid.as_u64(), len);
    record.push(b'B');
    record.extend((len as u32).to_be_bytes().iter().rev());
    record.extend_from_slice(&filler);
    record.extend_from_slice(b"e.");
    record.into()
}

/// Bytes that identify what they were made for.
pub(super) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let (mut random, mut noise) = (seed, Vec::with_capacity(len + 8));
    while noise.len() < len {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        noise.extend_from_slice(&random.to_be_bytes());
    }
    noise.truncate(len);
    noise
}
