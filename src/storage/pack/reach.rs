//! Which data records from before the pack time a pack keeps.
//!
//! Without garbage collection: each object's last record of that time. With it: the last
//! records of the objects that can be reached from the root, and the records that a later
//! backpointer leads to, with what they refer to in turn.
//!
//! The file is read from front to back, then in rounds: each round reads the records that
//! the one before has found, in file order. Memory is taken for objects, not for bytes:
//! their index, and eight bytes for each record that is kept.

use std::collections::HashSet;
use std::io;

use crate::error::{StorageError, StorageResult};
use crate::format::{DATA_HEADER_LEN, FIRST_TRANSACTION, TransactionStatus};
use crate::ids::{Oid, Tid};
use crate::storage::file::DataFile;
use crate::storage::index::Index;
use crate::storage::reader::Reader;

use super::Options;
use super::progress::{Phase, Progress};
use super::walk::{Revision, data_of, revision_at, revisions, transaction};

/// Marks in the index the position of an object that is reached. Positions are below it.
const REACHED: u64 = 1 << 47;
/// Records closer together than this, in bytes, are read at once.
const NEAR: u64 = 16 * 1024;
/// How much is read for the last of them, whose length is not known.
const LAST: u64 = 4 * 1024;
/// The most that is read at once for records that are near each other.
const TOGETHER: u64 = 512 * 1024;

/// What a pack keeps of the time before it.
pub(super) struct Reachable {
    /// The records' positions, ascending.
    pub(super) positions: Vec<u64>,
    /// Where the first transaction after the pack time begins, or the end.
    pub(super) pack_position: u64,
    objects: Objects,
}

impl Reachable {
    /// The position of the object's record that is kept, if one is; the last one of the
    /// pack time if several are.
    pub(super) fn get(&self, oid: Oid) -> Option<u64> {
        self.objects.reached(oid)
    }
}

/// The objects at the pack time, and the reached ones among them.
struct Objects {
    index: Index,
    /// Without garbage collection all are reached.
    gc: bool,
}

impl Objects {
    fn reached(&self, oid: Oid) -> Option<u64> {
        let position = self.index.get(oid)?;
        (!self.gc || position & REACHED != 0).then_some(position & !REACHED)
    }
}

/// Reads the references of an object's record into the last argument.
pub type References<'a, E> = dyn FnMut(Oid, &[u8], &mut Vec<Oid>) -> Result<(), E> + 'a;

/// Finds what a pack of `file`, whose committed transactions end at `end`, keeps; `None` if
/// the file is packed already, to this time or a later one.
pub(super) fn find<E: From<StorageError>>(
    file: &DataFile,
    end: u64,
    options: &Options,
    progress: &Progress,
    references: &mut References<'_, E>,
) -> Result<Option<Reachable>, E> {
    if end >= REACHED {
        let source = io::Error::from(io::ErrorKind::FileTooLarge);
        return Err(file.io_error(source).into());
    }
    let mut search = Search {
        reader: Reader::new(file.clone()),
        end,
        objects: Objects {
            index: Index::new(),
            gc: options.gc,
        },
        kept: Vec::new(),
        last: Tid::ZERO,
        progress,
    };
    let Some(pack_position) = search.read_past(options.time)? else {
        return Ok(None);
    };
    if options.gc {
        search.reach_from_root(references)?;
        search.reach_from_future(pack_position, references)?;
    } else {
        let positions = search.objects.index.iter().map(|(_, position)| position);
        search.kept.extend(positions);
    }
    search.kept.sort_unstable();
    search.kept.dedup();
    Ok(Some(Reachable {
        positions: search.kept,
        pack_position,
        objects: search.objects,
    }))
}

struct Search<'a> {
    reader: Reader,
    end: u64,
    objects: Objects,
    /// The positions of the records to keep.
    kept: Vec<u64>,
    /// The last transaction read.
    last: Tid,
    progress: &'a Progress,
}

