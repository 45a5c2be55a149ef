//! Transaction headers.

use super::check::Corruption;
use super::split_array;
use zrs_ids::Tid;

const TID_LEN: usize = 8;
const LENGTH_LEN: usize = 8;
const STATUS_LEN: usize = 1;
const SHORT_LEN: usize = 2;

const LENGTH_AT: usize = TID_LEN;
/// The offset of the status in a transaction record.
pub const STATUS_AT: usize = LENGTH_AT + LENGTH_LEN;
const USER_LEN_AT: usize = STATUS_AT + STATUS_LEN;
const DESCRIPTION_LEN_AT: usize = USER_LEN_AT + SHORT_LEN;
const EXTENSION_LEN_AT: usize = DESCRIPTION_LEN_AT + SHORT_LEN;

/// The length of a transaction header, without user, description and extension.
pub const TRANSACTION_HEADER_LEN: usize = EXTENSION_LEN_AT + SHORT_LEN;
/// The length of the length that ends a transaction record and is not counted in it.
pub(crate) const REDUNDANT_LENGTH_LEN: usize = LENGTH_LEN;
/// The length of the smallest transaction record, with the length at its end.
pub(crate) const LEAST_TRANSACTION_LEN: usize = TRANSACTION_HEADER_LEN + REDUNDANT_LENGTH_LEN;

/// The state of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionStatus {
    /// Finished; the status is a blank.
    Complete,
    /// Finished, and kept by a pack.
    Packed,
    /// Voted but not finished, at the end of the file; it may still be cut off.
    Voted,
    /// Undone in place, by very old versions of ZODB; readers skip it.
    Undone,
}

impl TransactionStatus {
    /// The status with this byte, if there is one.
    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b' ' => Some(Self::Complete),
            b'p' => Some(Self::Packed),
            b'c' => Some(Self::Voted),
            b'u' => Some(Self::Undone),
            _ => None,
        }
    }

    /// The byte in the file and on the wire.
    pub const fn as_byte(self) -> u8 {
        match self {
            Self::Complete => b' ',
            Self::Packed => b'p',
            Self::Voted => b'c',
            Self::Undone => b'u',
        }
    }

    /// Whether the transaction is permanent.
    pub(crate) const fn is_finished(self) -> bool {
        !matches!(self, Self::Voted)
    }
}

/// The fixed part at the beginning of a transaction record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionHeader {
    /// The transaction's id.
    pub tid: Tid,
    /// The length of the record without the length at its end, in bytes.
    pub length: u64,
    /// The state of the transaction.
    pub status: TransactionStatus,
    /// The length of the user's name, in bytes.
    pub user_len: u16,
    /// The length of the description, in bytes.
    pub description_len: u16,
    /// The length of the extension's pickle, in bytes.
    pub extension_len: u16,
}

impl TransactionHeader {
    /// Parse a header; checks that the status exists and that the length includes all strings.
    pub fn parse(bytes: &[u8; TRANSACTION_HEADER_LEN]) -> Result<Self, Corruption> {
        let found = bytes[STATUS_AT];
        let status = TransactionStatus::from_byte(found).ok_or(Corruption::Status { found })?;
        let header = Self {
            tid: Tid::new(split_array(bytes, 0)),
            length: u64::from_be_bytes(split_array(bytes, LENGTH_AT)),
            status,
            user_len: u16::from_be_bytes(split_array(bytes, USER_LEN_AT)),
            description_len: u16::from_be_bytes(split_array(bytes, DESCRIPTION_LEN_AT)),
            extension_len: u16::from_be_bytes(split_array(bytes, EXTENSION_LEN_AT)),
        };
        if header.length < header.full_len() {
            return Err(header.bad_length());
        }
        Ok(header)
    }

