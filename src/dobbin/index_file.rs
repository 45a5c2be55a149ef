//! The index in a file beside the log, so that opening need not read the log.
//!
//! It is only an aid: one that is missing, damaged or of another file is not used, and one
//! that is old is read on from.

use std::path::Path;

use super::error::LogResult;
use super::header::HEADER_LEN;
use super::index::{Entry, Index};
use super::log::{Log, io_error};
use super::open::sibling;
use super::record::{HEAD_LEN, Head, Kind, number32, number64};
use super::view::View;
use crate::ids::Oid;
use crate::vfs::{Vfs, VfsFile};

const MAGIC: [u8; 8] = *b"\x89dobidx\n";
const VERSION: u32 = 1;
/// Magic, version, the log's identity, and seven numbers.
const FIXED: usize = 8 + 4 + 16 + 8 * 7;
const ENTRY: usize = 24;
/// A log that has grown by so many bytes and a quarter since is worth a new index.
const CHECKPOINT: u64 = 64 << 20;

impl Log {
    /// Save the index beside the log, which is made durable first.
    pub fn save_index(&self) -> LogResult<()> {
        self.check_writable()?;
        let (index, identity, syncer) = {
            let view = self.view()?;
            if !view.damaged.is_empty() || view.index.end == view.saved || view.index.last == 0 {
                return Ok(());
            }
            let syncer = std::sync::Arc::clone(&view.syncer);
            (view.index.clone(), view.identity, syncer)
        };
        self.vital(syncer.wait(index.end))?;
        let path = sibling(&self.path, ".index");
        let unique = self
            .options
            .identity
            .iter()
            .map(|byte| format!("{byte:02x}"));
        let temporary = sibling(&path, &format!("-{}", unique.collect::<String>()));
        let bytes = to_bytes(&index, &identity);
        let write = || {
            let file = self.vfs.create(&temporary)?;
            file.write_all_at(&bytes, 0)?;
            file.sync_data()?;
            self.vfs.rename(&temporary, &path)
        };
        write().map_err(io_error(&path))?;
        let mut view = self.writable()?;
        // A compaction may have put another file there meanwhile.
        if view.identity == identity {
            view.durable = view.durable.max(index.end);
            view.saved = index.end;
        }
        Ok(())
    }

    /// Save the index if the log has grown so much that it is worth it.
    pub fn checkpoint(&self) -> LogResult<()> {
        let grown = {
            let view = self.view()?;
            let grown = view.index.end.saturating_sub(view.saved);
            grown > CHECKPOINT && grown > view.saved / 4
        };
        if grown { self.save_index() } else { Ok(()) }
    }
}

fn to_bytes(index: &Index, identity: &[u8; 16]) -> Vec<u8> {
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

fn parse(bytes: &[u8], identity: &[u8; 16]) -> Option<Index> {
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
    Some(Index {
        objects: entries.by_ref().take(objects).collect(),
        streams: entries.collect(),
        end: number(0),
        last: number(1),
        number: number(2),
        next_oid: number(3),
        root: Some(Oid::from_u64(number(4))).filter(|root| *root != Oid::ZERO),
        ..Index::new()
    })
}

/// Take over the index of a log that was saved, if it is one of a state that the log had.
///
/// If the end of that state is not what it was, it is damaged: the index still tells up to
/// where the log was durable.
pub(super) fn load(vfs: &dyn Vfs, path: &Path, view: &mut View) {
    let Some(index) = read(vfs, path, &view.identity) else {
        return;
    };
    if view
        .file
        .metadata()
        .is_ok_and(|metadata| metadata.len >= index.end)
    {
        view.durable = index.end;
    }
    if is_of(&index, &*view.file) {
        view.saved = index.end;
        view.index = index;
    } else {
        log::info!(target: super::open::LOGGER, "{}: the index is not used", path.display());
    }
}

fn read(vfs: &dyn Vfs, path: &Path, identity: &[u8; 16]) -> Option<Index> {
    let file = vfs.open_read(&sibling(path, ".index")).ok()?;
    let mut bytes = vec![0; usize::try_from(file.metadata().ok()?.len).ok()?];
    let count = file.read_full_at(&mut bytes, 0).ok()?;
    parse(bytes.get(..count)?, identity)
}

/// Whether the transaction that the index ends with is where it says.
fn is_of(index: &Index, file: &dyn VfsFile) -> bool {
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
        let mut index = Index::new();
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
