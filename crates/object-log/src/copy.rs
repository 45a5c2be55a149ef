//! Copies of the current objects without their history: snapshots and compaction.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::{Damage, LogError, LogResult, io_error};
use super::header::{HEADER_LEN, Header};
use super::index::{Entry, ObjectIndex};
use super::log::Log;
use super::paths::{parent, sibling};
use super::payloads::{Begin, ObjectPayload, StreamExtent};
use super::record::{Head, Kind};
use super::scan::{ScannedTransaction, Scanner};
use super::transaction_writer::TransactionWriter;
use super::view::View;
use zrs_ids::Oid;
use zrs_vfs::VfsFile;

/// Combines the pickles of an object, the full state first, into one. Returns the references
/// and the pickle, or `None` to copy the pickles unchanged.
pub type Fold<'a> = dyn Fn(&[&[u8]]) -> Option<(Vec<Oid>, Vec<u8>)> + Sync + 'a;

/// The log, file and index that are copied from.
struct Source<'a> {
    log: &'a Log,
    file: &'a dyn VfsFile,
    index: &'a ObjectIndex,
    fold: Option<&'a Fold<'a>>,
}

impl Log {
    /// Write the current objects, or those of a time in microseconds since 1970, into the
    /// transaction that was begun in an empty log.
    pub fn snapshot(
        &self,
        time: Option<i64>,
        target: &Self,
        fold: Option<&Fold<'_>>,
    ) -> LogResult<()> {
        let (file, present) = {
            let view = self.view()?;
            (Arc::clone(&view.file), view.index.clone())
        };
        if target.number()? != 0 {
            return Err(LogError::NotEmpty(target.path.clone()));
        }
        let index = match time {
            None => present,
            Some(time) => self.index_at(&file, present.end, time)?,
        };
        let source = Source {
            log: self,
            file: &*file,
            index: &index,
            fold,
        };
        target.check_writable()?;
        let mut writing = target.writing.lock();
        let writing = writing.as_mut().ok_or(LogError::NoTransaction)?;
        let number = writing.number();
        source.copy_into(writing, Some(number), None)
    }

    /// The index after the last transaction at or before a time.
    fn index_at(&self, file: &Arc<dyn VfsFile>, end: u64, time: i64) -> LogResult<ObjectIndex> {
        let nothing = ObjectIndex::new().end;
        let (mut last, mut oldest) = (nothing, None);
        self.each_before(file, end, |item, next| {
            if item.begin.is_some_and(|begin| begin.time <= time) {
                last = next;
            }
            if item.start == nothing {
                oldest = item.number.zip(item.begin);
            }
        })?;
        if let (true, Some((2.., begin))) = (last == nothing, oldest) {
            // A compaction has removed earlier transactions: the log was not empty then.
            return Err(LogError::Compacted {
                path: self.path.clone(),
                time,
                oldest: begin.time,
            });
        }
        let mut index = ObjectIndex::new();
        self.each_before(file, last, |item, next| {
            index.apply(item, next);
        })?;
        Ok(index)
    }

    /// Call a function with each transaction up to a position, and with its end.
    fn each_before(
        &self,
        file: &Arc<dyn VfsFile>,
        end: u64,
        mut work: impl FnMut(&ScannedTransaction, u64),
    ) -> LogResult<()> {
        let mut scanner = Scanner::new(Arc::clone(file), end);
        let mut at = ObjectIndex::new().end;
        while let Some(item) = scanner.transaction(at).map_err(self.io())? {
            let Some(next) = item.end else {
                let (position, damage) = item
                    .damage
                    .first()
                    .copied()
                    .unwrap_or((item.start, Damage::Cut));
                return Err(self.corrupt(position, item.number, damage));
            };
            work(&item, next);
            at = next;
        }
        Ok(())
    }

    /// Replace the file by one that has only the current objects; with `reachable`, only those
    /// that can be reached from the root. Returns the length of the old and the new file.
    ///
    /// `identity` are random bytes for the new file. `time` is the time of its transaction if
    /// that of the last transaction cannot be read. The new file has the owner and permissions
    /// of the old one. Other instances continue with the new file when they next read.
    /// The caller holds the lock, which is then that of the new file.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] if a current object cannot be read: it would be lost.
    /// [`LogError::Io`] if users of the old file could not use the new one.
    /// The file is then unchanged.
    pub fn compact(
        &self,
        identity: [u8; 16],
        time: i64,
        reachable: bool,
        fold: Option<&Fold<'_>>,
    ) -> LogResult<(u64, u64)> {
        self.check_writable()?;
        let (file, index) = self.catch_up_and_cut()?;
        let source = Source {
            log: self,
            file: &*file,
            index: &index,
            fold,
        };
        let path = sibling(&self.path, ".compact");
        // Others can read in the meantime, but not write: this thread holds the lock.
        let written = source.write_compacted(&path, identity, time, reachable);
        let replaced = written.and_then(|next| self.replace(next, &path));
        if replaced.is_err() && !self.failed.load(Ordering::Acquire) {
            // Report the first error. The next compaction replaces a file that is left.
            drop(self.vfs.remove(&path));
        }
        replaced
    }

