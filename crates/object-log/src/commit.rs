//! Writing a transaction.
//!
//! The calls are [`Log::lock`], [`Log::begin`], those that write records, [`Log::vote`],
//! [`Log::finish`] or [`Log::fail`], and [`Log::unlock`]. Voting writes everything except the
//! record that ends the transaction, for which it leaves room, so finishing needs no space.
//!
//! A failed transaction leaves its number and a record of the failure, or nothing if there is
//! no space for that. A failed write is undone by truncating the file at the beginning of the
//! transaction. After a failed sync the contents of the file are unknown.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::changes::Changes;
use super::error::{LOGGER, LogError, LogResult};
use super::index::Entry;
use super::log::{Durability, Locked, Log};
use super::payloads::{Begin, ObjectPayload};
use super::record::{HEAD_LEN, Head, Kind};
use super::transaction_writer::{Prepared, TransactionWriter};
use super::view::View;
use zrs_ids::Oid;
use zrs_vfs::VfsFile;

/// An object with this many changes is written in full.
const LONGEST_CHAIN: u16 = 256;
/// So is one with this many changes that together have a quarter of the full record's bytes.
const SHORT_CHAIN: u16 = 16;
/// Objects with fewer bytes than this are always written in full.
const SMALL: u32 = 512;

impl Log {
    /// Take the lock that only one writer among all threads and processes can hold. Returns
    /// false if another thread holds it for longer than `timeout`, or another process holds it.
    pub fn lock(&self, timeout: Duration) -> LogResult<bool> {
        self.check_writable()?;
        let Some(threads) = self.threads.acquire_within(timeout) else {
            return Ok(false);
        };
        let Some(file) = self.lock_file()? else {
            return Ok(false);
        };
        *self.locked.lock() = Some(Locked {
            file,
            _threads: threads,
        });
        Ok(true)
    }

    /// Lock the file; `None` if another process holds the lock, or the file was replaced.
    fn lock_file(&self) -> LogResult<Option<Arc<dyn VfsFile>>> {
        let file = self.file()?;
        if !file.try_lock().map_err(self.io())? {
            return Ok(None);
        }
        let mut view = self.writable()?;
        if !Arc::ptr_eq(&file, &view.file) || self.is_replaced(&view) {
            // A compaction has replaced the file.
            let mut unreported = self.unreported.lock();
            let followed = self.follow(&mut view, &mut unreported);
            file.unlock().map_err(self.io())?;
            followed?;
            return Ok(None);
        }
        // Nothing may be written to a file that was renamed or removed.
        if let Err(error) = self.vfs.metadata(&self.path) {
            file.unlock().map_err(self.io())?;
            return Err(self.io()(error));
        }
        drop(view);
        Ok(Some(file))
    }

    /// Release the lock, and discard a transaction that was not finished.
    pub fn unlock(&self) -> LogResult<()> {
        *self.writing.lock() = None;
        let Some(locked) = self.locked.lock().take() else {
            return Ok(());
        };
        // The file's lock first: a thread that gets the other finds it free.
        locked.file.unlock().map_err(self.io())
    }

