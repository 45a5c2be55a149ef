//! Reads the pickles of an index file one by one.

use std::io::{self, Read};

use super::error::IndexFileError;

pub(super) const PREFIX_LEN: usize = 6;
pub(super) const SUFFIX_LEN: usize = 2;
pub(super) const POSITION_LEN: usize = 6;
pub(crate) const OBJECT_LEN: usize = SUFFIX_LEN + POSITION_LEN;
const MAX_PAGE_LEN: usize = OBJECT_LEN << 16;

/// The length of the longest decimal number of 64 bits, with a sign.
const MAX_DECIMAL_LEN: usize = 21;

/// A file of pickles.
pub(super) struct Pickles<R> {
    file: R,
    /// Memory for the next long string: allocating it for each string would take as long as
    /// everything that is done with the string.
    spare: Vec<u8>,
}

/// The kinds of values in the pickles of an index file.
#[derive(Debug)]
pub(super) enum Value {
    None,
    Number(u64),
    Bytes(Vec<u8>),
    Pair(Vec<u8>, Vec<u8>),
    Mark,
}

impl<R: Read> Pickles<R> {
    pub(super) fn new(file: R) -> Self {
        let spare = Vec::new();
        Self { file, spare }
    }

    /// Return the memory of a string for reuse.
    pub(super) fn reuse(&mut self, bytes: Vec<u8>) {
        self.spare = bytes;
    }

    /// Read one pickle with such a value, of Python 2 or 3 and protocol 1 or higher.
    pub(super) fn read(&mut self) -> Result<Value, IndexFileError> {
        let file = &mut self.file;
        // The deepest stack is a mark and two strings.
        let mut stack: Vec<Value> = Vec::with_capacity(3);
        loop {
            let [opcode] = read_array(file)?;
            let unexpected = IndexFileError::Opcode(opcode);
            let value = match opcode {
                b'.' => match (stack.pop(), stack.is_empty()) {
                    (Some(value), true) => return Ok(value),
                    _ => return Err(unexpected),
                },
                // PROTO; FRAME; MEMOIZE, BINPUT, LONG_BINPUT of a memo that no opcode reads.
                0x80 | b'q' => skip::<1>(file)?,
                0x95 => skip::<8>(file)?,
                b'r' => skip::<4>(file)?,
                0x94 => None,
                b'N' => Some(Value::None),
                b'(' => Some(Value::Mark),
                b'K' => Some(number(read_array::<1>(file)?)),
                b'M' => Some(number(read_array::<2>(file)?)),
                b'J' => Some(signed(read_array::<4>(file)?.to_vec())?),
                b'I' | b'L' => Some(decimal(file)?),
                0x8a => Some(signed(counted::<1>(file, Vec::new())?)?),
                b'C' | b'U' | 0x8c => Some(Value::Bytes(counted::<1>(file, Vec::new())?)),
                b'B' | b'T' | b'X' => Some(Value::Bytes(counted::<4>(
                    file,
                    std::mem::take(&mut self.spare),
                )?)),
                b't' | 0x86 => match (stack.pop(), stack.pop()) {
                    (Some(Value::Bytes(second)), Some(Value::Bytes(first))) => {
                        if opcode == b't' && !matches!(stack.pop(), Some(Value::Mark)) {
                            return Err(unexpected);
                        }
                        Some(Value::Pair(first, second))
                    }
                    _ => return Err(unexpected),
                },
                _ => return Err(unexpected),
            };
            if stack.len() == stack.capacity() && value.is_some() {
                return Err(unexpected);
            }
            stack.extend(value);
        }
    }
}

fn read_array<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Read and ignore an argument.
fn skip<const N: usize>(file: &mut impl Read) -> io::Result<Option<Value>> {
    read_array::<N>(file).map(|_| None)
}

fn number<const N: usize>(mut bytes: [u8; N]) -> Value {
    bytes.reverse();
    Value::Number(big_endian(&bytes))
}

/// A little-endian number in two's complement; negative numbers are refused.
fn signed(mut bytes: Vec<u8>) -> Result<Value, IndexFileError> {
    bytes.reverse();
    let negative = bytes.first().is_some_and(|byte| *byte >= 0x80);
    let digits = match bytes.as_slice() {
        [0, rest @ ..] => rest,
        all => all,
    };
    if negative || digits.len() > size_of::<u64>() {
        return Err(IndexFileError::NoPosition);
    }
    Ok(Value::Number(big_endian(digits)))
}

/// A decimal number on its own line, as Python 2 writes those of 64 bits; a long ends with an
/// `L`.
fn decimal(file: &mut impl Read) -> Result<Value, IndexFileError> {
    let mut line = Vec::new();
    loop {
        let [byte] = read_array(file)?;
        match byte {
            b'\n' => break,
            _ if line.len() < MAX_DECIMAL_LEN => line.push(byte),
            _ => return Err(IndexFileError::NoPosition),
        }
    }
    let digits = std::str::from_utf8(&line).map(|line| line.trim_end_matches('L').parse());
    match digits {
        Ok(Ok(number)) => Ok(Value::Number(number)),
        _ => Err(IndexFileError::NoPosition),
    }
}

/// Read a length of `N` bytes and this many bytes, into memory that is reused.
fn counted<const N: usize>(
    file: &mut impl Read,
    mut bytes: Vec<u8>,
) -> Result<Vec<u8>, IndexFileError> {
    let mut len = read_array::<N>(file)?;
    len.reverse();
    let len = usize::try_from(big_endian(&len)).unwrap_or(usize::MAX);
    if len > MAX_PAGE_LEN {
        return Err(IndexFileError::BadPage);
    }
    bytes.resize(len, 0);
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn big_endian(bytes: &[u8]) -> u64 {
    let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    bytes.iter().fold(0, add)
}
