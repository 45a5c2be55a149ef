//! Writing a transaction.
//!
//! [`Log::lock`], [`Log::begin`], then what there is to write, [`Log::vote`], and
//! [`Log::finish`] or [`Log::fail`], then [`Log::unlock`]. Voting writes all but the
//! record that ends the transaction, for which it leaves room: finishing needs no space.
//! A transaction that fails leaves its number and a record that says so, or nothing if there
//! is no space for it. A write that fails is undone by cutting the file where the transaction
//! began; what a failed sync leaves is unknown.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::changes::Changes;
use super::error::{LOGGER, LogError, LogResult};
use super::index::Entry;
use super::log::{Durability, Log};
use super::payloads::{Begin, ObjectPayload};
use super::record::{HEAD_LEN, Head, Kind};
use super::transaction_writer::{Prepared, TransactionWriter};
use super::view::View;
use crate::ids::Oid;
use crate::vfs::VfsFile;

/// Changes of an object are folded into a full record when there are so many, or fewer
/// that have a fourth of its bytes together. Small objects are always written in full.
const LONGEST_CHAIN: u16 = 256;
const SHORT_CHAIN: u16 = 16;
const SMALL: u32 = 512;

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
        let mut writing =
            TransactionWriter::new(Arc::clone(&view.file), view.index.end, number, begin);
        writing.continue_from(view.index.root, next_oid);
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
            writing.set_root(oid);
            if !known {
                writing.promise(oid, None);
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
            let head = self.head(&**writing.file(), entry)?;
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
        let payload = ObjectPayload::to_bytes(references, pickle).ok_or_else(too_long)?;
        let len = u32::try_from(payload.len()).map_err(|_error| too_long())?;
        let unknown: Vec<_> = {
            let index = &self.view()?.index;
            let references = references.iter().copied();
            references.filter(|target| !index.has(*target)).collect()
        };
        self.write(|writing| {
            for target in unknown {
                writing.promise(target, Some(oid));
            }
            let kind = base.map_or(Kind::Full, |_| Kind::Change);
            let mut head = Head::of(kind, oid, writing.number(), &payload, len);
            if let Some(base) = base {
                let before = self.head(&**writing.file(), base)?;
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
        self.write(|writing| Ok(writing.begin_stream()))
    }

    /// Write bytes of the stream that was begun.
    pub fn write_stream(&self, mut data: &[u8]) -> LogResult<()> {
        self.write(|writing| {
            while !data.is_empty() {
                data = writing.extend_stream(data).ok_or(LogError::NoTransaction)?;
                self.flush_if_long(writing)?;
            }
            Ok(())
        })
    }

    /// End the stream that was begun.
    pub fn end_stream(&self) -> LogResult<()> {
        self.write(|writing| writing.end_stream().ok_or(LogError::NoTransaction))
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
        let prepared = writing.and_then(TransactionWriter::prepared);
        let prepared = prepared.ok_or(LogError::NoTransaction)?;
        if let Err(error) = prepared.write_end() {
            self.take_back(&prepared);
            return Err(self.io()(error));
        }
        Self::take_in(&mut view, prepared);
        Ok(view.index.number)
    }

    /// Take in a transaction that this process has written.
    fn take_in(view: &mut View, written: Prepared) {
        let end = written.end();
        view.syncer.written(end);
        view.index.apply(&written.into_item(), end);
    }

    /// Cut off a transaction whose end could not be written; returns whether that was done.
    fn take_back(&self, prepared: &Prepared) -> bool {
        let undone = prepared.undo();
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
        self.vital(given_up.cut())?;
        let mut writing = given_up.emptied();
        writing.continue_from(view.index.root, view.index.next_oid);
        writing.prepare_end(false)?;
        let number = writing.number();
        let mut prepared = writing.prepared().ok_or(LogError::NoTransaction)?;
        if let Err(error) = prepared.write_all() {
            if !self.take_back(&prepared) {
                return Err(self.io()(error));
            }
            log::warn!(
                target: LOGGER,
                "{}: no record of the failed transaction {number} could be written: {error}",
                self.path.display()
            );
            return Ok(());
        }
        Self::take_in(&mut view, prepared);
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

    fn write<T>(&self, work: impl FnOnce(&mut TransactionWriter) -> LogResult<T>) -> LogResult<T> {
        let mut writing = self.writing.lock();
        work(writing.as_mut().ok_or(LogError::NoTransaction)?)
    }

    fn flush_if_long(&self, writing: &mut TransactionWriter) -> LogResult<()> {
        writing.flush_if_long().map_err(self.io())
    }
}