    /// Read what others have committed and cut off an unfinished transaction; returns the file
    /// and its index.
    fn catch_up_and_cut(&self) -> LogResult<(Arc<dyn VfsFile>, ObjectIndex)> {
        let mut view = self.writable()?;
        if self.locked.lock().is_none() {
            return Err(LogError::NoTransaction);
        }
        let mut unreported = self.unreported.lock();
        if let Some(tail) = self.follow(&mut view, &mut unreported)? {
            self.cut(&view, tail)?;
        }
        Ok((Arc::clone(&view.file), view.index.clone()))
    }

    /// Replace the file by one that was written; returns the length of both.
    fn replace(&self, next: View, path: &Path) -> LogResult<(u64, u64)> {
        let mut view = self.writable()?;
        if !next.file.try_lock().map_err(io_error(path))? {
            return Err(LogError::Replaced(path.to_owned()));
        }
        self.vfs.rename(path, &self.path).map_err(self.io())?;
        self.or_fail(self.vfs.sync_directory(parent(&self.path)))?;
        let lengths = (view.index.end, next.index.end);
        let (old, new) = (Arc::clone(&view.file), Arc::clone(&next.file));
        // Report removed objects, which may be in memory.
        let removed = view.index.objects.keys();
        let removed = removed.filter(|oid| !next.index.objects.contains_key(oid));
        self.unreported.lock().objects.extend(removed.copied());
        *view = next;
        match &mut *self.locked.lock() {
            Some(locked) => locked.file = new,
            None => new.unlock().map_err(self.io())?,
        }
        old.unlock().map_err(self.io())?;
        Ok(lengths)
    }
}

