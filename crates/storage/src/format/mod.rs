//! The bytes of a `Data.fs`: parsing and writing headers, without any I/O.
//!
//! A file is a magic followed by transaction records. A transaction record is a
//! [`TransactionHeader`], user, description and extension, data records, and the record's length
//! again. A data record is a [`DataHeader`], followed by data, or by the position of the record
//! that has the data if the length in the header is 0. All numbers are big-endian.

pub mod check;
pub mod data;
pub mod txn;

pub use check::Corruption;
pub(crate) use data::BACKPOINTER_LEN;
pub use data::{DATA_HEADER_LEN, DataHeader};
pub(crate) use txn::{LEAST_TRANSACTION_LEN, REDUNDANT_LENGTH_LEN};
pub use txn::{TRANSACTION_HEADER_LEN, TransactionHeader, TransactionStatus};

/// The first bytes of a file written by ZODB on Python 3.
pub const MAGIC: [u8; 4] = *b"FS30";
/// The first bytes of a file written by ZODB on Python 2; nothing else differs.
pub(crate) const MAGIC_PYTHON2: [u8; 4] = *b"FS21";
/// Where the first transaction begins.
pub(crate) const FIRST_TRANSACTION: u64 = 4;

/// The kind of a file, from its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Magic {
    /// A `Data.fs`.
    Known,
    /// The beginning of a magic: the file is being created.
    Partial,
    /// Other bytes.
    Unknown,
}

impl Magic {
    /// The kind of a file with these first four bytes, or fewer if it is shorter.
    pub fn of(found: &[u8]) -> Self {
        if found == MAGIC || found == MAGIC_PYTHON2 {
            Self::Known
        } else if MAGIC.starts_with(found) || MAGIC_PYTHON2.starts_with(found) {
            Self::Partial
        } else {
            Self::Unknown
        }
    }
}

/// Split off the first `N` bytes. The callers' arrays are of fixed length, so this
/// cannot fail where it compiles to a call with enough bytes.
fn split_array<const N: usize, const M: usize>(bytes: &[u8; M], at: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[at + index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magics_of_both_pythons_and_of_incomplete_files() {
        assert_eq!(Magic::of(b"FS21"), Magic::Known);
        assert_eq!(Magic::of(b"FS30"), Magic::Known);
        for partial in [&b""[..], b"F", b"FS", b"FS2", b"FS3"] {
            assert_eq!(Magic::of(partial), Magic::Partial);
        }
        for unknown in [&b"G"[..], b"FS4", b"FS20", b"\0\0\0\0"] {
            assert_eq!(Magic::of(unknown), Magic::Unknown);
        }
        assert_eq!(u64::try_from(MAGIC.len()), Ok(FIRST_TRANSACTION));
    }
}
