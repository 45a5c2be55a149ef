//! Decides which data records from before the pack time a pack keeps.
//!
//! Without garbage collection: the last record of each object at that time. With it, the kept
//! records are closed under references:
//!
//! - the last records at that time of the objects that can be reached from the root;
//! - those of the objects to which a later record refers;
//! - the records to which a later backpointer leads, and the last records of the same objects;
//! - those of the objects to which any of these refer, and so on.
//!
//! This way an undo of a later transaction finds the state that it restores, unless nothing has
//! referred to the object since the pack time.
//!
//! ZODB's pack does not read the references of later records, and of an unreachable object it
//! keeps only the record to which a backpointer leads. An undo then restores that record, even if
//! the object had another state before the undone transaction.
//!
//! The file is read sequentially first, then in rounds: each round reads the records that the
//! previous one has found, in file order. Memory grows with the number of objects, not of bytes:
//! their index, and eight bytes for each kept record. Transactions that are committed while the
//! pack is running are read in the same way ([`Reachable::read_later`]).

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::LOGGER;
use crate::error::{StorageError, StorageResult};
use crate::file::DataFile;
use crate::format::{DATA_HEADER_LEN, FIRST_TRANSACTION, TransactionStatus};
use crate::index::Index;
use crate::reader::Reader;
use zrs_ids::{Oid, Tid};

use super::options::Options;
use super::progress::{Phase, Progress};
use super::walk::{RecordHead, data_of, record_at, records, transaction};

/// Marks the position of a reached object in the index. Positions are below this value.
const REACHED: u64 = 1 << 47;
/// Records at most this many bytes apart are read at once.
const NEAR: u64 = 16 * 1024;
/// The number of bytes to read for the last of them, whose length is unknown.
const LAST: u64 = 4 * 1024;
/// The maximum number of bytes to read at once for adjacent records.
const TOGETHER: u64 = 512 * 1024;

/// The records from before the pack time that are kept.
pub(super) struct Reachable {
    /// Where the first transaction after the pack time begins, or the end of the file.
    pub(super) pack_position: u64,
    search: Search,
    /// Where the transactions read so far end.
    read_to: u64,
}

impl Reachable {
    /// The positions of the kept records that are to be copied now, in ascending order. A record
    /// to which a backpointer of a later transaction leads is not kept from here on: its data are
    /// written instead.
    pub(super) fn positions(&mut self) -> &[u64] {
        self.search.keeps_targets = false;
        let kept = &mut self.search.kept;
        kept.sort_unstable();
        kept.dedup();
        kept
    }

    /// Where the transactions read so far end.
    pub(super) fn read_to(&self) -> u64 {
        self.read_to
    }

    /// Reads the transactions that end at or before `end` and were not read yet. Returns whether
    /// all records that they need are already kept. If not, [`Self::follow`] keeps the rest.
    pub(super) fn read_later<E: From<StorageError>>(
        &mut self,
        end: u64,
        references: &mut References<'_, E>,
    ) -> Result<bool, E> {
        if self.search.objects.gc {
            self.search
                .read_later(self.read_to..end, self.pack_position, references)?;
        }
        self.read_to = end.max(self.read_to);
        Ok(self.search.found.is_empty())
    }

    /// Keeps everything that can be reached from what [`Self::read_later`] has found.
    pub(super) fn follow<E: From<StorageError>>(
        &mut self,
        references: &mut References<'_, E>,
    ) -> Result<(), E> {
        self.search.reach_from_found(references)
    }

    /// From now on keeps every object's last record at the pack time, so that later commits
    /// cannot need more.
    pub(super) fn keep_all(&mut self) {
        self.search.keep_all();
    }
}

/// The objects at the pack time, and the reached ones among them.
struct Objects {
    index: Index,
    /// Without garbage collection all are reached.
    gc: bool,
    /// The number of objects that are not reached.
    unreached: usize,
}

impl Objects {
    /// Keeps the object's record at the pack time, and adds it to `found` if it was not
    /// reached before. Returns whether the object existed at that time.
    fn reach(&mut self, oid: Oid, kept: &mut Vec<u64>, found: &mut Vec<u64>) -> bool {
        let Some(position) = self.index.get(oid) else {
            return false;
        };
        if self.gc && position & REACHED == 0 {
            self.index.insert(oid, position | REACHED);
            self.unreached = self.unreached.saturating_sub(1);
            kept.push(position);
            found.push(position);
        }
        true
    }
}

