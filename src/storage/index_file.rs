//! ZODB's index file: what `fsIndex.save` writes and `fsIndex.load` reads.
//!
//! Pickles, one after another: the position up to which the index knows the `Data.fs`;
//! for each page (the ids with the same first six bytes) a pair of those six bytes and of
//! all lower id halves, two bytes each, with all positions after them, six bytes each;
//! and `None`. They are read without a pickle machine: ZODB writes a handful of opcodes,
//! and whoever reads an index can do without it.

#[cfg(test)]
mod tests;

use std::io::{self, Read};

use super::index::{Index, Iter};

const PREFIX_LEN: usize = 6;
const SUFFIX_LEN: usize = 2;
const POSITION_LEN: usize = 6;
const OBJECT_LEN: usize = SUFFIX_LEN + POSITION_LEN;
const MAX_PAGE_LEN: usize = OBJECT_LEN << 16;
const MAX_DECIMAL_LEN: usize = 21;

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

/// Read an index file: the position up to which the index knows the `Data.fs`, and the
/// index. Takes small reads, so files want a buffer before them.
pub fn read_index(mut file: impl Read) -> Result<(u64, Index), IndexFileError> {
    let Value::Number(position) = read_pickle(&mut file)? else {
        return Err(IndexFileError::NoPosition);
    };
    let mut index = Index::new();
    loop {
        match read_pickle(&mut file)? {
            Value::None => return Ok((position, index)),
            Value::Pair(prefix, objects) => append_page(&mut index, &prefix, &objects)?,
            Value::Number(_) | Value::Bytes(_) | Value::Mark => {
                return Err(IndexFileError::BadPage);
            }
        }
    }
}

fn append_page(index: &mut Index, prefix: &[u8], objects: &[u8]) -> Result<(), IndexFileError> {
    if prefix.len() != PREFIX_LEN || objects.len() % OBJECT_LEN != 0 {
        return Err(IndexFileError::BadPage);
    }
    let count = objects.len() / OBJECT_LEN;
    let (suffixes, positions) = objects.split_at(count * SUFFIX_LEN);
    let positions = positions.chunks_exact(POSITION_LEN).map(big_endian);
    let objects = (suffixes.chunks_exact(SUFFIX_LEN).zip(positions))
        .map(|(suffix, position)| (u16::from_be_bytes([suffix[0], suffix[1]]), position));
    if index.append_page(big_endian(prefix), objects) {
        Ok(())
    } else {
        Err(IndexFileError::Unsorted)
    }
}

fn big_endian(bytes: &[u8]) -> u64 {
    let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    bytes.iter().fold(0, add)
}

/// What the pickles of an index file are made of.
#[derive(Debug)]
enum Value {
    None,
    Number(u64),
    Bytes(Vec<u8>),
    Pair(Vec<u8>, Vec<u8>),
    Mark,
}

