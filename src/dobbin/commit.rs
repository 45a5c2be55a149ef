//! Writing a transaction.
//!
//! [`Log::lock`], [`Log::begin`], then what there is to write, [`Log::vote`], and
//! [`Log::finish`] or [`Log::fail`], then [`Log::unlock`]. Voting writes all but the
//! record that ends the transaction, for which it leaves room: finishing needs no space.
//! A transaction that fails leaves its number and a record that says so, or nothing if there
//! is no space for it. A write that fails is undone by cutting the file where the transaction
//! began; what a failed sync leaves is unknown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::error::{LogError, LogResult};
use super::follow::Changes;
use super::index::Entry;
use super::load::Payload;
use super::log::{Durability, Log};
use super::open::LOGGER;
use super::record::{HEAD_LEN, Head, Kind};
use super::scan::{Item, RecordAt};
use super::streams::{BLOCK_LEN, Extent};
use super::transaction::{Begin, End};
use crate::ids::Oid;
use crate::vfs::VfsFile;

/// What is written at once.
const BUFFER: usize = 4 << 20;
/// Changes of an object are folded into a full record when there are so many, or fewer
/// that have a fourth of its bytes together. Small objects are always written in full.
const LONGEST_CHAIN: u16 = 256;
const SHORT_CHAIN: u16 = 16;
const SMALL: u32 = 512;

/// A transaction that is being written.
pub(super) struct Writing {
    file: Arc<dyn VfsFile>,
    start: u64,
    number: u64,
    begin: Begin,
    buffer: Vec<u8>,
    /// Where the buffer goes.
    at: u64,
    records: Vec<RecordAt>,
    entries: Vec<(Oid, u64)>,
    root: Option<Oid>,
    next_oid: u64,
    /// What is referred to and was not there before, with what refers to it first (`None` for
    /// the root): the transaction itself is to write it.
    promised: BTreeMap<Oid, Option<Oid>>,
    stream: Option<(Oid, Extent, Vec<u8>)>,
    /// The record that ends it, once voted, and where it goes.
    end: Option<(u64, Vec<u8>, End)>,
}

impl Log {
    /// Take the lock that one writer has, of all threads and processes; false if it does
    /// not come free at once, or among threads within `patience`.
    pub fn lock(&self, patience: Duration) -> LogResult<bool> {
        self.check_writable()?;
        if !self.threads.acquire_within(patience) {
            return Ok(false);
        }
        let locked = self.lock_file();
        if !matches!(locked, Ok(true)) {
            self.threads.release();
        }
        locked
    }

    fn lock_file(&self) -> LogResult<bool> {
        let file = self.file()?;
        if !file.try_lock().map_err(self.io())? {
            return Ok(false);
        }
        let mut view = self.writable()?;
        if !Arc::ptr_eq(&file, &view.file) || self.is_replaced(&view) {
            // A compaction put another file there.
            let mut unseen = self.unseen.lock();
            let followed = self.follow(&mut view, &mut unseen);
            file.unlock().map_err(self.io())?;
            followed?;
            return Ok(false);
        }
        // Nobody must write what a rename or a removal took away.
        if let Err(error) = self.vfs.metadata(&self.path) {
            file.unlock().map_err(self.io())?;
            return Err(self.io()(error));
        }
        drop(view);
        *self.locked.lock() = Some(file);
        Ok(true)
    }

    /// Give the lock back.
    pub fn unlock(&self) -> LogResult<()> {
        *self.writing.lock() = None;
        let Some(file) = self.locked.lock().take() else {
            return Ok(());
        };
        let unlocked = file.unlock().map_err(self.io());
        self.threads.release();
        unlocked
    }

    /// Begin a transaction, at this time in microseconds since 1970, after what others have
    /// committed, which is returned.
    pub fn begin(&self, time: i64) -> LogResult<Changes> {
        self.check_writable()?;
        let mut view = self.writable()?;
        if self.locked.lock().is_none() {
            return Err(LogError::NoTransaction);
        }
        let mut changes = std::mem::take(&mut *self.unseen.lock());
        if let Some(tail) = self.follow(&mut view, &mut changes)? {
            self.cut(&view, tail)?;
        }
        let durable = view.durable.max(view.syncer.synced());
        view.durable = durable;
        let begin = Begin { time, durable };
        let (number, next_oid) = (view.index.number + 1, view.index.next_oid);
        let mut writing = Writing::new(Arc::clone(&view.file), view.index.end, number, begin);
        writing.next_oid = next_oid;
        writing.root = view.index.root;
        *self.writing.lock() = Some(writing);
        Ok(changes)
    }

