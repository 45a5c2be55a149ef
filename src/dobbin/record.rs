//! The head of a record: 48 bytes before its payload.

use super::error::Damage;
use crate::ids::Oid;

/// The length of a head.
pub const HEAD_LEN: usize = 48;
const CHECKED: usize = HEAD_LEN - 4;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The beginning of a transaction.
    Begin = 0xb1,
    /// The whole state of an object.
    Full = 0xb2,
    /// What a transaction changed in an object's state.
    Change = 0xb3,
    /// A block of a stream.
    Block = 0xb4,
    /// Where the blocks of a stream are.
    Stream = 0xb5,
    /// The end of a transaction.
    End = 0xb6,
}

impl Kind {
    /// The kind that a byte stands for.
    pub fn of(byte: u8) -> Option<Self> {
        [
            Self::Begin,
            Self::Full,
            Self::Change,
            Self::Block,
            Self::Stream,
            Self::End,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// A record's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the record is.
    pub kind: Kind,
    /// How many records of changes lead back to the full one; 0 for others.
    pub depth: u16,
    /// The length of the payload.
    pub len: u32,
    /// The object or stream; of an end, how many objects and streams it lists.
    pub oid: Oid,
    /// Of a change, where the record is that it changes; of an end, where the transaction
    /// begins; else 0.
    pub previous: u64,
    /// Of a change, how many bytes all payloads have since the full record; else 0.
    pub chain: u32,
    /// Of a change, how many bytes the payload of the full record has; else 0.
    pub base: u32,
    /// The transaction that wrote it first.
    pub transaction: u64,
    /// The payload's checksum.
    pub checksum: u32,
}

impl Head {
    /// The head of a payload, with nothing said of other records.
    pub(super) fn of(kind: Kind, oid: Oid, transaction: u64, payload: &[u8], len: u32) -> Self {
        Self {
            kind,
            depth: 0,
            len,
            oid,
            previous: 0,
            chain: 0,
            base: 0,
            transaction,
            checksum: crc32fast::hash(payload),
        }
    }

    /// The bytes of the head of a record at this position, which its checksum covers.
    pub fn to_bytes(&self, position: u64) -> [u8; HEAD_LEN] {
        let mut bytes = [0; HEAD_LEN];
        bytes[0] = self.kind as u8;
        bytes[2..4].copy_from_slice(&self.depth.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.len.to_be_bytes());
        bytes[8..16].copy_from_slice(self.oid.as_bytes());
        bytes[16..24].copy_from_slice(&self.previous.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.chain.to_be_bytes());
        bytes[28..32].copy_from_slice(&self.base.to_be_bytes());
        bytes[32..40].copy_from_slice(&self.transaction.to_be_bytes());
        bytes[40..44].copy_from_slice(&self.checksum.to_be_bytes());
        let own = own_checksum(&bytes, position);
        bytes[CHECKED..].copy_from_slice(&own.to_be_bytes());
        bytes
    }

    /// The head in these bytes, if they are what was written at this position.
    pub fn parse(bytes: &[u8; HEAD_LEN], position: u64) -> Result<Self, Damage> {
        let kind = Kind::of(bytes[0]).filter(|_| bytes[1] == 0);
        let kind = kind.ok_or(Damage::Head)?;
        if bytes[CHECKED..] != own_checksum(bytes, position).to_be_bytes() {
            return Err(Damage::Head);
        }
        Ok(Self {
            kind,
            depth: u16::from_be_bytes([bytes[2], bytes[3]]),
            len: number32(bytes, 4),
            oid: Oid::from_u64(number64(bytes, 8)),
            previous: number64(bytes, 16),
            chain: number32(bytes, 24),
            base: number32(bytes, 28),
            transaction: number64(bytes, 32),
            checksum: number32(bytes, 40),
        })
    }

    /// Where the record's payload begins, if the record is at this position.
    pub fn payload(position: u64) -> u64 {
        position.saturating_add(HEAD_LEN as u64)
    }

    /// Where the record ends, if it is at this position.
    pub fn end(&self, position: u64) -> u64 {
        Self::payload(position).saturating_add(u64::from(self.len))
    }

    /// Whether these are the bytes that the payload had.
    pub fn matches(&self, payload: &[u8]) -> bool {
        payload.len() as u64 == u64::from(self.len) && crc32fast::hash(payload) == self.checksum
    }
}

fn own_checksum(bytes: &[u8; HEAD_LEN], position: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..CHECKED]);
    hasher.update(&position.to_be_bytes());
    hasher.finalize()
}

/// The number in four bytes; 0 beyond the end, which callers rule out.
pub(super) fn number32(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk);
    found.map_or(0, |found| u32::from_be_bytes(*found))
}

/// The number in eight bytes; 0 beyond the end, which callers rule out.
pub(super) fn number64(bytes: &[u8], at: usize) -> u64 {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk);
    found.map_or(0, |found| u64::from_be_bytes(*found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_where_it_was_written_and_nowhere_else() {
        let mut head = Head::of(Kind::Change, Oid::from_u64(7), 3, b"payload", 7);
        (head.depth, head.previous, head.chain, head.base) = (2, 99, 14, 30);
        let bytes = head.to_bytes(1234);
        assert_eq!(Head::parse(&bytes, 1234), Ok(head));
        assert_eq!(Head::parse(&bytes, 1235), Err(Damage::Head));
        assert!(head.matches(b"payload"));
        assert!(!head.matches(b"Payload"));
        for bit in 0..HEAD_LEN * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::parse(&flipped, 1234), Err(Damage::Head), "bit {bit}");
        }
    }
}
