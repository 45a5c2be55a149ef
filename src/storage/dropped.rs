//! The tids of the transactions that packs have dropped whole, in a file beside the `Data.fs`.
//!
//! Without it, a transaction that a file does not have may have been dropped by a pack or may
//! never have been in its history. docs/format.md has the file's bytes. It is written before
//! the packed file takes the old one's place, so it is bound to both files: to each by where
//! the transactions end that packs have marked, and by the last of these. It is searched on
//! disk, and written in one pass; no list of tids is ever in memory.

use std::io;
use std::path::{Path, PathBuf};

use md5::{Digest as _, Md5};

use super::file::{DataFile, io_error};
use super::filestorage::sibling;
use super::seek::{Forward, transaction_before};
use crate::error::StorageResult;
use crate::format::{FIRST_TRANSACTION, TransactionStatus};
use crate::ids::Tid;
use crate::vfs::{Vfs, VfsFile};

/// What follows the name of the `Data.fs`.
pub const SUFFIX: &str = ".dropped";

const MAGIC: [u8; 8] = *b"zrsdrop1";
const TID_LEN: usize = 8;
const BINDING_LEN: usize = 3 * TID_LEN;
const CHECKED_LEN: usize = MAGIC.len() + 2 * BINDING_LEN + TID_LEN;
const DIGEST_LEN: usize = 16;
const HEADER_LEN: usize = CHECKED_LEN + DIGEST_LEN;
/// How many bytes of tids are read or written at once; a multiple of [`TID_LEN`].
const BUFFER: usize = 64 * 1024;

/// Ties the list to one file, and says from where on it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Binding {
    /// Where the packed transactions at the beginning of the file end; 0 if there are none, and then no file matches.
    end: u64,
    /// The last of them.
    last_packed: Tid,
    /// Each transaction that was dropped and is later than this one is in the list; all ones
    /// where no list was.
    complete_after: Tid,
}

impl Binding {
    fn matches(&self, file: &DataFile) -> StorageResult<bool> {
        if self.end < FIRST_TRANSACTION {
            return Ok(false);
        }
        let found = transaction_before(file, self.end)?;
        Ok(found.is_some_and(|header| {
            header.tid == self.last_packed && header.status == TransactionStatus::Packed
        }))
    }

    fn to_bytes(self) -> [u8; BINDING_LEN] {
        let mut bytes = [0; BINDING_LEN];
        bytes[..8].copy_from_slice(&self.end.to_be_bytes());
        bytes[8..16].copy_from_slice(self.last_packed.as_bytes());
        bytes[16..].copy_from_slice(self.complete_after.as_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            end: number(bytes, 0),
            last_packed: Tid::from_u64(number(bytes, 1)),
            complete_after: Tid::from_u64(number(bytes, 2)),
        }
    }
}

/// The list that belongs to an open `Data.fs`.
pub(super) struct Dropped {
    file: std::sync::Arc<dyn VfsFile>,
    path: PathBuf,
    count: u64,
    binding: Binding,
    /// Whether the packed file is in its place; before that, transactions that the list has
    /// may be in the file, or lost with its end in a power cut.
    is_current: bool,
}

/// What a list says about a transaction that is not in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A pack has dropped it.
    Dropped,
    /// It was never in the file's history.
    Never,
    /// A pack that has left no list may have dropped it.
    Uncovered,
}