    /// A new object id.
    pub fn new_oid(&self) -> LogResult<Oid> {
        self.write(|writing| Ok(writing.new_oid()))
    }

    /// Make an object the root.
    pub fn set_root(&self, oid: Oid) -> LogResult<()> {
        let known = self.view()?.index.has(oid);
        self.write(|writing| {
            writing.root = Some(oid);
            if !known {
                writing.promised.entry(oid).or_insert(None);
            }
            Ok(())
        })
    }

    /// Whether an object's state is to be written in full, not as changes.
    pub fn wants_full(&self, oid: Oid) -> LogResult<bool> {
        let Some(entry) = self.view()?.index.objects.get(&oid).copied() else {
            return Ok(true);
        };
        self.write(|writing| {
            let head = self.head(&*writing.file, entry)?;
            let base = if head.kind == Kind::Full {
                head.len
            } else {
                head.base
            };
            let long = head.depth >= SHORT_CHAIN && head.chain >= base / 4;
            Ok(base < SMALL || head.depth >= LONGEST_CHAIN || long)
        })
    }

    fn head(&self, file: &dyn VfsFile, entry: Entry) -> LogResult<Head> {
        let mut bytes = [0; HEAD_LEN];
        file.read_full_at(&mut bytes, entry.position)
            .map_err(self.io())?;
        let head = Head::parse(&bytes, entry.position);
        head.map_err(|damage| self.corrupt(entry.position, Some(entry.serial), damage))
    }

    /// Write an object's whole state.
    pub fn store_full(&self, oid: Oid, references: &[Oid], pickle: &[u8]) -> LogResult<()> {
        self.store(oid, None, references, pickle)
    }

    /// Write what changed in an object's state.
    pub fn store_change(&self, oid: Oid, references: &[Oid], pickle: &[u8]) -> LogResult<()> {
        let entry = self.view()?.index.objects.get(&oid).copied();
        let entry = entry.ok_or(LogError::NoSuchObject(oid))?;
        self.store(oid, Some(entry), references, pickle)
    }

    fn store(
        &self,
        oid: Oid,
        base: Option<Entry>,
        references: &[Oid],
        pickle: &[u8],
    ) -> LogResult<()> {
        let too_long = || LogError::TooLong(pickle.len());
        let payload = Payload::to_bytes(references, pickle).ok_or_else(too_long)?;
        let len = u32::try_from(payload.len()).map_err(|_error| too_long())?;
        let unknown: Vec<_> = {
            let index = &self.view()?.index;
            let references = references.iter().copied();
            references.filter(|target| !index.has(*target)).collect()
        };
        self.write(|writing| {
            for target in unknown {
                writing.promised.entry(target).or_insert(Some(oid));
            }
            let kind = base.map_or(Kind::Full, |_| Kind::Change);
            let mut head = Head::of(kind, oid, writing.number, &payload, len);
            if let Some(base) = base {
                let before = self.head(&*writing.file, base)?;
                head.depth = before.depth.saturating_add(1);
                head.previous = base.position;
                head.chain = before.chain.saturating_add(len);
                let is_full = before.kind == Kind::Full;
                head.base = if is_full { before.len } else { before.base };
            }
            writing.append(head, &payload);
            self.flush_if_long(writing)
        })
    }

    /// Begin a stream; its bytes follow.
    pub fn begin_stream(&self) -> LogResult<Oid> {
        self.write(|writing| {
            let oid = writing.new_oid();
            let extent = Extent {
                first: writing.position(),
                len: 0,
            };
            writing.stream = Some((oid, extent, Vec::new()));
            Ok(oid)
        })
    }

    /// Write bytes of the stream that was begun.
    pub fn write_stream(&self, mut data: &[u8]) -> LogResult<()> {
        self.write(|writing| {
            while !data.is_empty() {
                let Some((_, _, rest)) = &mut writing.stream else {
                    return Err(LogError::NoTransaction);
                };
                let (now, later) = data.split_at(data.len().min(BLOCK_LEN - rest.len()));
                rest.extend_from_slice(now);
                data = later;
                if rest.len() == BLOCK_LEN {
                    writing.append_block();
                    self.flush_if_long(writing)?;
                }
            }
            Ok(())
        })
    }

