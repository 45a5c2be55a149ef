//! The index file next to the log, which saves reading the whole log when it is opened.
//!
//! The index is optional. One that is missing, damaged or of another log is not used; after an
//! old one, only the rest of the log is read.

use std::path::Path;

use super::error::{LOGGER, LogError, LogResult, io_error};
use super::header::HEADER_LEN;
use super::index::{Entry, ObjectIndex};
use super::paths::sibling;
use super::record::{HEAD_LEN, Head, Kind, number32, number64};
use zrs_ids::Oid;
use zrs_vfs::{Vfs, VfsFile};

const MAGIC: [u8; 8] = *b"\x89dobidx\n";
const VERSION: u32 = 1;
/// The length of magic, version, the log's identity and seven numbers.
const FIXED: usize = 8 + 4 + 16 + 8 * 7;
const ENTRY: usize = 24;
/// What an index file shows about its log.
pub(super) struct SavedIndex {
    /// The index, if the log still has the state that was saved.
    pub(super) index: Option<ObjectIndex>,
    /// The position up to which the log was durable.
    pub(super) durable: u64,
    /// The error if the log is shorter than that.
    pub(super) shortened: Option<LogError>,
}

/// The state of saving the index. Locked while it is saved, before the view.
#[derive(Debug, Default)]
pub(super) struct Saving {
    /// The number of attempts; each writes to a new file.
    pub(super) attempts: u64,
    /// The end of the last transaction in an index that could not be saved.
    pub(super) unsaved: u64,
}

pub(super) fn to_bytes(index: &ObjectIndex, identity: &[u8; 16]) -> Vec<u8> {
    let entries = index.objects.len() + index.streams.len();
    let mut bytes = Vec::with_capacity(FIXED + ENTRY * entries + 4);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(identity);
    for number in [
        index.end,
        index.last,
        index.number,
        index.next_oid,
        index.root.unwrap_or_default().as_u64(),
        index.objects.len() as u64,
        index.streams.len() as u64,
    ] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    for (oid, entry) in index.objects.iter().chain(&index.streams) {
        bytes.extend_from_slice(oid.as_bytes());
        bytes.extend_from_slice(&entry.position.to_be_bytes());
        bytes.extend_from_slice(&entry.serial.to_be_bytes());
    }
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    bytes
}

fn parse(bytes: &[u8], identity: &[u8; 16]) -> Option<ObjectIndex> {
    let (body, checksum) = bytes.split_last_chunk::<4>()?;
    if body.len() < FIXED || *checksum != crc32fast::hash(body).to_be_bytes() {
        return None;
    }
    if body[..8] != MAGIC || number32(body, 8) != VERSION || body[12..28] != *identity {
        return None;
    }
    let number = |place: usize| number64(body, 28 + 8 * place);
    let objects = usize::try_from(number(5)).ok()?;
    let streams = usize::try_from(number(6)).ok()?;
    let entries = &body[FIXED..];
    if objects.checked_add(streams)?.checked_mul(ENTRY)? != entries.len() {
        return None;
    }
    let mut entries = entries.chunks_exact(ENTRY).map(|entry| {
        let (position, serial) = (number64(entry, 8), number64(entry, 16));
        (
            Oid::from_u64(number64(entry, 0)),
            Entry { position, serial },
        )
    });
    Some(ObjectIndex {
        objects: entries.by_ref().take(objects).collect(),
        streams: entries.collect(),
        end: number(0),
        last: number(1),
        number: number(2),
        next_oid: number(3),
        root: Some(Oid::from_u64(number(4))).filter(|root| *root != Oid::ZERO),
        ..ObjectIndex::new()
    })
}

/// Read the index file of the log at `path`; `None` if it is missing or cannot be used.
///
/// If the log no longer has the end of the saved state, it is damaged there. The index still
/// shows up to which position the log was durable.
pub(super) fn load(
    vfs: &dyn Vfs,
    path: &Path,
    identity: &[u8; 16],
    file: &dyn VfsFile,
) -> LogResult<Option<SavedIndex>> {
    let Some(index) = read(vfs, path, identity) else {
        return Ok(None);
    };
    let (durable, len) = (index.end, file.metadata().map_err(io_error(path))?.len);
    let shortened = (len < durable).then(|| LogError::Shortened {
        path: path.to_owned(),
        len,
        durable,
        transaction: index.number,
    });
    let index = (shortened.is_none() && matches_log(&index, file)).then_some(index);
    if index.is_none() && shortened.is_none() {
        log::info!(target: LOGGER, "{}: the index file does not match and is ignored", path.display());
    }
    Ok(Some(SavedIndex {
        index,
        durable,
        shortened,
    }))
}

/// The error for a log without a header whose index shows that it had transactions.
pub(super) fn emptied(vfs: &dyn Vfs, path: &Path) -> Option<LogError> {
    let bytes = read_bytes(vfs, path)?;
    let index = parse(&bytes, bytes.get(12..28)?.first_chunk()?)?;
    Some(LogError::Emptied {
        path: path.to_owned(),
        durable: index.end,
        transaction: index.number,
    })
}

fn read(vfs: &dyn Vfs, path: &Path, identity: &[u8; 16]) -> Option<ObjectIndex> {
    parse(&read_bytes(vfs, path)?, identity)
}

fn read_bytes(vfs: &dyn Vfs, path: &Path) -> Option<Vec<u8>> {
    let file = vfs.open_read(&sibling(path, ".index")).ok()?;
    let mut bytes = vec![0; usize::try_from(file.metadata().ok()?.len).ok()?];
    let count = file.read_full_at(&mut bytes, 0).ok()?;
    bytes.truncate(count);
    Some(bytes)
}

/// Whether the log has the last transaction of the index at its position.
fn matches_log(index: &ObjectIndex, file: &dyn VfsFile) -> bool {
    let mut bytes = [0; HEAD_LEN];
    let found = index.last >= HEADER_LEN as u64
        && file
            .read_full_at(&mut bytes, index.last)
            .is_ok_and(|count| count == HEAD_LEN);
    let head = Head::parse(&bytes, index.last);
    let sound = head.is_ok_and(|head| {
        head.kind == Kind::End
            && head.transaction == index.number
            && head.end(index.last) == index.end
    });
    found
        && sound
        && file
            .metadata()
            .is_ok_and(|metadata| metadata.len >= index.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_read_as_it_was_written_and_any_flipped_byte_is_found() {
        let mut index = ObjectIndex::new();
        index.set_object(Oid::from_u64(1), 100, 3, &mut Vec::new());
        index.set_stream(Oid::from_u64(2), 200, 4);
        (index.end, index.last, index.number, index.next_oid) = (500, 400, 4, 3);
        index.root = Some(Oid::from_u64(1));
        let bytes = to_bytes(&index, &[7; 16]);
        assert_eq!(parse(&bytes, &[7; 16]), Some(index));
        assert_eq!(parse(&bytes, &[8; 16]), None);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert_eq!(parse(&flipped, &[7; 16]), None, "byte {at}");
        }
        for len in 0..bytes.len() {
            assert_eq!(parse(&bytes[..len], &[7; 16]), None, "{len} bytes");
        }
    }
}