/// Adds the references of an object's record to the last argument.
pub type References<'a, E> = dyn FnMut(Oid, &[u8], &mut Vec<Oid>) -> Result<(), E> + 'a;

/// Finds the records that a pack of `file` keeps, given the end of the committed transactions;
/// `None` if the file is already packed to this time or a later one.
pub(super) fn find<E: From<StorageError>>(
    file: &DataFile,
    end: u64,
    options: &Options,
    progress: &Arc<Progress>,
    references: &mut References<'_, E>,
) -> Result<Option<Reachable>, E> {
    if end >= REACHED {
        let source = io::Error::from(io::ErrorKind::FileTooLarge);
        return Err(file.io_error(source).into());
    }
    let mut search = Search {
        reader: Reader::new(file.clone()),
        objects: Objects {
            index: Index::new(),
            gc: options.gc,
            unreached: 0,
        },
        kept: Vec::new(),
        found: Vec::new(),
        targets: HashSet::new(),
        keeps_targets: true,
        last: Tid::ZERO,
        copying: Copying::Beginning,
        progress: Arc::clone(progress),
    };
    let Some(pack_position) = search.read_past(options.time, end)? else {
        return Ok(None);
    };
    let mut reachable = Reachable {
        pack_position,
        search,
        read_to: pack_position,
    };
    if options.gc {
        reachable.search.reach_from_root(references)?;
        reachable.read_later(end, references)?;
        reachable.follow(references)?;
        if reachable.search.copying == Copying::Packed {
            log::info!(
                target: LOGGER,
                "{}: this pack keeps all objects, since the file ends among transactions of a \
                 packed file that are being copied to it",
                file.path().display()
            );
            reachable.keep_all();
        }
    } else {
        reachable.read_to = end;
        reachable.keep_all();
    }
    Ok(Some(reachable))
}

struct Search {
    reader: Reader,
    objects: Objects,
    /// The positions of the kept records.
    kept: Vec<u64>,
    /// The positions of records before the pack time whose references were not read yet.
    found: Vec<u64>,
    /// The targets before the pack time of backpointers of later records.
    targets: HashSet<u64>,
    /// Whether records are kept because backpointers lead to them.
    keeps_targets: bool,
    /// The last transaction read.
    last: Tid,
    /// The origin of that transaction.
    copying: Copying,
    progress: Arc<Progress>,
}

/// The origin of transactions. A pack marks those at the beginning of its own file, so marked
/// ones after unmarked ones were copied from a packed file. Records that were current while they
/// were committed may be missing, up to the first unmarked one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copying {
    /// All transactions so far were marked.
    Beginning,
    Unpacked,
    /// Marked, after unmarked ones.
    Packed,
}

impl Copying {
    fn next(self, status: TransactionStatus) -> Self {
        match (self, status) {
            (Self::Beginning, TransactionStatus::Packed) => Self::Beginning,
            (_, TransactionStatus::Packed) => Self::Packed,
            _ => Self::Unpacked,
        }
    }
}