impl Dropped {
    /// The list beside the `Data.fs` at `path`, of which `file` is open; `None` if there is
    /// none, or if it belongs to another file or is damaged, which is logged.
    ///
    /// # Errors
    /// Those of reading `file`.
    pub(super) fn of(vfs: &dyn Vfs, path: &Path, file: &DataFile) -> StorageResult<Option<Self>> {
        let path = sibling(path, SUFFIX);
        let read = vfs.open_read(&path).and_then(|list| {
            let header = read_header(&*list)?;
            Ok((list, header))
        });
        let (list, (bindings, count)) = match read {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                log::warn!("{}: {error}; it is not used", path.display());
                return Ok(None);
            }
        };
        let [current, previous] = bindings;
        let (is_new, is_old) = (current.matches(file)?, previous.matches(file)?);
        let mut dropped = Self {
            file: list,
            path,
            count,
            binding: current,
            is_current: is_new,
        };
        if is_new && is_old {
            dropped.choose(previous, file)?;
        } else if is_old {
            dropped.binding = previous;
        }
        if is_new || is_old {
            return Ok(Some(dropped));
        }
        log::debug!("{}: belongs to another file", dropped.path.display());
        Ok(None)
    }

    /// Tells the old file from the new one where the one begins like the other: it is the one
    /// whose packed part is longer. If both are equal, the pack has dropped later transactions.
    fn choose(&mut self, previous: Binding, file: &DataFile) -> StorageResult<()> {
        let end = self.binding.end;
        if previous.end == end {
            let next = Forward::new(file, end, Tid::ZERO).header()?;
            // Without one the end of the old file may have been lost.
            self.is_current = next.is_some();
            match next {
                Some(next) if self.contains(next.tid)? => {}
                _ => return Ok(()),
            }
        } else if previous.end < end {
            return Ok(());
        }
        self.binding = previous;
        self.is_current = false;
        Ok(())
    }

    /// The last transaction in the list, if the pack that wrote it was completed.
    ///
    /// # Errors
    /// Those of reading the list.
    pub(super) fn last(&self) -> StorageResult<Option<Tid>> {
        match self.count.checked_sub(1).filter(|_| self.is_current) {
            Some(last) => self.tid(last).map(Some),
            None => Ok(None),
        }
    }

    /// What is known of a transaction that is not in the file, and would begin at `position`
    /// there. `after_packed` tells whether the transaction that does begin there is marked as
    /// packed.
    pub(super) fn answer(
        &self,
        tid: Tid,
        position: u64,
        after_packed: bool,
    ) -> StorageResult<Answer> {
        if self.contains(tid)? {
            return Ok(Answer::Dropped);
        }
        let end = self.binding.end;
        let covered = position < end || position == end && !after_packed;
        Ok(if covered && tid > self.binding.complete_after {
            Answer::Never
        } else {
            Answer::Uncovered
        })
    }

    fn contains(&self, tid: Tid) -> StorageResult<bool> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            let found = self.tid(middle)?;
            if found == tid {
                return Ok(true);
            }
            if found < tid {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(false)
    }

    fn tid(&self, number: u64) -> StorageResult<Tid> {
        let mut bytes = [0; TID_LEN];
        let offset = HEADER_LEN as u64 + number * TID_LEN as u64;
        let read = self.file.read_full_at(&mut bytes, offset);
        match read {
            Ok(TID_LEN) => Ok(Tid::from_u64(u64::from_be_bytes(bytes))),
            Ok(_) => Err(io_error(&self.path, io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(io_error(&self.path, error)),
        }
    }
}

/// Lists what a pack of `source` up to `end` has dropped, and what earlier lists have, beside
/// the `Data.fs` at `path`. The packed file is `packed`, complete but for transactions that
/// the pack will copy unchanged; `time` is the time of the pack. Durable when this returns.
///
/// # Errors
/// Those of reading the files and of writing the list; the old list stays then.
pub(super) fn record(
    vfs: &dyn Vfs,
    path: &Path,
    source: &DataFile,
    end: u64,
    packed: &DataFile,
    time: Tid,
) -> StorageResult<()> {
    let earlier = Dropped::of(vfs, path, source)?;
    let (temporary, target) = (sibling(path, ".dropped.tmp"), sibling(path, SUFFIX));
    let error = |error| io_error(&temporary, error);
    let list = vfs.create_like(&temporary, path).map_err(error)?;
    let mut output = Output::new(&*list);
    let current = write_tids(&mut output, earlier.as_ref(), source, end, packed, time)
        .map_err(|failed| failed.at(&temporary))
        .inspect_err(|_| drop(vfs.remove(&temporary)))?;
    let previous = match &earlier {
        Some(list) => list.binding,
        None => unlisted(source)?,
    };
    let header = header([current, previous], output.count);
    let finish = || {
        list.write_all_at(&header, 0)?;
        list.sync_all()?;
        vfs.rename(&temporary, &target)?;
        vfs.sync_directory(path.parent().unwrap_or(Path::new("")))
    };
    finish().map_err(|source| {
        // It may be gone already.
        let _ = vfs.remove(&temporary);
        io_error(&target, source)
    })
}

/// Removes the list of a `Data.fs` that is made again.
pub(super) fn remove(vfs: &dyn Vfs, path: &Path) -> StorageResult<()> {
    let list = sibling(path, SUFFIX);
    match vfs.remove(&list) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&list, error)),
        _ => Ok(()),
    }
}