    /// Begin a transaction after those that others have committed; returns their changes.
    /// `time` is in microseconds since 1970.
    pub fn begin(&self, time: i64) -> LogResult<Changes> {
        self.check_writable()?;
        let mut view = self.writable()?;
        if self.locked.lock().is_none() {
            return Err(LogError::NoTransaction);
        }
        let mut changes = std::mem::take(&mut *self.unreported.lock());
        let followed = self.follow(&mut view, &mut changes);
        let cut = followed.and_then(|tail| tail.map_or(Ok(()), |tail| self.cut(&view, tail)));
        if let Err(error) = cut {
            // The next call reports them.
            *self.unreported.lock() = changes;
            return Err(error);
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

    /// Allocate an object id.
    pub fn new_oid(&self) -> LogResult<Oid> {
        self.write(|writing| Ok(writing.new_oid()))
    }

    /// Make an object the root.
    pub fn set_root(&self, oid: Oid) -> LogResult<()> {
        let known = self.view()?.index.has(oid);
        self.write(|writing| {
            writing.set_root(oid);
            if !known {
                writing.require(oid, None);
            }
            Ok(())
        })
    }

    /// Whether an object should be written in full rather than as changes.
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

    /// Write the whole state of an object.
    pub fn store_full(&self, oid: Oid, references: &[Oid], pickle: &[u8]) -> LogResult<()> {
        self.store(oid, None, references, pickle)
    }

    /// Write the changes of an object's state.
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
                writing.require(target, Some(oid));
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

    /// Begin a stream, to which [`write_stream`](Self::write_stream) appends bytes.
    pub fn begin_stream(&self) -> LogResult<Oid> {
        self.write(|writing| Ok(writing.begin_stream()))
    }

    /// Append bytes to the stream that was begun.
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

    /// Write everything except the end of the transaction.
    ///
    /// # Errors
    /// [`LogError::Dangling`] if there is a reference to an object that does not exist.
    pub fn vote(&self) -> LogResult<()> {
        self.write(|writing| {
            if let Some((target, oid)) = writing.first_unresolved() {
                let path = self.path.clone();
                return Err(LogError::Dangling { path, oid, target });
            }
            writing.prepare_end(true)?;
            writing.flush().map_err(self.io())
        })
    }

    /// End the transaction, which is then committed; [`sync`](Self::sync) makes it durable.
    pub fn finish(&self) -> LogResult<u64> {
        self.check_writable()?;
        let mut view = self.writable()?;
        let writing = self.writing.lock().take();
        let prepared = writing.and_then(TransactionWriter::prepared);
        let prepared = prepared.ok_or(LogError::NoTransaction)?;
        if let Err(error) = prepared.write_end() {
            self.undo(&prepared);
            return Err(self.io()(error));
        }
        Self::apply(&mut view, prepared);
        Ok(view.index.number)
    }

    /// Apply a transaction that was written here to the index.
    fn apply(view: &mut View, written: Prepared) {
        let end = written.end();
        view.syncer.written(end);
        view.index.apply(&written.into_scanned(), end);
    }

    /// Truncate a transaction whose end could not be written; returns whether that succeeded.
    fn undo(&self, prepared: &Prepared) -> bool {
        let undone = prepared.undo();
        if !undone {
            self.failed.store(true, Ordering::Release);
        }
        undone
    }

    /// Discard the transaction. This leaves its number and a record of the failure, or nothing
    /// if that record cannot be written.
    pub fn fail(&self) -> LogResult<()> {
        self.check_writable()?;
        let mut view = self.writable()?;
        let Some(given_up) = self.writing.lock().take() else {
            return Err(LogError::NoTransaction);
        };
        self.or_fail(given_up.cut())?;
        let mut writing = given_up.emptied();
        writing.continue_from(view.index.root, view.index.next_oid);
        writing.prepare_end(false)?;
        let number = writing.number();
        let mut prepared = writing.prepared().ok_or(LogError::NoTransaction)?;
        if let Err(error) = prepared.write_all() {
            if !self.undo(&prepared) {
                return Err(self.io()(error));
            }
            log::warn!(
                target: LOGGER,
                "{}: cannot write a record of the failed transaction {number}: {error}",
                self.path.display()
            );
            return Ok(());
        }
        Self::apply(&mut view, prepared);
        Ok(())
    }

    /// Wait until everything committed so far is durable, unless the log was opened without
    /// [`Durability::Commit`].
    pub fn sync(&self) -> LogResult<()> {
        if self.options.durability == Durability::None {
            return Ok(());
        }
        let (syncer, end) = {
            let view = self.view()?;
            (Arc::clone(&view.syncer), view.index.end)
        };
        self.or_fail(syncer.wait(end))
    }

    fn write<T>(&self, work: impl FnOnce(&mut TransactionWriter) -> LogResult<T>) -> LogResult<T> {
        let mut writing = self.writing.lock();
        work(writing.as_mut().ok_or(LogError::NoTransaction)?)
    }

    fn flush_if_long(&self, writing: &mut TransactionWriter) -> LogResult<()> {
        writing.flush_if_long().map_err(self.io())
    }
}