impl Search {
    /// Reads the transactions up to the pack time into the index; returns where the next one
    /// begins, or `None` if nothing can be packed: all earlier ones are marked as packed, and so
    /// is the next one, if it exists.
    fn read_past(&mut self, time: Tid, end: u64) -> StorageResult<Option<u64>> {
        let mut position = FIRST_TRANSACTION;
        let mut unpacked = false;
        let mut status = TransactionStatus::Complete;
        self.progress.begin(Phase::Reading, end);
        while position < end {
            let transaction = transaction(&mut self.reader, position, self.last)?;
            status = transaction.status;
            if transaction.tid > time {
                break;
            }
            unpacked |= status != TransactionStatus::Packed;
            self.copying = self.copying.next(status);
            let index = &mut self.objects.index;
            records(&mut self.reader, &transaction, |_, record| {
                if record.undoes_creation() {
                    index.remove(record.header.oid);
                } else {
                    index.insert(record.header.oid, record.position);
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
        // No object exists if the pack time is before the first transaction.
        if self.objects.index.is_empty() {
            return Ok(());
        }
        let objects = self.objects.index.len();
        self.objects.unreached = objects;
        self.progress.begin(Phase::Reaching, objects as u64);
        if !self
            .objects
            .reach(Oid::ZERO, &mut self.kept, &mut self.found)
        {
            return Err(StorageError::NoSuchObject { oid: Oid::ZERO }.into());
        }
        self.reach_from(Missing::IsAnError, references)
    }

    /// Adds the records that the later transactions in `range` need to `found`.
    fn read_later<E: From<StorageError>>(
        &mut self,
        range: Range<u64>,
        pack_position: u64,
        references: &mut References<'_, E>,
    ) -> Result<(), E> {
        // The window may hold old bytes from after the last call's end.
        self.reader.window.clear();
        let mut position = range.start;
        let mut oids = Vec::new();
        while position < range.end {
            let transaction = transaction(&mut self.reader, position, self.last)?;
            let (objects, kept, found) = (&mut self.objects, &mut self.kept, &mut self.found);
            let (targets, keeps_targets) = (&mut self.targets, self.keeps_targets);
            records(&mut self.reader, &transaction, |reader, record| {
                let target = record.back.filter(|back| *back < pack_position);
                if target.is_some() {
                    // With only the target, an undo of the object's first later record would
                    // restore it, even if the object had another state at the pack time.
                    objects.reach(record.header.oid, kept, found);
                }
                match target {
                    Some(target) if keeps_targets => {
                        if targets.insert(target) {
                            kept.push(target);
                            found.push(target);
                        }
                    }
                    _ if objects.unreached == 0 => {}
                    _ => read_references(reader, record, &mut oids, references)?,
                }
                for oid in oids.drain(..) {
                    objects.reach(oid, kept, found);
                }
                Ok::<(), E>(())
            })?;
            self.copying = self.copying.next(transaction.status);
            self.last = transaction.tid;
            position = transaction.end();
        }
        Ok(())
    }

    fn reach_from_found<E: From<StorageError>>(
        &mut self,
        references: &mut References<'_, E>,
    ) -> Result<(), E> {
        // A missing object to which a later record refers did not exist before the pack time.
        self.reach_from(Missing::IsLeftOut, references)
    }

    /// Keeps everything that can be reached from the records in `found`.
    fn reach_from<E: From<StorageError>>(
        &mut self,
        missing: Missing,
        references: &mut References<'_, E>,
    ) -> Result<(), E> {
        let mut oids = Vec::new();
        while !self.found.is_empty() {
            let mut positions = std::mem::take(&mut self.found);
            positions.sort_unstable();
            positions.dedup();
            for (at, position) in positions.iter().enumerate() {
                self.progress.done(self.kept.len() as u64);
                self.read_near(&positions[at..])?;
                let record = record_at(&self.reader, *position, REACHED)?;
                read_references(&self.reader, record, &mut oids, references)?;
                for oid in oids.drain(..) {
                    let there = self.objects.reach(oid, &mut self.kept, &mut self.found);
                    if !there && missing == Missing::IsAnError {
                        return Err(StorageError::NoSuchObject { oid }.into());
                    }
                }
            }
        }
        Ok(())
    }

    fn keep_all(&mut self) {
        let positions = self
            .objects
            .index
            .iter()
            .map(|(_, position)| position & !REACHED);
        self.kept.extend(positions);
        self.found.clear();
        self.objects.gc = false;
    }

    /// Reads ahead from the first of these positions, up to the first large gap.
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
        // The sum of TOGETHER and LAST fits; the window reads at most to the end of the file.
        let len = usize::try_from(last - first + LAST).unwrap_or(usize::MAX);
        self.reader.window.fill(&self.reader.file, first, len)
    }
}

/// What it means that an object to which a record refers did not exist at the pack time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    IsAnError,
    IsLeftOut,
}

fn read_references<E: From<StorageError>>(
    reader: &Reader,
    record: RecordHead,
    oids: &mut Vec<Oid>,
    references: &mut References<'_, E>,
) -> Result<(), E> {
    let Some(data) = data_of(reader, record)? else {
        return Ok(());
    };
    let len = data.memory_len(reader)?;
    if let Some(held) = reader.window.get(data.position, len) {
        return references(record.header.oid, held, oids);
    }
    let bytes = reader.file.read_bytes(data.position, len)?;
    references(record.header.oid, &bytes, oids)
}