    /// The header's bytes.
    pub fn to_bytes(self) -> [u8; TRANSACTION_HEADER_LEN] {
        let mut bytes = [0; TRANSACTION_HEADER_LEN];
        bytes[..LENGTH_AT].copy_from_slice(self.tid.as_bytes());
        bytes[LENGTH_AT..STATUS_AT].copy_from_slice(&self.length.to_be_bytes());
        bytes[STATUS_AT] = self.status.as_byte();
        bytes[USER_LEN_AT..DESCRIPTION_LEN_AT].copy_from_slice(&self.user_len.to_be_bytes());
        bytes[DESCRIPTION_LEN_AT..EXTENSION_LEN_AT]
            .copy_from_slice(&self.description_len.to_be_bytes());
        bytes[EXTENSION_LEN_AT..].copy_from_slice(&self.extension_len.to_be_bytes());
        bytes
    }

    /// The length of header, user, description and extension, in bytes.
    pub(crate) fn full_len(&self) -> u64 {
        TRANSACTION_HEADER_LEN as u64
            + u64::from(self.user_len)
            + u64::from(self.description_len)
            + u64::from(self.extension_len)
    }

    /// The end of the record whose header is at `position`, including the length at its end.
    pub fn end(&self, position: u64) -> Result<u64, Corruption> {
        position
            .checked_add(self.length)
            .and_then(|end| end.checked_add(REDUNDANT_LENGTH_LEN as u64))
            // No file is longer, so the transaction cannot be one that is still being written.
            .filter(|end| i64::try_from(*end).is_ok())
            .ok_or_else(|| self.bad_length())
    }

    /// Compare with the length found at the end of the record.
    pub fn check_redundant_length(&self, redundant: u64) -> Result<(), Corruption> {
        if redundant == self.length {
            return Ok(());
        }
        let length = self.length;
        Err(Corruption::RedundantLength { length, redundant })
    }

    fn bad_length(&self) -> Corruption {
        Corruption::TransactionLength {
            length: self.length,
            header: self.full_len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn status() -> impl Strategy<Value = TransactionStatus> {
        prop_oneof![
            Just(TransactionStatus::Complete),
            Just(TransactionStatus::Packed),
            Just(TransactionStatus::Voted),
            Just(TransactionStatus::Undone),
        ]
    }

    proptest! {
        #[test]
        fn headers_are_read_as_they_were_written(
            tid: [u8; 8], extra in 0..u64::MAX / 2, status in status(),
            user_len: u16, description_len: u16, extension_len: u16,
        ) {
            let mut header = TransactionHeader {
                tid: Tid::new(tid), length: 0, status, user_len, description_len, extension_len,
            };
            header.length = header.full_len() + extra;
            prop_assert_eq!(TransactionHeader::parse(&header.to_bytes()), Ok(header));
        }

        #[test]
        fn parsed_headers_are_written_unchanged(mut bytes: [u8; 23], known in status()) {
            bytes[STATUS_AT] = known.as_byte();
            if let Ok(header) = TransactionHeader::parse(&bytes) {
                prop_assert_eq!(header.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn the_layout_is_that_of_zodb() {
        // struct.pack(">8sQcHHH", b"abcdefgh", 300, b" ", 1, 2, 3)
        let bytes = b"abcdefgh\0\0\0\0\0\0\x01\x2c \0\x01\0\x02\0\x03";
        let header = TransactionHeader::parse(bytes).unwrap();
        assert_eq!(header.tid, Tid::new(*b"abcdefgh"));
        assert_eq!(header.length, 300);
        assert_eq!(header.full_len(), 29);
        assert_eq!(header.end(4), Ok(312));
        assert_eq!(
            (
                header.user_len,
                header.description_len,
                header.extension_len
            ),
            (1, 2, 3)
        );
    }

    #[test]
    fn an_unknown_status_and_a_short_length_are_refused() {
        let mut bytes = *b"abcdefgh\0\0\0\0\0\0\0\x1c \0\x01\0\x02\0\x03";
        let length = Corruption::TransactionLength {
            length: 28,
            header: 29,
        };
        assert_eq!(TransactionHeader::parse(&bytes), Err(length));
        bytes[STATUS_AT] = 0;
        assert_eq!(
            TransactionHeader::parse(&bytes),
            Err(Corruption::Status { found: 0 })
        );
    }
}