enum Failed {
    Storage(crate::error::StorageError),
    Writing(io::Error),
}

impl Failed {
    fn at(self, path: &Path) -> crate::error::StorageError {
        match self {
            Self::Storage(error) => error,
            Self::Writing(error) => io_error(path, error),
        }
    }
}

impl From<crate::error::StorageError> for Failed {
    fn from(error: crate::error::StorageError) -> Self {
        Self::Storage(error)
    }
}

/// The binding of a file of which no list knows anything.
fn unlisted(file: &DataFile) -> StorageResult<Binding> {
    let (end, last_packed) = Kept::new(file).packed_end()?;
    Ok(Binding {
        end,
        last_packed,
        complete_after: Tid::MAX,
    })
}

/// Merges the tids of an earlier list with those that `source` has and `packed` has not.
fn write_tids(
    output: &mut Output<'_>,
    earlier: Option<&Dropped>,
    source: &DataFile,
    end: u64,
    packed: &DataFile,
    time: Tid,
) -> Result<Binding, Failed> {
    let mut listed = Listed::new(earlier);
    let mut kept = Kept::new(packed);
    let (covered, mut complete_after) = earlier.map_or((0, Tid::ZERO), |list| {
        (list.binding.end, list.binding.complete_after)
    });
    let mut behind_unlisted = false;
    let mut last = Tid::ZERO;
    let mut walk = Forward::new(source, FIRST_TRANSACTION, Tid::ZERO);
    while walk.position() < end {
        let at = walk.position();
        let Some(header) = walk.header()? else { break };
        last = header.tid;
        let is_packed = header.status == TransactionStatus::Packed;
        if is_packed && at >= covered {
            // An earlier pack has left no list of what it dropped around here.
            behind_unlisted = true;
        } else if std::mem::take(&mut behind_unlisted) {
            complete_after = Tid::from_u64(header.tid.as_u64() - 1);
        }
        if !kept.has(header.tid)? {
            listed.write_before(header.tid, output)?;
            output.add(header.tid)?;
        }
    }
    if behind_unlisted {
        complete_after = time.max(last);
    }
    listed.write_before(Tid::MAX, output)?;
    output.flush().map_err(Failed::Writing)?;
    let (end, last_packed) = kept.packed_end()?;
    Ok(Binding {
        end,
        last_packed,
        complete_after,
    })
}

/// The tids of an earlier list, in order.
struct Listed<'list> {
    list: Option<&'list Dropped>,
    next: u64,
    buffer: Vec<u8>,
    /// The number of the first tid in the buffer.
    from: u64,
}

impl<'list> Listed<'list> {
    fn new(list: Option<&'list Dropped>) -> Self {
        Self {
            list,
            next: 0,
            buffer: Vec::new(),
            from: 0,
        }
    }

    /// Writes those before `tid`, and passes over `tid` itself.
    fn write_before(&mut self, tid: Tid, output: &mut Output<'_>) -> Result<(), Failed> {
        while let Some(found) = self.peek()? {
            if found > tid {
                break;
            }
            self.next += 1;
            if found < tid {
                output.add(found)?;
            }
        }
        Ok(())
    }

    fn peek(&mut self) -> Result<Option<Tid>, Failed> {
        let Some(list) = self.list.filter(|list| self.next < list.count) else {
            return Ok(None);
        };
        let held = (self.buffer.len() / TID_LEN) as u64;
        if self.next >= self.from + held {
            let left = (list.count - self.next).saturating_mul(TID_LEN as u64);
            let len = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
            self.buffer.resize(len, 0);
            self.from = self.next;
            let offset = HEADER_LEN as u64 + self.next * TID_LEN as u64;
            let count = list.file.read_full_at(&mut self.buffer, offset);
            let error = |error| io_error(&list.path, error);
            if count.map_err(error)? < len {
                return Err(error(io::ErrorKind::UnexpectedEof.into()).into());
            }
        }
        let at = usize::try_from(self.next - self.from).unwrap_or_default();
        Ok(Some(Tid::from_u64(number(&self.buffer, at))))
    }
}

