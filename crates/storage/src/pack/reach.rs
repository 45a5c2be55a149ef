//! Which data records from before the pack time a pack keeps.
//!
//! Without garbage collection: each object's last record of that time. With it, what is kept
//! is closed under references:
//!
//! - the last records of that time of the objects that can be reached from the root;
//! - those of the objects that a later record refers to;
//! - the records that a later backpointer leads to, and the last ones of the same objects;
//! - and those of the objects that any of these refer to, and so on.
//!
//! So an undo of a later transaction finds what it goes back to, too, unless nothing has
//! referred to the object since the pack time.
//!
//! ZODB's pack does not read what later records refer to, and of an object out of reach it
//! keeps only what a backpointer leads to. An undo then goes back to that, whatever the
//! object was before the undone transaction.
//!
//! The file is read from front to back, then in rounds: each round reads the records that
//! the one before has found, in file order. Memory is taken for objects, not for bytes:
//! their index, and eight bytes for each record that is kept. Transactions that are
//! committed while the pack is running are read in the same way ([`Reachable::read_later`]).

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
    /// Where the first transaction after the pack time begins, or the end.
    pub(super) pack_position: u64,
    search: Search,
    /// Where the transactions end that were read.
    read_to: u64,
}

impl Reachable {
    /// The positions of the records that are kept, ascending, to be copied now. A record
    /// that a backpointer of a later transaction leads to is not kept any more from here
    /// on: its data are written instead.
    pub(super) fn positions(&mut self) -> &[u64] {
        self.search.keeps_targets = false;
        let kept = &mut self.search.kept;
        kept.sort_unstable();
        kept.dedup();
        kept
    }

    /// Where the transactions end that were read.
    pub(super) fn read_to(&self) -> u64 {
        self.read_to
    }

    /// Reads the transactions that end at `end` or before and were not read yet. Returns
    /// whether all that they need is among what is kept already. If not,
    /// [`Self::follow`] keeps the rest.
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

    /// Keeps all that can be reached from what [`Self::read_later`] has found.
    pub(super) fn follow<E: From<StorageError>>(
        &mut self,
        references: &mut References<'_, E>,
    ) -> Result<(), E> {
        self.search.reach_from_found(references)
    }

    /// Keeps every object's last record of the pack time from now on, so that nothing that
    /// is committed later can need more.
    pub(super) fn keep_all(&mut self) {
        self.search.keep_all();
    }
}

/// The objects at the pack time, and the reached ones among them.
struct Objects {
    index: Index,
    /// Without garbage collection all are reached.
    gc: bool,
    /// How many are not reached.
    unreached: usize,
}

impl Objects {
    /// Keeps the object's record of the pack time, and adds it to `found` if it was not
    /// reached before. Returns whether the object was there at that time.
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

/// Reads the references of an object's record into the last argument.
pub type References<'a, E> = dyn FnMut(Oid, &[u8], &mut Vec<Oid>) -> Result<(), E> + 'a;

/// Finds what a pack of `file`, whose committed transactions end at `end`, keeps; `None` if
/// the file is packed already, to this time or a later one.
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
    /// The positions of the records to keep.
    kept: Vec<u64>,
    /// The positions of records before the pack time whose references were not read yet.
    found: Vec<u64>,
    /// Where backpointers of later records lead to, before the pack time.
    targets: HashSet<u64>,
    /// Whether records are kept because backpointers lead to them.
    keeps_targets: bool,
    /// The last transaction read.
    last: Tid,
    /// What kind of transactions it belongs to.
    copying: Copying,
    progress: Arc<Progress>,
}

/// Where transactions came from: a pack marks those at the beginning of its own file, so
/// marked ones after others were copied from a packed file. Records that were current while
/// they were committed may be missing among them, until the first that is not marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copying {
    /// All so far were marked.
    Beginning,
    Unpacked,
    /// After others.
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
    /// Reads the transactions up to the pack time into the index; returns where the next
    /// one begins, or `None` if there is nothing to pack: all before is packed, and so is
    /// the next one, if there is one.
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

    /// Adds to `found` what the later transactions in `range` need.
    fn read_later<E: From<StorageError>>(
        &mut self,
        range: Range<u64>,
        pack_position: u64,
        references: &mut References<'_, E>,
    ) -> Result<(), E> {
        // What it holds of the time after the last call may have changed.
        self.reader.window.clear();
        let mut position = range.start;
        let mut oids = Vec::new();
        while position < range.end {
            let transaction = transaction(&mut self.reader, position, self.last)?;
            let (objects, kept, found) = (&mut self.objects, &mut self.kept, &mut self.found);
            let (targets, keeps_targets) = (&mut self.targets, self.keeps_targets);
            revisions(&mut self.reader, &transaction, |reader, revision| {
                let target = revision.back.filter(|back| *back < pack_position);
                if target.is_some() {
                    // With the target alone, an undo of the object's first later record would
                    // go back to that, whatever the object was at the pack time.
                    objects.reach(revision.header.oid, kept, found);
                }
                match target {
                    Some(target) if keeps_targets => {
                        if targets.insert(target) {
                            kept.push(target);
                            found.push(target);
                        }
                    }
                    _ if objects.unreached == 0 => {}
                    _ => read_references(reader, revision, &mut oids, references)?,
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
        // What a later record refers to and is not there was not there before the pack.
        self.reach_from(Missing::IsLeftOut, references)
    }

    /// Keeps all that can be reached from the records in `found`.
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
                let revision = revision_at(&self.reader, *position, REACHED)?;
                read_references(&self.reader, revision, &mut oids, references)?;
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
        // At most TOGETHER and LAST, which fits; the window takes what there is.
        let len = usize::try_from(last - first + LAST).unwrap_or(usize::MAX);
        self.reader.window.fill(&self.reader.file, first, len)
    }
}

/// What it means that a record refers to an object that was not there at the pack time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    IsAnError,
    IsLeftOut,
}

fn read_references<E: From<StorageError>>(
    reader: &Reader,
    revision: Revision,
    oids: &mut Vec<Oid>,
    references: &mut References<'_, E>,
) -> Result<(), E> {
    let Some(data) = data_of(reader, revision)? else {
        return Ok(());
    };
    let len = data.memory_len(reader)?;
    if let Some(held) = reader.window.get(data.position, len) {
        return references(revision.header.oid, held, oids);
    }
    let bytes = reader.file.read_bytes(data.position, len)?;
    references(revision.header.oid, &bytes, oids)
}