/// Read a pickle of Python 2 or 3, of protocol 1 or higher, that has such a value.
fn read_pickle(file: &mut impl Read) -> Result<Value, IndexFileError> {
    // The deepest is a mark and two strings.
    let mut stack: Vec<Value> = Vec::with_capacity(3);
    loop {
        let [opcode] = read_array(file)?;
        let unexpected = IndexFileError::Opcode(opcode);
        let value = match opcode {
            b'.' => match (stack.pop(), stack.is_empty()) {
                (Some(value), true) => return Ok(value),
                _ => return Err(unexpected),
            },
            // PROTO; FRAME; MEMOIZE, BINPUT, LONG_BINPUT of a memo that nothing reads.
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
            0x8a => Some(signed(counted::<1>(file)?)?),
            b'C' | b'U' | 0x8c => Some(Value::Bytes(counted::<1>(file)?)),
            b'B' | b'T' | b'X' => Some(Value::Bytes(counted::<4>(file)?)),
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

fn read_array<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Read an argument that means nothing here.
fn skip<const N: usize>(file: &mut impl Read) -> io::Result<Option<Value>> {
    read_array::<N>(file).map(|_| None)
}

fn number<const N: usize>(mut bytes: [u8; N]) -> Value {
    bytes.reverse();
    Value::Number(big_endian(&bytes))
}

/// A little-endian number in two's complement, which must not be negative.
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

/// A number in decimal on a line of its own, as Python 2 writes those of 64 bits: with an
/// `L` at the end if it is a long.
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

/// Read a length of `N` bytes and as many bytes.
fn counted<const N: usize>(file: &mut impl Read) -> Result<Vec<u8>, IndexFileError> {
    let mut len = read_array::<N>(file)?;
    len.reverse();
    let len = usize::try_from(big_endian(&len)).unwrap_or(usize::MAX);
    if len > MAX_PAGE_LEN {
        return Err(IndexFileError::BadPage);
    }
    let mut bytes = vec![0; len];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The bytes of an index file, in pieces of at most a page: the same as `fsIndex.save` of
/// ZODB 6 writes for the same objects.
pub fn index_file(position: u64, index: &Index) -> IndexFile<'_> {
    let mut objects = index.iter();
    IndexFile {
        position: Some(position),
        next: objects.next().map(|(oid, at)| (oid.as_u64(), at)),
        objects,
        ended: false,
    }
}

/// The whole index file at once.
pub fn write_index(position: u64, index: &Index) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(index.len() * OBJECT_LEN + 64);
    for piece in index_file(position, index) {
        bytes.extend_from_slice(&piece);
    }
    bytes
}

/// The pieces of an index file; see [`index_file`].
#[derive(Clone, Debug)]
pub struct IndexFile<'a> {
    position: Option<u64>,
    next: Option<(u64, u64)>,
    objects: Iter<'a>,
    ended: bool,
}

const PROTOCOL_3: &[u8] = b"\x80\x03";

impl Iterator for IndexFile<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut piece = PROTOCOL_3.to_vec();
        if let Some(position) = self.position.take() {
            put_number(&mut piece, position);
        } else if let Some(page) = self.next.map(|(oid, _)| oid >> 16) {
            let objects = self.page(page);
            put_bytes(&mut piece, &page.to_be_bytes()[2..]);
            put_bytes(&mut piece, &objects);
            piece.push(0x86);
        } else if self.ended {
            return None;
        } else {
            self.ended = true;
            piece.push(b'N');
        }
        piece.push(b'.');
        Some(piece)
    }
}

impl IndexFile<'_> {
    fn page(&mut self, page: u64) -> Vec<u8> {
        let mut objects = Vec::new();
        let mut positions = Vec::new();
        while let Some((oid, position)) = self.next.filter(|(oid, _)| oid >> 16 == page) {
            objects.extend_from_slice(&oid.to_be_bytes()[PREFIX_LEN..]);
            positions.extend_from_slice(&position.to_be_bytes()[2..]);
            let next = self.objects.next();
            self.next = next.map(|(oid, position)| (oid.as_u64(), position));
        }
        objects.extend_from_slice(&positions);
        objects
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    if let Ok(len) = u8::try_from(bytes.len()) {
        out.extend_from_slice(&[b'C', len]);
    } else {
        // Pages are shorter than 2^32 by far.
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        out.push(b'B');
        out.extend(len.to_be_bytes().iter().rev());
    }
    out.extend_from_slice(bytes);
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    let (opcode, len): (&[u8], usize) = match number {
        0..=0xff => (b"K", 1),
        0x100..=0xffff => (b"M", 2),
        0x1_0000..=0x7fff_ffff => (b"J", 4),
        // Where the highest bit would be taken for the sign, a byte more.
        0x8000_0000..=0x7f_ffff_ffff => (b"\x8a\x05", 5),
        0x80_0000_0000..=0x7fff_ffff_ffff => (b"\x8a\x06", 6),
        0x8000_0000_0000..=0x7f_ffff_ffff_ffff => (b"\x8a\x07", 7),
        0x80_0000_0000_0000..=0x7fff_ffff_ffff_ffff => (b"\x8a\x08", 8),
        _ => (b"\x8a\x09", 9),
    };
    out.extend_from_slice(opcode);
    let zeros = std::iter::repeat(&0);
    out.extend(number.to_be_bytes().iter().rev().chain(zeros).take(len));
}