impl Source<'_> {
    /// Write the current objects to a new file, and sync it.
    fn write_compacted(
        &self,
        path: &Path,
        identity: [u8; 16],
        time: i64,
        reachable: bool,
    ) -> LogResult<View> {
        let kept = reachable.then(|| self.reachable()).transpose()?;
        let file = self.create(path)?;
        let header = Header { identity }.to_bytes();
        file.write_all_at(&header, 0).map_err(io_error(path))?;
        let time = self.last_time().unwrap_or(time);
        let begin = Begin { time, durable: 0 };
        let (start, number) = (HEADER_LEN as u64, self.index.number);
        let mut writing = TransactionWriter::new(Arc::clone(&file), start, number, begin);
        self.copy_into(&mut writing, None, kept.as_ref())?;
        writing.prepare_end(true)?;
        let mut prepared = writing.prepared().ok_or(LogError::NoTransaction)?;
        prepared.write_all().map_err(io_error(path))?;
        file.sync_data().map_err(io_error(path))?;
        let mut next = View::new(Arc::clone(&file), Header::read(&*file, path)?.identity);
        let end = prepared.end();
        next.index.apply(&prepared.into_scanned(), end);
        next.durable = next.index.end;
        Ok(next)
    }

    /// Create a file for the users of the present one.
    fn create(&self, path: &Path) -> LogResult<Arc<dyn VfsFile>> {
        let (vfs, present) = (&self.log.vfs, &self.log.path);
        let file = vfs.create_like(path, present).map_err(io_error(path))?;
        if vfs.keeps_access(present, path).map_err(io_error(path))? {
            return Ok(file);
        }
        let text = "the compacted file would have another owner or group; run the compaction \
                    as the owner or as root";
        let source = io::Error::new(io::ErrorKind::PermissionDenied, text);
        Err(io_error(present)(source))
    }

    /// The time of the last transaction, which is the time of the copied state.
    fn last_time(&self) -> Option<i64> {
        let read = |at| self.log.record(self.file, at, None).ok();
        let (end, _) = read(self.index.last).filter(|(head, _)| head.kind == Kind::End)?;
        let (begin, payload) = read(end.previous)?;
        let begin = (begin.kind == Kind::Begin).then(|| Begin::parse(&payload))??;
        Some(begin.time)
    }

    /// Copy all objects and streams, or those that are kept. Their records are numbered with
    /// `transaction`, or else keep their numbers.
    fn copy_into(
        &self,
        writing: &mut TransactionWriter,
        transaction: Option<u64>,
        kept: Option<&BTreeSet<Oid>>,
    ) -> LogResult<()> {
        if let Some(entry) = self.index.uncertain.values().next() {
            let (position, serial) = (entry.position, Some(entry.serial));
            return Err(self.log.corrupt(position, serial, Damage::NoEnd));
        }
        let is_kept = |oid: &Oid| kept.is_none_or(|kept| kept.contains(oid));
        for (oid, entry) in self.index.objects.iter().filter(|(oid, _)| is_kept(oid)) {
            self.copy_object(writing, *oid, *entry, transaction)?;
        }
        for (oid, entry) in self.index.streams.iter().filter(|(oid, _)| is_kept(oid)) {
            self.copy_stream(writing, *oid, *entry, transaction)?;
        }
        writing.continue_from(self.index.root, self.index.next_oid);
        Ok(())
    }

    fn copy_object(
        &self,
        writing: &mut TransactionWriter,
        oid: Oid,
        entry: Entry,
        transaction: Option<u64>,
    ) -> LogResult<()> {
        let records = self.log.chain(self.file, oid, entry)?;
        if let Some(payload) = self.folded(&records)? {
            let number = transaction.unwrap_or(entry.serial);
            let too_long = |_error| LogError::TooLong(payload.len());
            let len = u32::try_from(payload.len()).map_err(too_long)?;
            writing.append(Head::of(Kind::Full, oid, number, &payload, len), &payload);
            return writing.flush_if_long().map_err(self.log.io());
        }
        let mut previous = 0;
        for (_, mut head, payload) in records {
            head.previous = previous;
            head.transaction = transaction.unwrap_or(head.transaction);
            previous = writing.append(head, &payload);
            writing.flush_if_long().map_err(self.log.io())?;
        }
        Ok(())
    }

    /// The payload of one record that replaces several, if they can be folded.
    fn folded(&self, records: &[(u64, Head, Vec<u8>)]) -> LogResult<Option<Vec<u8>>> {
        let Some(fold) = self.fold.filter(|_| records.len() > 1) else {
            return Ok(None);
        };
        let parsed = records
            .iter()
            .map(|record| Ok(self.parse(record)?.pickle))
            .collect::<LogResult<Vec<_>>>()?;
        let folded = fold(&parsed);
        Ok(folded.and_then(|(references, pickle)| ObjectPayload::to_bytes(&references, &pickle)))
    }

    fn parse<'a>(
        &self,
        (position, head, payload): &'a (u64, Head, Vec<u8>),
    ) -> LogResult<ObjectPayload<'a>> {
        let broken = || {
            self.log
                .corrupt(*position, Some(head.transaction), Damage::Unexpected)
        };
        ObjectPayload::parse(payload).ok_or_else(broken)
    }

    fn copy_stream(
        &self,
        writing: &mut TransactionWriter,
        oid: Oid,
        entry: Entry,
        transaction: Option<u64>,
    ) -> LogResult<()> {
        let extent = self
            .log
            .extent(self.file, oid, entry.position, entry.serial)?;
        let number = transaction.unwrap_or(entry.serial);
        let first = writing.position();
        let mut offset = 0;
        while offset < extent.len {
            let block = self
                .log
                .block(self.file, oid, extent, offset, entry.serial)?;
            let too_long = |_error| LogError::TooLong(block.len());
            let len = u32::try_from(block.len()).map_err(too_long)?;
            writing.append(Head::of(Kind::Block, oid, number, &block, len), &block);
            writing.flush_if_long().map_err(self.log.io())?;
            offset += u64::from(len);
        }
        let payload = StreamExtent {
            first,
            len: extent.len,
        };
        let payload = payload.to_bytes();
        let len = u32::try_from(payload.len()).unwrap_or(0);
        writing.append(Head::of(Kind::Stream, oid, number, &payload, len), &payload);
        Ok(())
    }

    /// The objects and streams that can be reached from the root.
    fn reachable(&self) -> LogResult<BTreeSet<Oid>> {
        let mut reached = BTreeSet::new();
        let mut todo: Vec<_> = self.index.root.into_iter().collect();
        while let Some(oid) = todo.pop() {
            if !reached.insert(oid) {
                continue;
            }
            let Some(entry) = self.index.objects.get(&oid) else {
                continue;
            };
            for record in &self.log.chain(self.file, oid, *entry)? {
                todo.extend(self.parse(record)?.references);
            }
        }
        Ok(reached)
    }
}
