//! The payloads of records, one type for each kind.

use super::record::{number32, number64};
use zrs_ids::Oid;

/// The length of a [`Begin`]'s payload.
pub(super) const BEGIN_LEN: usize = 16;
/// The length of an [`End`]'s payload without its entries.
pub(super) const END_LEN: usize = 24;
const ENTRY_LEN: usize = 16;
/// The length of all blocks of a stream except the last.
pub(super) const BLOCK_LEN: usize = 128 * 1024;

/// The payload of the record that begins a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begin {
    /// The time of the commit, in microseconds since 1970.
    pub(super) time: i64,
    /// The position up to which the writer knew the file to be durable.
    pub(super) durable: u64,
}

impl Begin {
    pub(super) fn to_bytes(self) -> [u8; BEGIN_LEN] {
        let mut bytes = [0; BEGIN_LEN];
        bytes[..8].copy_from_slice(&self.time.to_be_bytes());
        bytes[8..].copy_from_slice(&self.durable.to_be_bytes());
        bytes
    }

    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let time = payload.first_chunk()?;
        (payload.len() == BEGIN_LEN).then(|| Self {
            time: i64::from_be_bytes(*time),
            durable: number64(payload, 8),
        })
    }
}

/// The payload of the record that ends a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Whether it was committed. If not, it failed, and has no records.
    pub(super) committed: bool,
    /// The root object, if there is one.
    pub(super) root: Option<Oid>,
    /// The next object id to allocate.
    pub(super) next_oid: u64,
    /// The objects and streams that it wrote, with the positions of their records.
    pub(super) entries: Vec<(Oid, u64)>,
}

impl End {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(END_LEN + ENTRY_LEN * self.entries.len());
        bytes.extend_from_slice(&u64::from(self.committed).to_be_bytes());
        bytes.extend_from_slice(self.root.unwrap_or_default().as_bytes());
        bytes.extend_from_slice(&self.next_oid.to_be_bytes());
        for (oid, position) in &self.entries {
            bytes.extend_from_slice(oid.as_bytes());
            bytes.extend_from_slice(&position.to_be_bytes());
        }
        bytes
    }

    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let entries = payload.get(END_LEN..)?;
        if entries.len() % ENTRY_LEN != 0 {
            return None;
        }
        let entries = entries.chunks_exact(ENTRY_LEN);
        let entries = entries.map(|entry| (Oid::from_u64(number64(entry, 0)), number64(entry, 8)));
        Some(Self {
            committed: match number64(payload, 0) {
                0 => false,
                1 => true,
                _ => return None,
            },
            root: Some(Oid::from_u64(number64(payload, 8))).filter(|root| *root != Oid::ZERO),
            next_oid: number64(payload, 16),
            entries: entries.collect(),
        })
    }
}

/// The payload of a full record or of changes: references, then a pickle.
pub(super) struct ObjectPayload<'a> {
    pub(super) references: Vec<Oid>,
    pub(super) pickle: &'a [u8],
}

impl<'a> ObjectPayload<'a> {
    pub(super) fn to_bytes(references: &[Oid], pickle: &[u8]) -> Option<Vec<u8>> {
        let count = u32::try_from(references.len()).ok()?;
        let mut bytes = Vec::with_capacity(4 + 8 * references.len() + pickle.len());
        bytes.extend_from_slice(&count.to_be_bytes());
        for oid in references {
            bytes.extend_from_slice(oid.as_bytes());
        }
        bytes.extend_from_slice(pickle);
        Some(bytes)
    }

    pub(super) fn parse(payload: &'a [u8]) -> Option<Self> {
        let count = usize::try_from(number32(payload, 0)).ok()?;
        let rest = payload.get(4..)?;
        let (references, pickle) = rest.split_at_checked(count.checked_mul(8)?)?;
        let references = references.chunks_exact(8);
        Some(Self {
            references: references
                .map(|oid| Oid::from_u64(number64(oid, 0)))
                .collect(),
            pickle,
        })
    }
}

/// The payload of the record of a stream: the position and length of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamExtent {
    /// The position of the first block.
    pub(super) first: u64,
    /// The length of the stream.
    pub(super) len: u64,
}

impl StreamExtent {
    pub(super) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.first.to_be_bytes());
        bytes[8..].copy_from_slice(&self.len.to_be_bytes());
        bytes
    }

    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        (payload.len() == 16).then(|| Self {
            first: number64(payload, 0),
            len: number64(payload, 8),
        })
    }
}
