//! The head of a record: 48 bytes before its payload.

use super::error::Damage;
use zrs_ids::Oid;

/// The length of a head.
pub(super) const HEAD_LEN: usize = 48;
const CHECKED: usize = HEAD_LEN - 4;

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The beginning of a transaction.
    Begin = 0xb1,
    /// The whole state of an object.
    Full = 0xb2,
    /// The changes that a transaction made to the state of an object.
    Change = 0xb3,
    /// A block of a stream.
    Block = 0xb4,
    /// A stream: where its blocks are.
    Stream = 0xb5,
    /// The end of a transaction.
    End = 0xb6,
}

impl Kind {
    /// The kind with this number.
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
    /// The kind of the record.
    pub kind: Kind,
    /// Of a change, the number of changes since the full record, itself included; otherwise 0.
    pub depth: u16,
    /// The length of the payload.
    pub len: u32,
    /// The object or stream; of an end, the number of its entries.
    pub oid: Oid,
    /// Of a change, the position of the record that it changes; of an end, the position at
    /// which the transaction begins; otherwise 0.
    pub previous: u64,
    /// Of a change, the length of the payloads of all changes since the full record; otherwise
    /// 0.
    pub chain: u32,
    /// Of a change, the length of the payload of the full record; otherwise 0.
    pub base: u32,
    /// The transaction that first wrote it.
    pub transaction: u64,
    /// The checksum of the payload.
    pub checksum: u32,
}

impl Head {
    /// The head for a payload; the fields that refer to other records are 0.
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

    /// The bytes of the head. The position of the record is part of their checksum.
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

    /// Parse the head of a record at this position, and verify its checksum.
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

    /// The position of the payload of a record at this position.
    pub fn payload(position: u64) -> u64 {
        position.saturating_add(HEAD_LEN as u64)
    }

    /// The position at which a record at this position ends.
    pub fn end(&self, position: u64) -> u64 {
        Self::payload(position).saturating_add(u64::from(self.len))
    }

    /// Whether a payload matches the length and checksum.
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

/// The number in four bytes; 0 beyond the end of the slice, which callers rule out.
pub(super) fn number32(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk);
    found.map_or(0, |found| u32::from_be_bytes(*found))
}

/// The number in eight bytes; 0 beyond the end of the slice, which callers rule out.
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