    /// End the stream that was begun.
    pub fn end_stream(&self) -> LogResult<()> {
        self.write(|writing| {
            writing.append_block();
            let Some((oid, extent, _)) = writing.stream.take() else {
                return Err(LogError::NoTransaction);
            };
            let payload = extent.to_bytes();
            let head = Head::of(Kind::Stream, oid, writing.number, &payload, 16);
            writing.append(head, &payload);
            Ok(())
        })
    }

    /// Write all of the transaction but its end.
    ///
    /// # Errors
    /// [`LogError::Dangling`] if something is referred to that is not there.
    pub fn vote(&self) -> LogResult<()> {
        self.write(|writing| {
            if let Some((target, oid)) = writing.first_broken_promise() {
                let path = self.path.clone();
                return Err(LogError::Dangling { path, oid, target });
            }
            writing.prepare_end(true)?;
            writing.flush().map_err(self.io())
        })
    }

    /// End the transaction. It counts from now on; [`sync`](Self::sync) makes it durable.
    pub fn finish(&self) -> LogResult<u64> {
        self.check_writable()?;
        let mut view = self.writable()?;
        let writing = self.writing.lock().take();
        let Some((mut writing, (at, bytes, end))) =
            writing.and_then(|mut writing| writing.end.take().map(|end| (writing, end)))
        else {
            return Err(LogError::NoTransaction);
        };
        if let Err(error) = writing.file.write_all_at(&bytes, at) {
            self.take_back(&writing, at, &bytes);
            return Err(self.io()(error));
        }
        let after = at + bytes.len() as u64;
        view.syncer.written(after);
        let records = std::mem::take(&mut writing.records);
        let item = writing.into_item(records, end, at, after);
        view.index.apply(&item, after);
        Ok(view.index.number)
    }

    /// Cut off a transaction whose end could not be written; returns whether that was done.
    /// If not, nobody knows what the file holds.
    fn take_back(&self, writing: &Writing, at: u64, end: &[u8]) -> bool {
        let mut found = vec![0; end.len()];
        let read = writing.file.read_full_at(&mut found, at);
        // Where it is there in spite of the error, others may have seen the transaction.
        let unseen = read.is_ok() && found != end;
        let undone = unseen && writing.file.set_len(writing.start).is_ok();
        if !undone {
            self.failed.store(true, Ordering::Release);
        }
        undone
    }

    /// Give the transaction up, which leaves its number and a record that says so; nothing
    /// if that record cannot be written.
    pub fn fail(&self) -> LogResult<()> {
        self.check_writable()?;
        let mut view = self.writable()?;
        let Some(given_up) = self.writing.lock().take() else {
            return Err(LogError::NoTransaction);
        };
        let file = Arc::clone(&given_up.file);
        self.vital(file.set_len(given_up.start))?;
        let (start, number) = (given_up.start, given_up.number);
        let mut writing = Writing::new(Arc::clone(&file), start, number, given_up.begin);
        (writing.root, writing.next_oid) = (view.index.root, view.index.next_oid);
        writing.prepare_end(false)?;
        let Some((at, bytes, end)) = writing.end.take() else {
            return Err(LogError::NoTransaction);
        };
        let room = writing.buffer.len().saturating_sub(bytes.len());
        writing.buffer.truncate(room);
        writing.buffer.extend_from_slice(&bytes);
        if let Err(error) = writing.flush() {
            if !self.take_back(&writing, at, &bytes) {
                return Err(self.io()(error));
            }
            log::warn!(
                target: LOGGER,
                "{}: no record of the failed transaction {number} could be written: {error}",
                self.path.display()
            );
            return Ok(());
        }
        let after = at + bytes.len() as u64;
        view.syncer.written(after);
        let item = writing.into_item(Vec::new(), end, at, after);
        view.index.apply(&item, after);
        Ok(())
    }

    /// Wait until what was committed up to now is durable, if that is asked for.
    pub fn sync(&self) -> LogResult<()> {
        if self.options.durability == Durability::None {
            return Ok(());
        }
        let (syncer, end) = {
            let view = self.view()?;
            (Arc::clone(&view.syncer), view.index.end)
        };
        self.vital(syncer.wait(end))
    }

    fn write<T>(&self, work: impl FnOnce(&mut Writing) -> LogResult<T>) -> LogResult<T> {
        let mut writing = self.writing.lock();
        work(writing.as_mut().ok_or(LogError::NoTransaction)?)
    }

    fn flush_if_long(&self, writing: &mut Writing) -> LogResult<()> {
        writing.flush_if_long().map_err(self.io())
    }
}

