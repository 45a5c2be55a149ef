//! Data headers and backpointers.

use super::check::Corruption;
use super::{FIRST_TRANSACTION, split_array};
use zrs_ids::{Oid, Tid};

const ID_LEN: usize = 8;
const POSITION_LEN: usize = 8;
const VERSION_LEN_LEN: usize = 2;
const DATA_LEN_LEN: usize = 8;

const TID_AT: usize = ID_LEN;
const PREVIOUS_AT: usize = TID_AT + ID_LEN;
const TRANSACTION_AT: usize = PREVIOUS_AT + POSITION_LEN;
const VERSION_LEN_AT: usize = TRANSACTION_AT + POSITION_LEN;
const DATA_LEN_AT: usize = VERSION_LEN_AT + VERSION_LEN_LEN;

/// The length of a data header.
pub const DATA_HEADER_LEN: usize = DATA_LEN_AT + DATA_LEN_LEN;
/// The length of a backpointer.
pub(crate) const BACKPOINTER_LEN: usize = POSITION_LEN;

/// The fixed part of a data record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// The object.
    pub oid: Oid,
    /// The transaction that wrote the record.
    pub tid: Tid,
    /// The position of the object's previous record, 0 if it has none.
    pub prev: u64,
    /// The position of the transaction that the record is part of.
    pub tloc: u64,
    /// The length of the data, 0 if the record has a backpointer instead.
    pub data_len: u64,
}

impl DataHeader {
    /// Parse a header. Its positions must still be checked, see [`Self::check`].
    pub fn parse(bytes: &[u8; DATA_HEADER_LEN]) -> Result<Self, Corruption> {
        let length = u16::from_be_bytes(split_array(bytes, VERSION_LEN_AT));
        if length != 0 {
            return Err(Corruption::Version { length });
        }
        Ok(Self {
            oid: Oid::new(split_array(bytes, 0)),
            tid: Tid::new(split_array(bytes, TID_AT)),
            prev: u64::from_be_bytes(split_array(bytes, PREVIOUS_AT)),
            tloc: u64::from_be_bytes(split_array(bytes, TRANSACTION_AT)),
            data_len: u64::from_be_bytes(split_array(bytes, DATA_LEN_AT)),
        })
    }

    /// The header's bytes.
    pub fn to_bytes(self) -> [u8; DATA_HEADER_LEN] {
        let mut bytes = [0; DATA_HEADER_LEN];
        bytes[..TID_AT].copy_from_slice(self.oid.as_bytes());
        bytes[TID_AT..PREVIOUS_AT].copy_from_slice(self.tid.as_bytes());
        bytes[PREVIOUS_AT..TRANSACTION_AT].copy_from_slice(&self.prev.to_be_bytes());
        bytes[TRANSACTION_AT..VERSION_LEN_AT].copy_from_slice(&self.tloc.to_be_bytes());
        bytes[DATA_LEN_AT..].copy_from_slice(&self.data_len.to_be_bytes());
        bytes
    }

    /// Whether the record has a backpointer instead of data.
    pub(crate) const fn has_backpointer(&self) -> bool {
        self.data_len == 0
    }

    /// Where the record at `position` ends, which must not be after `limit`.
    pub fn end(&self, position: u64, limit: u64) -> Result<u64, Corruption> {
        let content = match self.data_len {
            0 => BACKPOINTER_LEN as u64,
            length => length,
        };
        position
            .checked_add(DATA_HEADER_LEN as u64)
            .and_then(|start| start.checked_add(content))
            .filter(|end| *end <= limit)
            .ok_or(Corruption::RecordTooLong {
                length: self.data_len,
                limit,
            })
    }

    /// Check the record at `position` in the transaction at `transaction` whose data records end
    /// at `limit`; returns where the record ends.
    pub fn check(&self, position: u64, transaction: u64, limit: u64) -> Result<u64, Corruption> {
        if self.tloc != transaction {
            return Err(Corruption::TransactionPosition {
                found: self.tloc,
                expected: transaction,
            });
        }
        if self.prev >= position {
            return Err(Corruption::PreviousRecord { found: self.prev });
        }
        self.end(position, limit)
    }
}

