//! Why an index file cannot be used.

use std::io;

/// Why bytes are no index file. The storage can be read without one.
#[derive(Debug, thiserror::Error)]
pub enum IndexFileError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(io::Error),
    /// The file ends before the index does.
    #[error("the index file is cut short")]
    Truncated,
    /// A pickle holds something that `fsIndex.save` does not write.
    #[error("unexpected pickle opcode 0x{0:02x} in the index file")]
    Opcode(u8),
    /// The file does not begin with a position: an index of an older kind, or none.
    #[error("the index file does not begin with a position")]
    NoPosition,
    /// A page is not a pair of six bytes and of as many positions as ids.
    #[error("malformed page in the index file")]
    BadPage,
    /// Objects are not in the order of their ids.
    #[error("object ids in the index file are out of order")]
    Unsorted,
}

impl From<io::Error> for IndexFileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Io(error),
        }
    }
}
