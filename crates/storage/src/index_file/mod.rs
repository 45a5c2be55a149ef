//! ZODB's index file, which `fsIndex.save` writes and `fsIndex.load` reads.
//!
//! The file is a sequence of pickles: the position up to which the index covers the `Data.fs`;
//! for each page (the ids with the same first six bytes), a pair of these six bytes and of all
//! lower id halves, two bytes each, followed by all positions, six bytes each; and `None`. They
//! are read without a general unpickler, since ZODB writes only a few opcodes.

mod error;
mod pickles;
#[cfg(test)]
mod tests;

use std::io::{self, BufReader, Read};
use std::sync::Arc;

pub use self::error::IndexFileError;
pub(super) use self::pickles::OBJECT_LEN;
use self::pickles::{POSITION_LEN, PREFIX_LEN, Pickles, SUFFIX_LEN, Value, big_endian};
use super::index::{Index, Iter, RUN_MAX};
use zrs_ids::Oid;
use zrs_vfs::VfsFile;

/// The buffer for small reads; pages, which are larger, bypass it.
const BUFFER: usize = 16 * 1024;

/// Reads a file from its start.
pub(super) struct FromStart {
    file: Arc<dyn VfsFile>,
    offset: u64,
}

impl FromStart {
    /// Reads through a buffer for the small reads of an index file.
    pub(super) fn buffered(file: Arc<dyn VfsFile>) -> BufReader<Self> {
        BufReader::with_capacity(BUFFER, Self { file, offset: 0 })
    }
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Read an index file: the position up to which it covers the `Data.fs`, and the index. Makes
/// many small reads, so the reader should be buffered.
pub fn read_index(file: impl Read) -> Result<(u64, Index), IndexFileError> {
    let mut pickles = Pickles::new(file);
    let Value::Number(position) = pickles.read()? else {
        return Err(IndexFileError::NoPosition);
    };
    let mut index = Index::new();
    loop {
        match pickles.read()? {
            Value::None => return Ok((position, index)),
            Value::Pair(prefix, objects) => {
                append_page(&mut index, &prefix, &objects)?;
                pickles.reuse(objects);
            }
            Value::Number(_) | Value::Bytes(_) | Value::Mark => {
                return Err(IndexFileError::BadPage);
            }
        }
    }
}

/// Read about one of every `step` objects of an index file, with their positions. Does not
/// allocate memory for the whole index.
pub(super) fn sample_index(
    file: impl Read,
    step: usize,
) -> Result<Vec<(Oid, u64)>, IndexFileError> {
    let mut pickles = Pickles::new(file);
    let Value::Number(_) = pickles.read()? else {
        return Err(IndexFileError::NoPosition);
    };
    let mut sampled = Vec::new();
    // The number of objects to skip before the next one.
    let mut over = 0;
    loop {
        match pickles.read()? {
            Value::None => return Ok(sampled),
            Value::Pair(prefix, objects) => {
                let (suffixes, positions) = split_page(&prefix, &objects)?;
                let suffixes = suffixes.chunks_exact(SUFFIX_LEN);
                let count = suffixes.len();
                let both = suffixes.zip(positions.chunks_exact(POSITION_LEN));
                for (suffix, position) in both.skip(over).step_by(step) {
                    let oid = big_endian(&prefix) << 16 | big_endian(suffix);
                    sampled.push((Oid::from_u64(oid), big_endian(position)));
                }
                let reached = count.saturating_sub(over).div_ceil(step) * step + over;
                over = reached - count;
                pickles.reuse(objects);
            }
            Value::Number(_) | Value::Bytes(_) | Value::Mark => {
                return Err(IndexFileError::BadPage);
            }
        }
    }
}

/// The lower halves of a page's ids, and their positions.
fn split_page<'a>(
    prefix: &[u8],
    objects: &'a [u8],
) -> Result<(&'a [u8], &'a [u8]), IndexFileError> {
    if prefix.len() != PREFIX_LEN || objects.len() % OBJECT_LEN != 0 {
        return Err(IndexFileError::BadPage);
    }
    Ok(objects.split_at(objects.len() / OBJECT_LEN * SUFFIX_LEN))
}

fn append_page(index: &mut Index, prefix: &[u8], objects: &[u8]) -> Result<(), IndexFileError> {
    let (suffixes, positions) = split_page(prefix, objects)?;
    let page = big_endian(prefix);
    let runs = suffixes.chunks(RUN_MAX * SUFFIX_LEN);
    for (suffixes, positions) in runs.zip(positions.chunks(RUN_MAX * POSITION_LEN)) {
        let suffixes = suffixes.chunks_exact(SUFFIX_LEN);
        let objects = suffixes.zip(positions.chunks_exact(POSITION_LEN));
        let objects = objects.map(|(suffix, position)| {
            // Copies of fixed length: this loop takes most of the time of opening a large file.
            let (mut low, mut wide) = ([0; SUFFIX_LEN], [0; 8]);
            low.copy_from_slice(suffix);
            wide[2..].copy_from_slice(position);
            (u16::from_be_bytes(low), u64::from_be_bytes(wide))
        });
        if !index.append_run(page, objects) {
            return Err(IndexFileError::Unsorted);
        }
    }
    Ok(())
}

/// The bytes of an index file, in pieces of at most a page: the same bytes as `fsIndex.save` of
/// ZODB 6 writes for the same objects.
pub fn index_file(position: u64, index: &Index) -> IndexFile<'_> {
    let mut objects = index.iter();
    IndexFile {
        position: Some(position),
        next: objects.next().map(|(oid, at)| (oid.as_u64(), at)),
        objects,
        page_len: 0,
        ended: false,
    }
}

/// The whole index file.
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
    page_len: usize,
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
        let mut objects = Vec::with_capacity(self.page_len);
        let mut positions = Vec::with_capacity(self.page_len);
        while let Some((oid, position)) = self.next.filter(|(oid, _)| oid >> 16 == page) {
            objects.extend_from_slice(&oid.to_be_bytes()[PREFIX_LEN..]);
            positions.extend_from_slice(&position.to_be_bytes()[2..]);
            let next = self.objects.next();
            self.next = next.map(|(oid, position)| (oid.as_u64(), position));
        }
        objects.extend_from_slice(&positions);
        // The next page is likely to be as long.
        self.page_len = objects.len();
        objects
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    if let Ok(len) = u8::try_from(bytes.len()) {
        out.extend_from_slice(&[b'C', len]);
    } else {
        // Pages are much shorter than 2^32.
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
        // If the highest bit would be read as the sign, add a byte.
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
