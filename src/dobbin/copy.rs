//! Copying what there is, without its past: snapshots and compaction.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::commit::Writing;
use super::error::{Damage, LogError, LogResult};
use super::follow::Changes;
use super::header::{HEADER_LEN, Header};
use super::index::{Entry, Index};
use super::load::Payload;
use super::log::{Log, io_error};
use super::open::{parent, read_header, sibling};
use super::record::{Head, Kind};
use super::scan::Scanner;
use super::streams::Extent;
use super::transaction::Begin;
use super::view::View;
use crate::ids::Oid;
use crate::vfs::VfsFile;

/// What is copied, and from where.
struct Source<'a> {
    log: &'a Log,
    file: &'a dyn VfsFile,
    index: &'a Index,
}

impl Log {
    /// Write what there is, or was at a time in microseconds since 1970, into an empty log
    /// in whose transaction we are.
    pub fn snapshot(&self, time: Option<i64>, target: &Self) -> LogResult<()> {
        let (file, present) = {
            let view = self.view()?;
            (Arc::clone(&view.file), view.index.clone())
        };
        if target.number()? != 0 {
            return Err(LogError::NotEmpty(target.path.clone()));
        }
        let index = match time {
            None => present,
            Some(time) => self.index_at(Arc::clone(&file), present.end, time)?,
        };
        let source = Source {
            log: self,
            file: &*file,
            index: &index,
        };
        target.check_writable()?;
        let mut writing = target.writing.lock();
        let writing = writing.as_mut().ok_or(LogError::NoTransaction)?;
        let number = writing.number();
        source.copy_into(writing, Some(number), None)
    }

    /// The index that the transactions up to the last one of that time left.
    fn index_at(&self, file: Arc<dyn VfsFile>, end: u64, time: i64) -> LogResult<Index> {
        let (mut index, mut found) = (Index::new(), Index::new());
        let mut scanner = Scanner::new(file, end);
        while let Some(item) = scanner.item(index.end).map_err(self.io())? {
            let Some(next) = item.end else {
                let (position, damage) = item
                    .damage
                    .first()
                    .copied()
                    .unwrap_or((item.start, Damage::Cut));
                return Err(self.corrupt(position, item.number, damage));
            };
            index.apply(&item, next);
            if item.begin.is_some_and(|begin| begin.time <= time) {
                found.clone_from(&index);
            }
        }
        Ok(found)
    }

    /// Put a file in the place of this one that has what there is and nothing of the past;
    /// with `reachable`, only what can be reached from the root. `identity` is random bytes
    /// for it. Returns how long the file was and is. Others go on with the new file when they
    /// look next. To be called under the lock, which is of the new file afterwards.
    pub fn compact(&self, identity: [u8; 16], time: i64, reachable: bool) -> LogResult<(u64, u64)> {
        self.check_writable()?;
        let mut view = self.writable()?;
        if self.locked.lock().is_none() {
            return Err(LogError::NoTransaction);
        }
        let mut unseen = self.unseen.lock();
        if let Some(tail) = self.follow(&mut view, &mut unseen)? {
            self.cut(&view, tail)?;
        }
        let path = sibling(&self.path, ".compact");
        let written = self.write_compacted(&view, &path, identity, time, reachable);
        let next = match written {
            Ok(next) => next,
            Err(error) => {
                // The error is what matters; the file is replaced by the next compaction.
                drop(self.vfs.remove(&path));
                return Err(error);
            }
        };
        if !next.file.try_lock().map_err(io_error(&path))? {
            return Err(LogError::Replaced(path));
        }
        let renamed = self.vfs.rename(&path, &self.path);
        renamed.map_err(self.io())?;
        self.vital(self.vfs.sync_directory(parent(&self.path)))?;
        let lengths = (view.index.end, next.index.end);
        let (old, new) = (Arc::clone(&view.file), Arc::clone(&next.file));
        // What is gone is of interest to those who have it.
        let gone = view.index.objects.keys();
        let gone = gone.filter(|oid| !next.index.objects.contains_key(oid));
        unseen.objects.extend(gone.copied());
        *view = next;
        *self.locked.lock() = Some(new);
        old.unlock().map_err(self.io())?;
        Ok(lengths)
    }

    fn write_compacted(
        &self,
        view: &View,
        path: &Path,
        identity: [u8; 16],
        time: i64,
        reachable: bool,
    ) -> LogResult<View> {
        let source = Source {
            log: self,
            file: &*view.file,
            index: &view.index,
        };
        let kept = reachable.then(|| source.reachable()).transpose()?;
        let file = self.vfs.create(path).map_err(io_error(path))?;
        let header = Header { identity }.to_bytes();
        file.write_all_at(&header, 0).map_err(io_error(path))?;
        let begin = Begin { time, durable: 0 };
        let (start, number) = (HEADER_LEN as u64, view.index.number);
        let mut writing = Writing::new(Arc::clone(&file), start, number, begin);
        source.copy_into(&mut writing, None, kept.as_ref())?;
        let item = writing.write_whole()?.map_err(io_error(path))?;
        file.sync_data().map_err(io_error(path))?;
        let mut next = View::new(Arc::clone(&file), read_header(&*file, path)?.identity);
        next.index.apply(&item, item.end.unwrap_or(start));
        next.durable = next.index.end;
        Ok(next)
    }
}

impl Source<'_> {
    /// Copy objects and streams, all or those that are kept, as written by a transaction
    /// or by those that wrote them.
    fn copy_into(
        &self,
        writing: &mut Writing,
        transaction: Option<u64>,
        kept: Option<&BTreeSet<Oid>>,
    ) -> LogResult<()> {
        if let Some(entry) = self.index.unsure.values().next() {
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
        writing: &mut Writing,
        oid: Oid,
        entry: Entry,
        transaction: Option<u64>,
    ) -> LogResult<()> {
        let mut previous = 0;
        for (_, mut head, payload) in self.log.chain(self.file, oid, entry)? {
            head.previous = previous;
            head.transaction = transaction.unwrap_or(head.transaction);
            previous = writing.append(head, &payload);
            writing.flush_if_long().map_err(self.log.io())?;
        }
        Ok(())
    }

    fn copy_stream(
        &self,
        writing: &mut Writing,
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
        let payload = Extent {
            first,
            len: extent.len,
        };
        let payload = payload.to_bytes();
        let len = u32::try_from(payload.len()).unwrap_or(0);
        writing.append(Head::of(Kind::Stream, oid, number, &payload, len), &payload);
        Ok(())
    }

    /// What can be reached from the root.
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
            for (position, head, payload) in self.log.chain(self.file, oid, *entry)? {
                let parsed = Payload::parse(&payload).ok_or_else(|| {
                    let transaction = Some(head.transaction);
                    self.log.corrupt(position, transaction, Damage::Unexpected)
                })?;
                todo.extend(parsed.references);
            }
        }
        Ok(reached)
    }
}

impl Log {
    /// See [`catch_up`](Self::catch_up): what a compaction under the lock left to be told.
    pub fn take_unseen(&self) -> Changes {
        std::mem::take(&mut *self.unseen.lock())
    }
}