/// Parse the backpointer of the record at `position`; `None` if it is 0.
///
/// A record with a header can be at the place found, and that place is before `position`,
/// so that following backpointers comes to an end.
pub fn parse_backpointer(
    bytes: [u8; BACKPOINTER_LEN],
    position: u64,
) -> Result<Option<u64>, Corruption> {
    let found = u64::from_be_bytes(bytes);
    if found == 0 {
        return Ok(None);
    }
    let header_end = found.checked_add(DATA_HEADER_LEN as u64);
    if found < FIRST_TRANSACTION || header_end.is_none_or(|end| end > position) {
        return Err(Corruption::Backpointer { found });
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn headers_are_read_as_they_were_written(
            oid: [u8; 8], tid: [u8; 8], prev: u64, tloc: u64, data_len: u64,
        ) {
            let header = DataHeader { oid: Oid::new(oid), tid: Tid::new(tid), prev, tloc, data_len };
            prop_assert_eq!(DataHeader::parse(&header.to_bytes()), Ok(header));
        }

        #[test]
        fn a_checked_record_ends_after_its_header_and_within_the_limit(
            position: u64, limit: u64, data_len: u64,
        ) {
            let header = DataHeader {
                oid: Oid::ZERO, tid: Tid::ZERO, prev: 0, tloc: 4, data_len,
            };
            if let Ok(end) = header.check(position, 4, limit) {
                prop_assert!(end - position >= 50.min(42 + data_len) && end <= limit);
            }
        }

        #[test]
        fn backpointers_lead_strictly_backwards(bytes: [u8; 8], position: u64) {
            if let Ok(Some(found)) = parse_backpointer(bytes, position) {
                prop_assert!(found < position);
            }
        }
    }

    #[test]
    fn the_layout_is_that_of_zodb() {
        // struct.pack(">8s8sQQHQ", b"oooooooo", b"tttttttt", 1, 2, 0, 3)
        let bytes = b"oooooooott\
tttttt\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\0\x03";
        let header = DataHeader::parse(bytes).unwrap();
        assert_eq!(header.oid, Oid::new(*b"oooooooo"));
        assert_eq!(header.tid, Tid::new(*b"tttttttt"));
        assert_eq!((header.prev, header.tloc, header.data_len), (1, 2, 3));
        assert_eq!(header.end(100, 145), Ok(145));
        assert_eq!(
            header.end(100, 144),
            Err(Corruption::RecordTooLong {
                length: 3,
                limit: 144
            })
        );
    }

    #[test]
    fn versions_are_refused() {
        let mut bytes = [0; DATA_HEADER_LEN];
        bytes[VERSION_LEN_AT + 1] = 7;
        assert_eq!(
            DataHeader::parse(&bytes),
            Err(Corruption::Version { length: 7 })
        );
    }

    #[test]
    fn positions_are_checked() {
        let header = DataHeader {
            oid: Oid::ZERO,
            tid: Tid::ZERO,
            prev: 100,
            tloc: 4,
            data_len: 1,
        };
        assert_eq!(
            header.check(100, 4, 1000),
            Err(Corruption::PreviousRecord { found: 100 })
        );
        assert_eq!(
            header.check(101, 5, 1000),
            Err(Corruption::TransactionPosition {
                found: 4,
                expected: 5
            })
        );
        assert_eq!(header.check(101, 4, 1000), Ok(144));
        assert_eq!(parse_backpointer([0; 8], 50), Ok(None));
        assert_eq!(parse_backpointer(58u64.to_be_bytes(), 100), Ok(Some(58)));
        for found in [3, 59, 100, u64::MAX] {
            assert_eq!(
                parse_backpointer(u64::to_be_bytes(found), 100),
                Err(Corruption::Backpointer { found })
            );
        }
    }
}
