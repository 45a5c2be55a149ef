//! Why an index file cannot be used.

use std::io;

/// Why bytes are not a usable index file. The storage can be opened without one.
#[derive(Debug, thiserror::Error)]
pub enum IndexFileError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(io::Error),
    /// The file ends before the index does.
    #[error("the index file is cut short")]
    Truncated,
    /// A pickle contains an opcode that `fsIndex.save` does not write.
    #[error("unexpected pickle opcode 0x{0:02x} in the index file")]
    Opcode(u8),
    /// The file does not begin with a position: it is an index of an older format, or another
    /// file.
    #[error("the index file does not begin with a position")]
    NoPosition,
    /// A page is not a pair of six bytes and of as many positions as ids.
    #[error("malformed page in the index file")]
    BadPage,
    /// Objects are not in ascending order of ids.
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
