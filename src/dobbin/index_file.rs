//! The index in a file beside the log, so that opening need not read the log.
//!
//! It is only an aid: one that is missing, damaged or of another file is not used, and one
//! that is old is read on from.

use std::path::Path;

use super::error::{LogError, LogResult};
use super::header::HEADER_LEN;
use super::index::{Entry, Index};
use super::log::{Log, io_error};
use super::open::{LOGGER, sibling};
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

/// What saving the index has come to. Locked while it is being saved, before the view.
#[derive(Debug, Default)]
pub(super) struct Saving {
    /// How often it was tried: each attempt writes to a file of its own.
    attempts: u64,
    /// Up to where the index was to go that could not be saved.
    unsaved: u64,
}

impl Log {
    /// Save the index beside the log, which is made durable first.
    pub fn save_index(&self) -> LogResult<()> {
        self.save_index_in(&mut self.saving.lock())
    }

    /// Save the index if the log has grown so much that it is worth it, and no other thread is
    /// saving it. What was committed does not depend on it: a failure is logged.
    pub fn checkpoint(&self) {
        let Some(mut saving) = self.saving.try_lock() else {
            return;
        };
        let Ok((end, saved)) = self.view().map(|view| (view.index.end, view.saved)) else {
            return;
        };
        let grown = end.saturating_sub(saved.max(saving.unsaved));
        if grown <= CHECKPOINT || grown <= saved / 4 {
            return;
        }
        if let Err(error) = self.save_index_in(&mut saving) {
            saving.unsaved = end;
            self.warn_of_index(&error);
        }
    }

    pub(super) fn warn_of_index(&self, error: &LogError) {
        log::warn!(
            target: LOGGER,
            "{}: the index could not be saved, so opening the database will take longer: {error}",
            self.path.display()
        );
    }

    fn save_index_in(&self, saving: &mut Saving) -> LogResult<()> {
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
        saving.attempts += 1;
        self.write_index(&to_bytes(&index, &identity), &identity, saving.attempts)?;
        let mut view = self.writable()?;
        // A compaction may have put another file there meanwhile.
        if view.identity == identity {
            view.durable = view.durable.max(index.end);
            view.saved = index.end;
        }
        Ok(())
    }

    /// Replace the index file, unless it would be the index of a file that was replaced.
    fn write_index(&self, bytes: &[u8], identity: &[u8; 16], attempt: u64) -> LogResult<()> {
        let path = sibling(&self.path, ".index");
        let unique = u128::from_be_bytes(self.options.identity);
        let temporary = sibling(&path, &format!("-{unique:032x}-{attempt}"));
        let write = || {
            let file = self.vfs.create_like(&temporary, &self.path)?;
            file.write_all_at(bytes, 0)?;
            file.sync_data()
        };
        let written = write().map_err(io_error(&temporary)).and_then(|()| {
            let view = self.view()?;
            if view.identity != *identity || self.is_replaced(&view) {
                return self.vfs.remove(&temporary).map_err(io_error(&temporary));
            }
            let renamed = self.vfs.rename(&temporary, &path);
            renamed.map_err(io_error(&path))
        });
        if written.is_err() {
            // The error is what matters.
            drop(self.vfs.remove(&temporary));
        }
        written
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
/// where the log was durable. If the log is shorter, that is returned as an error.
pub(super) fn load(vfs: &dyn Vfs, path: &Path, view: &mut View) -> LogResult<Option<LogError>> {
    let Some(index) = read(vfs, path, &view.identity) else {
        return Ok(None);
    };
    view.durable = index.end;
    let len = view.file.metadata().map_err(io_error(path))?.len;
    if len < index.end {
        return Ok(Some(LogError::Shortened {
            path: path.to_owned(),
            len,
            durable: index.end,
            transaction: index.number,
        }));
    }
    if is_of(&index, &*view.file) {
        view.saved = index.end;
        view.index = index;
    } else {
        log::info!(target: LOGGER, "{}: the index is not used", path.display());
    }
    Ok(None)
}

/// The error that a log without a header is, if an index shows that it had transactions.
pub(super) fn emptied(vfs: &dyn Vfs, path: &Path) -> Option<LogError> {
    let bytes = read_bytes(vfs, path)?;
    let index = parse(&bytes, bytes.get(12..28)?.first_chunk()?)?;
    Some(LogError::Emptied {
        path: path.to_owned(),
        durable: index.end,
        transaction: index.number,
    })
}

fn read(vfs: &dyn Vfs, path: &Path, identity: &[u8; 16]) -> Option<Index> {
    parse(&read_bytes(vfs, path)?, identity)
}

fn read_bytes(vfs: &dyn Vfs, path: &Path) -> Option<Vec<u8>> {
    let file = vfs.open_read(&sibling(path, ".index")).ok()?;
    let mut bytes = vec![0; usize::try_from(file.metadata().ok()?.len).ok()?];
    let count = file.read_full_at(&mut bytes, 0).ok()?;
    bytes.truncate(count);
    Some(bytes)
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