/// The transactions of a packed file, in order.
struct Kept<'file> {
    walk: Forward<'file>,
    next: Option<Tid>,
    /// Where those at the beginning end that are marked as packed, and the last of them.
    packed: (u64, Tid),
    is_in_packed: bool,
    begun: bool,
}

impl<'file> Kept<'file> {
    fn new(file: &'file DataFile) -> Self {
        Self {
            walk: Forward::new(file, FIRST_TRANSACTION, Tid::ZERO),
            next: None,
            packed: (0, Tid::ZERO),
            is_in_packed: true,
            begun: false,
        }
    }

    fn advance(&mut self) -> StorageResult<()> {
        self.begun = true;
        let header = self.walk.header()?;
        self.next = header.as_ref().map(|header| header.tid);
        match header {
            Some(header) if self.is_in_packed && header.status == TransactionStatus::Packed => {
                self.packed = (self.walk.position(), header.tid);
            }
            _ => self.is_in_packed = false,
        }
        Ok(())
    }

    /// Whether `tid` is there; to be asked with rising tids.
    fn has(&mut self, tid: Tid) -> StorageResult<bool> {
        while !self.begun || self.next.is_some_and(|next| next < tid) {
            self.advance()?;
        }
        Ok(self.next == Some(tid))
    }

    fn packed_end(&mut self) -> StorageResult<(u64, Tid)> {
        while self.is_in_packed {
            self.advance()?;
        }
        Ok(self.packed)
    }
}

/// The tids of a list being written.
struct Output<'file> {
    file: &'file dyn VfsFile,
    buffer: Vec<u8>,
    count: u64,
    position: u64,
}

impl<'file> Output<'file> {
    fn new(file: &'file dyn VfsFile) -> Self {
        Self {
            file,
            buffer: Vec::with_capacity(BUFFER),
            count: 0,
            position: HEADER_LEN as u64,
        }
    }

    fn add(&mut self, tid: Tid) -> Result<(), Failed> {
        self.buffer.extend_from_slice(tid.as_bytes());
        self.count += 1;
        if self.buffer.len() >= BUFFER {
            self.flush().map_err(Failed::Writing)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.write_all_at(&self.buffer, self.position)?;
            self.position += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}

fn header(bindings: [Binding; 2], count: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for binding in bindings {
        bytes.extend_from_slice(&binding.to_bytes());
    }
    bytes.extend_from_slice(&count.to_be_bytes());
    let digest = Md5::digest(&bytes);
    bytes.extend_from_slice(&digest);
    bytes
}

fn read_header(file: &dyn VfsFile) -> io::Result<([Binding; 2], u64)> {
    let damaged = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    let mut bytes = [0; HEADER_LEN];
    if file.read_full_at(&mut bytes, 0)? < HEADER_LEN || bytes[..MAGIC.len()] != MAGIC {
        return damaged("not a list of dropped transactions");
    }
    let (checked, digest) = bytes.split_at(CHECKED_LEN);
    if digest[..] != Md5::digest(checked)[..] {
        return damaged("the header of the list of dropped transactions is damaged");
    }
    let rest = &checked[MAGIC.len()..];
    let count = number(rest, 2 * BINDING_LEN / TID_LEN);
    let len = count
        .checked_mul(TID_LEN as u64)
        .and_then(|len| len.checked_add(HEADER_LEN as u64));
    if len != Some(file.metadata()?.len) {
        return damaged("the list of dropped transactions is not as long as it says");
    }
    let bindings = [
        Binding::from_bytes(&rest[..BINDING_LEN]),
        Binding::from_bytes(&rest[BINDING_LEN..]),
    ];
    Ok((bindings, count))
}

/// The big-endian number at `index`, counted in numbers; 0 beyond the end.
fn number(bytes: &[u8], index: usize) -> u64 {
    let chunk = bytes.chunks_exact(TID_LEN).nth(index);
    chunk.map_or(0, |chunk| {
        chunk
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    })
}

#[cfg(test)]
mod tests;
