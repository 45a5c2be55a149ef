//! What one reader has seen of a file, and how it reads on.
//!
//! A transaction counts when it is complete. The bytes after the last complete transaction are
//! unfinished: a transaction is being written, or its process or machine has died. They are
//! damaged data if they are known to have been durable. Either a later transaction shows this,
//! whose writer had synced the file before, or the index file.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::changes::Changes;
use super::error::{Damage, LogError, LogResult, io_error};
use super::header::Header;
use super::index::ObjectIndex;
use super::index_file;
use super::scan::{ScannedTransaction, Scanner};
use super::sync::Syncer;
use zrs_vfs::{Vfs, VfsFile};

/// Damage that was found while reading on.
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
    /// Whether a transaction in them is marked as committed.
    pub(super) committed: bool,
}

/// A file and what one reader has seen of it.
pub(super) struct View {
    pub(super) file: Arc<dyn VfsFile>,
    pub(super) identity: [u8; 16],
    pub(super) index: ObjectIndex,
    /// The position up to which the file is known to be durable.
    pub(super) durable: u64,
    pub(super) damaged: Vec<Damaged>,
    pub(super) syncer: Arc<Syncer>,
    /// The end of the last transaction in the index file.
    pub(super) saved: u64,
    /// The length of the file when it was last read.
    pub(super) seen_len: u64,
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
            seen_len: 0,
        }
    }

    /// Open a file, with its index file.
    pub(super) fn open(vfs: &dyn Vfs, path: &Path, read_only: bool) -> LogResult<Self> {
        match Self::open_shortened(vfs, path, read_only)? {
            (_, Some(shortened)) => Err(shortened),
            (view, None) => Ok(view),
        }
    }

    /// Open a file even if its end is lost; returns the error for that too.
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

    /// Read what was added to the file; returns the unfinished bytes at its end, if any.
    pub(super) fn read_on(&mut self, changes: &mut Changes) -> io::Result<Option<TrailingBytes>> {
        let len = self.file.metadata()?.len;
        self.seen_len = len;
        if len <= self.index.end {
            return Ok(None);
        }
        let mut scanner = Scanner::new(Arc::clone(&self.file), len);
        let mut held = VecDeque::new();
        let mut at = self.index.end;
        while let Some(mut item) = scanner.transaction(at)? {
            if item.end.is_none() && item.start < self.durable {
                // The damage extends to the end of the durable bytes, where a transaction ends.
                item.end = Some(self.durable.min(len));
            }
            if let (true, Some(begin)) = (item.is_whole(), item.begin) {
                // A writer cannot know what comes after its own transaction.
                self.durable = self.durable.max(begin.durable.min(item.start));
            }
            let end = item.end;
            held.push_back(item);
            while held.front().is_some_and(|item| self.counts(item)) {
                if let Some(item) = held.pop_front() {
                    self.apply(&item, changes);
                }
            }
            match end {
                Some(end) => at = end,
                None => break,
            }
        }
        Ok(held.front().map(|first| TrailingBytes {
            start: first.start,
            committed: held.iter().any(ScannedTransaction::is_committed),
        }))
    }

    fn counts(&self, item: &ScannedTransaction) -> bool {
        item.is_whole() || item.end.is_some_and(|end| end <= self.durable)
    }

    fn apply(&mut self, item: &ScannedTransaction, changes: &mut Changes) {
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
