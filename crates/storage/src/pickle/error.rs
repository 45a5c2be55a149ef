//! The reasons for refusing a pickle.

/// The reason for refusing a pickle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// A byte that is not an opcode.
    #[error("unknown pickle opcode 0x{opcode:02x} at {position}")]
    UnknownOpcode {
        /// The byte.
        opcode: u8,
        /// Its position.
        position: usize,
    },
    /// The pickle ends within an opcode's argument, or without `STOP`.
    #[error("pickle cut off at {position}")]
    Truncated {
        /// The position of the incomplete opcode.
        position: usize,
    },
    /// Bytes follow the end of the pickle.
    #[error("{count} bytes after the end of the pickle")]
    TrailingBytes {
        /// The number of bytes.
        count: usize,
    },
    /// An opcode takes more values from the stack than it has, or values are left over.
    #[error("pickle stack out of balance at {position}")]
    StackUnderflow {
        /// The position.
        position: usize,
    },
    /// The stack is too high, or a header has too many opcodes or nests too deeply.
    #[error("pickle is too deep or too long: more than {limit}")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// A memo index is malformed, or has no value.
    #[error("bad pickle memo index at {position}")]
    BadMemo {
        /// The position.
        position: usize,
    },
    /// The pickle contains a global or an opcode that headers do not use.
    #[error("pickle opcode 0x{opcode:02x} ({detail}) at {position} is not allowed")]
    Forbidden {
        /// The opcode.
        opcode: u8,
        /// The name of the global, or what the opcode does.
        detail: String,
        /// Its position.
        position: usize,
    },
    /// A persistent id whose oid cannot be read without Python.
    #[error("no oid can be read from the persistent id of opcode 0x{opcode:02x} at {position}")]
    NoOid {
        /// The opcode.
        opcode: u8,
        /// Its position.
        position: usize,
    },
    /// The values are not those of a header.
    #[error("not a replication header: {0}")]
    NotAHeader(String),
}