impl Writing {
    /// A transaction that begins at `start`.
    pub(super) fn new(file: Arc<dyn VfsFile>, start: u64, number: u64, begin: Begin) -> Self {
        let mut writing = Self {
            file,
            start,
            number,
            begin,
            buffer: Vec::with_capacity(1024),
            at: start,
            records: Vec::new(),
            entries: Vec::new(),
            root: None,
            next_oid: 1,
            promised: BTreeMap::new(),
            stream: None,
            end: None,
        };
        let payload = begin.to_bytes();
        let len = u32::try_from(payload.len()).unwrap_or(0);
        let head = Head::of(Kind::Begin, Oid::ZERO, number, &payload, len);
        writing.append(head, &payload);
        writing
    }

    /// Something that is referred to and was neither there before nor written since, and what
    /// refers to it.
    fn first_broken_promise(&mut self) -> Option<(Oid, Option<Oid>)> {
        if !self.promised.is_empty() {
            for (oid, _) in &self.entries {
                self.promised.remove(oid);
            }
        }
        let (target, oid) = self.promised.first_key_value()?;
        Some((*target, *oid))
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn position(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    fn new_oid(&mut self) -> Oid {
        let oid = Oid::from_u64(self.next_oid);
        self.next_oid = self.next_oid.saturating_add(1);
        oid
    }

    /// Append a record; returns where it is.
    pub(super) fn append(&mut self, head: Head, payload: &[u8]) -> u64 {
        let position = self.position();
        self.buffer.extend_from_slice(&head.to_bytes(position));
        self.buffer.extend_from_slice(payload);
        if matches!(head.kind, Kind::Full | Kind::Change | Kind::Stream) {
            self.records.push(RecordAt { position, head });
            self.entries.push((head.oid, position));
            self.next_oid = self.next_oid.max(head.oid.as_u64().saturating_add(1));
        }
        position
    }

    fn append_block(&mut self) {
        let Some((oid, mut extent, data)) = self.stream.take() else {
            return;
        };
        if let (Ok(len @ 1..), number) = (u32::try_from(data.len()), self.number) {
            self.append(Head::of(Kind::Block, oid, number, &data, len), &data);
            extent.len += u64::from(len);
        }
        let mut empty = data;
        empty.clear();
        self.stream = Some((oid, extent, empty));
    }

    /// Make the last record, and room for it.
    fn prepare_end(&mut self, committed: bool) -> LogResult<()> {
        let end = End {
            committed,
            root: self.root,
            next_oid: self.next_oid,
            entries: std::mem::take(&mut self.entries),
        };
        let payload = end.to_bytes();
        let count = Oid::from_u64(end.entries.len() as u64);
        let too_long = |_error| LogError::TooLong(payload.len());
        let len = u32::try_from(payload.len()).map_err(too_long)?;
        let mut head = Head::of(Kind::End, count, self.number, &payload, len);
        head.previous = self.start;
        let position = self.position();
        let mut bytes = head.to_bytes(position).to_vec();
        bytes.extend_from_slice(&payload);
        self.buffer.resize(self.buffer.len() + bytes.len(), 0);
        self.end = Some((position, bytes, end));
        Ok(())
    }

    /// The transaction as a reader of the file would find it.
    fn into_item(self, records: Vec<RecordAt>, finish: End, last: u64, end: u64) -> Item {
        Item {
            start: self.start,
            end: Some(end),
            number: Some(self.number),
            begin: Some(self.begin),
            finish: Some(finish),
            last,
            records,
            damage: Vec::new(),
        }
    }

    /// Write it to a file of its own, all at once.
    pub(super) fn write_whole(mut self) -> LogResult<std::io::Result<Item>> {
        self.prepare_end(true)?;
        let Some((at, bytes, end)) = self.end.take() else {
            return Err(LogError::NoTransaction);
        };
        let after = at + bytes.len() as u64;
        let written = self
            .flush()
            .and_then(|()| self.file.write_all_at(&bytes, at));
        let records = std::mem::take(&mut self.records);
        Ok(written.map(|()| self.into_item(records, end, at, after)))
    }

    pub(super) fn flush_if_long(&mut self) -> std::io::Result<()> {
        if self.buffer.len() < BUFFER {
            return Ok(());
        }
        self.flush()
    }

    /// Take over what a copy is to go on with.
    pub(super) fn continue_from(&mut self, root: Option<Oid>, next_oid: u64) {
        self.root = root;
        self.next_oid = self.next_oid.max(next_oid);
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.write_all_at(&self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