impl Search<'_> {
    /// Reads the transactions up to the pack time into the index; returns where the next
    /// one begins, or `None` if there is nothing to pack: all before is packed, and so is
    /// the next one, if there is one.
    fn read_past(&mut self, time: Tid) -> StorageResult<Option<u64>> {
        let mut position = FIRST_TRANSACTION;
        let mut unpacked = false;
        let mut status = TransactionStatus::Complete;
        self.progress.begin(Phase::Reading, self.end);
        while position < self.end {
            let transaction = transaction(&mut self.reader, position, self.last)?;
            status = transaction.status;
            if transaction.tid > time {
                break;
            }
            unpacked |= status != TransactionStatus::Packed;
            let index = &mut self.objects.index;
            revisions(&mut self.reader, &transaction, |_, revision| {
                if revision.undoes_creation() {
                    index.remove(revision.header.oid);
                } else {
                    index.insert(revision.header.oid, revision.position);
                }
                StorageResult::Ok(())
            })?;
            self.last = transaction.tid;
            position = transaction.end();
            self.progress.done(position);
        }
        let redundant = !unpacked && status == TransactionStatus::Packed;
        Ok((!redundant).then_some(position))
    }

    fn reach_from_root<E: From<StorageError>>(
        &mut self,
        references: &mut References<'_, E>,
    ) -> Result<(), E> {
        // Nothing at all is there if the pack time is before the first transaction.
        if self.objects.index.is_empty() {
            return Ok(());
        }
        let objects = self.objects.index.len() as u64;
        self.progress.begin(Phase::Reaching, objects);
        let mut found = Vec::new();
        self.reach(Oid::ZERO, &mut found)?;
        self.reach_from(found, references)
    }

    /// Keeps the records that backpointers of the time after lead to.
    fn reach_from_future<E: From<StorageError>>(
        &mut self,
        pack_position: u64,
        references: &mut References<'_, E>,
    ) -> Result<(), E> {
        let mut extra = HashSet::new();
        let mut roots = Vec::new();
        let mut position = pack_position;
        while position < self.end {
            let transaction = transaction(&mut self.reader, position, self.last)?;
            let (objects, kept) = (&mut self.objects, &mut self.kept);
            revisions(&mut self.reader, &transaction, |_, revision| {
                let oid = revision.header.oid;
                let Some(back) = revision.back.filter(|back| *back < pack_position) else {
                    return Ok(());
                };
                if objects.reached(oid).is_none() {
                    // ZODB keeps the record, but not what it refers to.
                    objects.index.insert(oid, back | REACHED);
                    kept.push(back);
                } else if extra.insert(back) {
                    kept.push(back);
                    roots.push(back);
                }
                StorageResult::Ok(())
            })?;
            self.last = transaction.tid;
            position = transaction.end();
        }
        self.reach_from(roots, references)
    }

    /// Keeps all that can be reached from the records at these positions.
    fn reach_from<E: From<StorageError>>(
        &mut self,
        mut positions: Vec<u64>,
        references: &mut References<'_, E>,
    ) -> Result<(), E> {
        let mut found = Vec::new();
        let mut oids = Vec::new();
        while !positions.is_empty() {
            positions.sort_unstable();
            for (at, position) in positions.iter().enumerate() {
                self.progress.done(self.kept.len() as u64);
                self.read_near(&positions[at..])?;
                let revision = revision_at(&self.reader, *position, self.end)?;
                self.read_references(revision, &mut oids, references)?;
                for oid in oids.drain(..) {
                    self.reach(oid, &mut found)?;
                }
            }
            std::mem::swap(&mut positions, &mut found);
            found.clear();
        }
        Ok(())
    }

    /// Reads ahead, from the first of these positions, as far as they are near each other.
    fn read_near(&mut self, positions: &[u64]) -> StorageResult<()> {
        let Some(first) = positions.first().copied() else {
            return Ok(());
        };
        if self.reader.window.get(first, DATA_HEADER_LEN).is_some() {
            return Ok(());
        }
        let near = positions
            .windows(2)
            .take_while(|pair| pair[1] - pair[0] < NEAR && pair[1] - first < TOGETHER);
        let last = near.last().map_or(first, |pair| pair[1]);
        let len = (last - first + LAST).min(self.end - first);
        // At most TOGETHER and LAST, which fits.
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.reader.window.fill(&self.reader.file, first, len)
    }

    fn read_references<E: From<StorageError>>(
        &mut self,
        revision: Revision,
        oids: &mut Vec<Oid>,
        references: &mut References<'_, E>,
    ) -> Result<(), E> {
        let Some(data) = data_of(&self.reader, revision)? else {
            return Ok(());
        };
        let reader = &self.reader;
        let len = data.memory_len(reader)?;
        if let Some(held) = reader.window.get(data.position, len) {
            return references(revision.header.oid, held, oids);
        }
        let bytes = reader.file.read_bytes(data.position, len)?;
        references(revision.header.oid, &bytes, oids)
    }

    /// Keeps the object's record of the pack time, and adds it to `found` if it was not
    /// reached before.
    fn reach(&mut self, oid: Oid, found: &mut Vec<u64>) -> StorageResult<()> {
        let index = &mut self.objects.index;
        let position = index.get(oid).ok_or(StorageError::NoSuchObject { oid })?;
        if position & REACHED == 0 {
            index.insert(oid, position | REACHED);
            self.kept.push(position);
            found.push(position);
        }
        Ok(())
    }
}
