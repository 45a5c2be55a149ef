//! The pickle opcodes of protocols 0 to 5: their arguments and their effect on the stack.
//!
//! [`super::scan()`] uses this table. Source: Python's `pickletools`.

/// The layout of an opcode's argument after the opcode byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    /// This number of bytes.
    Fixed(usize),
    /// This number of texts, each up to and including a line feed.
    Lines(usize),
    /// A little-endian length with this number of bytes, followed by that many bytes.
    Counted(usize),
}

/// The effect of an opcode on the unpickler's stack and memo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// None: `PROTO`, `FRAME`. The opcode belongs to the value that follows.
    Prefix,
    /// Pushes a string, number, `None` or boolean.
    Scalar,
    /// Pushes an empty tuple.
    EmptyTuple,
    /// Pushes a global by name.
    Global,
    /// Pushes a value of any other kind.
    Opaque,
    /// Pushes a mark.
    Mark,
    /// Takes this number of values and makes a tuple of them.
    Tuple(usize),
    /// Takes all values above the mark and makes a tuple of them.
    TupleFromMark,
    /// Takes all values above the mark and makes another value of them.
    OpaqueFromMark,
    /// Takes a callable and its arguments and pushes the result.
    Reduce,
    /// Takes this number of values and pushes one.
    Combine(usize),
    /// Takes this number of values and changes the one below them.
    Change(usize),
    /// Takes all values above the mark and changes the value below it.
    ChangeFromMark,
    /// Drops the topmost value or mark.
    Pop,
    /// Drops everything down to the mark.
    PopMark,
    /// Pushes the topmost value again.
    Duplicate,
    /// Memoizes the topmost value; the argument is the index.
    Put,
    /// Memoizes the topmost value with the number of memoized values as its index.
    Memoize,
    /// Pushes the value with this memo index.
    Get,
    /// Ends the pickle.
    Stop,
}

/// An opcode's layout and effect; `None` for a byte that is not an opcode.
pub(super) const fn describe(opcode: u8) -> Option<(Argument, Effect)> {
    use Argument::{Counted, Fixed, Lines};
    use Effect::{
        Change, ChangeFromMark, Combine, Duplicate, EmptyTuple, Get, Global, Mark, Memoize, Opaque,
        OpaqueFromMark, Pop, PopMark, Prefix, Put, Reduce, Scalar, Stop, Tuple, TupleFromMark,
    };
    Some(match opcode {
        b'(' => (Fixed(0), Mark),
        b'.' => (Fixed(0), Stop),
        b'0' => (Fixed(0), Pop),
        b'1' => (Fixed(0), PopMark),
        b'2' => (Fixed(0), Duplicate),
        b'N' | 0x88 | 0x89 => (Fixed(0), Scalar),
        b'F' | b'I' | b'L' | b'S' | b'V' => (Lines(1), Scalar),
        b'K' => (Fixed(1), Scalar),
        b'M' => (Fixed(2), Scalar),
        b'J' => (Fixed(4), Scalar),
        b'G' => (Fixed(8), Scalar),
        b'U' | b'C' | 0x8a | 0x8c => (Counted(1), Scalar),
        b'T' | b'X' | b'B' | 0x8b => (Counted(4), Scalar),
        0x8d | 0x8e => (Counted(8), Scalar),
        0x96 => (Counted(8), Opaque),
        b'c' => (Lines(2), Global),
        b'P' => (Lines(1), Opaque),
        b'Q' => (Fixed(0), Combine(1)),
        b'R' => (Fixed(0), Reduce),
        b'b' | b'a' => (Fixed(0), Change(1)),
        b's' => (Fixed(0), Change(2)),
        b'e' | b'u' | 0x90 => (Fixed(0), ChangeFromMark),
        b'd' | b'l' | b'o' | 0x91 => (Fixed(0), OpaqueFromMark),
        b'i' => (Lines(2), OpaqueFromMark),
        b']' | b'}' | 0x8f | 0x97 => (Fixed(0), Opaque),
        b')' => (Fixed(0), EmptyTuple),
        b't' => (Fixed(0), TupleFromMark),
        0x85 => (Fixed(0), Tuple(1)),
        0x86 => (Fixed(0), Tuple(2)),
        0x87 => (Fixed(0), Tuple(3)),
        b'p' => (Lines(1), Put),
        b'q' => (Fixed(1), Put),
        b'r' => (Fixed(4), Put),
        b'g' => (Lines(1), Get),
        b'h' => (Fixed(1), Get),
        b'j' => (Fixed(4), Get),
        0x80 => (Fixed(1), Prefix),
        0x95 => (Fixed(8), Prefix),
        0x81 | 0x93 => (Fixed(0), Combine(2)),
        0x92 => (Fixed(0), Combine(3)),
        0x82 => (Fixed(1), Opaque),
        0x83 => (Fixed(2), Opaque),
        0x84 => (Fixed(4), Opaque),
        0x94 => (Fixed(0), Memoize),
        0x98 => (Fixed(0), Change(0)),
        _ => return None,
    })
}

/// `FRAME`, whose argument counts the bytes that follow it.
pub(super) const FRAME: u8 = 0x95;
/// `MEMOIZE`.
pub(super) const MEMOIZE: u8 = 0x94;
/// `LONG_BINPUT`, with a four-byte memo index.
pub(super) const LONG_BINPUT: u8 = b'r';
/// `POP`.
pub(super) const POP: u8 = b'0';
/// `STOP`.
pub(super) const STOP: u8 = b'.';
