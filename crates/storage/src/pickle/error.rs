//! Why a pickle is refused.

/// Why a pickle is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// A byte that is no opcode.
    #[error("unknown pickle opcode 0x{opcode:02x} at {position}")]
    UnknownOpcode {
        /// The byte.
        opcode: u8,
        /// Where it stands.
        position: usize,
    },
    /// The pickle ends within an opcode's argument, or without `STOP`.
    #[error("pickle cut off at {position}")]
    Truncated {
        /// Where the opcode that is cut off begins.
        position: usize,
    },
    /// Bytes follow the end.
    #[error("{count} bytes after the end of the pickle")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// An opcode takes more from the stack than there is, or values are left over.
    #[error("pickle stack out of balance at {position}")]
    StackUnderflow {
        /// Where.
        position: usize,
    },
    /// The stack grows too high, a header has too many opcodes, or nests too deep.
    #[error("pickle is too deep or too long: more than {limit}")]
    TooDeep {
        /// The cap.
        limit: usize,
    },
    /// A memo index is malformed, or names nothing.
    #[error("bad pickle memo index at {position}")]
    BadMemo {
        /// Where.
        position: usize,
    },
    /// The pickle names a global, or does something, that a header has no use for.
    #[error("pickle opcode 0x{opcode:02x} ({detail}) at {position} is not allowed")]
    Forbidden {
        /// The opcode.
        opcode: u8,
        /// The global's name, or what the opcode does.
        detail: String,
        /// Where it stands.
        position: usize,
    },
    /// A persistent id from which no oid can be read without Python.
    #[error("no oid can be read from the persistent id of opcode 0x{opcode:02x} at {position}")]
    NoOid {
        /// The opcode.
        opcode: u8,
        /// Where it stands.
        position: usize,
    },
    /// The values are not those of a header.
    #[error("not a replication header: {0}")]
    NotAHeader(String),
}
