//! What one reader of a file has seen of it so far, and how it reads on.
//!
//! A transaction counts when all of it is there. Bytes after the last whole transaction
//! are one that is being written, or the torn one of a process or machine that died; they
//! are damaged data if they are known to have been durable once: because a later
//! transaction says so, whose writer had synced the file before, or the index file.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::changes::Changes;
use super::error::{Damage, LogError, LogResult, io_error};
use super::header::Header;
use super::index::ObjectIndex;
use super::index_file;
use super::scan::{Item, Scanner};
use super::sync::Syncer;
use crate::vfs::{Vfs, VfsFile};

/// Damaged data that were found while reading on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damaged {
    pub(super) position: u64,
    pub(super) transaction: Option<u64>,
    pub(super) damage: Damage,
}

/// The bytes after the last transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TrailingBytes {
    pub(super) start: u64,
    /// Whether something in it says that it was committed.
    pub(super) committed: bool,
}

/// A file and what was seen of it.
pub(super) struct View {
    pub(super) file: Arc<dyn VfsFile>,
    pub(super) identity: [u8; 16],
    pub(super) index: ObjectIndex,
    /// Up to where the file is known to be durable.
    pub(super) durable: u64,
    pub(super) damaged: Vec<Damaged>,
    pub(super) syncer: Arc<Syncer>,
    /// Up to where the index file goes.
    pub(super) saved: u64,
    /// How long the file was at the last look.
    pub(super) looked: u64,
}

impl View {
    pub(super) fn new(file: Arc<dyn VfsFile>, identity: [u8; 16]) -> Self {
        let syncer = Arc::new(Syncer::new(Arc::clone(&file)));
        Self {
            file,
            identity,
            index: ObjectIndex::new(),
            durable: 0,
            damaged: Vec::new(),
            syncer,
            saved: 0,
            looked: 0,
        }
    }

    /// A view of a file, with what its index file shows.
    pub(super) fn open(vfs: &dyn Vfs, path: &Path, read_only: bool) -> LogResult<Self> {
        match Self::open_shortened(vfs, path, read_only)? {
            (_, Some(shortened)) => Err(shortened),
            (view, None) => Ok(view),
        }
    }

    /// The same also of a file whose end is lost, and the error that says so.
    pub(super) fn open_shortened(
        vfs: &dyn Vfs,
        path: &Path,
        read_only: bool,
    ) -> LogResult<(Self, Option<LogError>)> {
        let opened = if read_only {
            vfs.open_read(path)
        } else {
            vfs.open_write(path)
        };
        let file = opened.map_err(io_error(path))?;
        let header = match Header::read(&*file, path) {
            Err(LogError::UnknownMagic { found, path }) if found.is_empty() => {
                let emptied = index_file::emptied(vfs, &path);
                return Err(emptied.unwrap_or(LogError::UnknownMagic { path, found }));
            }
            header => header?,
        };
        let saved = index_file::load(vfs, path, &header.identity, &*file)?;
        let mut view = Self::new(file, header.identity);
        let Some(saved) = saved else {
            return Ok((view, None));
        };
        view.durable = saved.durable;
        if let Some(index) = saved.index {
            view.saved = index.end;
            view.index = index;
        }
        Ok((view, saved.shortened))
    }

    /// Read what was added to the file.
    pub(super) fn read_on(&mut self, changes: &mut Changes) -> io::Result<Option<TrailingBytes>> {
        let len = self.file.metadata()?.len;
        self.looked = len;
        if len <= self.index.end {
            return Ok(None);
        }
        let mut scanner = Scanner::new(Arc::clone(&self.file), len);
        let mut held = VecDeque::new();
        let mut at = self.index.end;
        while let Some(mut item) = scanner.item(at)? {
            if item.end.is_none() && item.start < self.durable {
                // The damage reaches to where the file was durable, which is an end.
                item.end = Some(self.durable.min(len));
            }
            if let (true, Some(begin)) = (item.is_whole(), item.begin) {
                // Nobody knows of what comes after what they write.
                self.durable = self.durable.max(begin.durable.min(item.start));
            }
            let end = item.end;
            held.push_back(item);
            while held.front().is_some_and(|item| self.counts(item)) {
                if let Some(item) = held.pop_front() {
                    self.take_in(&item, changes);
                }
            }
            match end {
                Some(end) => at = end,
                None => break,
            }
        }
        Ok(held.front().map(|first| TrailingBytes {
            start: first.start,
            committed: held.iter().any(Item::is_committed),
        }))
    }

    fn counts(&self, item: &Item) -> bool {
        item.is_whole() || item.end.is_some_and(|end| end <= self.durable)
    }

    fn take_in(&mut self, item: &Item, changes: &mut Changes) {
        let end = item.end.unwrap_or(item.start);
        let root = self.index.root;
        for oid in self.index.apply(item, end) {
            changes.objects.insert(oid);
        }
        changes.root |= self.index.root != root;
        changes.transactions += 1;
        for &(position, damage) in &item.damage {
            self.damaged.push(Damaged {
                position,
                transaction: item.number,
                damage,
            });
        }
    }
}
