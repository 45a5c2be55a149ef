//! Reading what others have committed.

use std::sync::Arc;

use super::changes::Changes;
use super::error::{LogError, LogResult};
use super::index::ObjectIndex;
use super::log::Log;
use super::view::{TrailingBytes, View};
use zrs_ids::Oid;

impl Log {
    /// Read what others have committed since the log was last read.
    pub fn catch_up(&self) -> LogResult<Changes> {
        let mut view = self.writable()?;
        let mut changes = std::mem::take(&mut *self.unreported.lock());
        let followed = self.follow(&mut view, &mut changes);
        if followed.is_err() {
            *self.unreported.lock() = changes;
            followed?;
            return Ok(Changes::default());
        }
        Ok(changes)
    }

    /// Read on in the file, or in the one by which a compaction has replaced it.
    pub(super) fn follow(
        &self,
        view: &mut View,
        changes: &mut Changes,
    ) -> LogResult<Option<TrailingBytes>> {
        let tail = view.read_on(changes).map_err(self.io())?;
        if !self.is_replaced(view) {
            if view.seen_len < view.index.end {
                return Err(LogError::Shortened {
                    path: self.path.clone(),
                    len: view.seen_len,
                    durable: view.index.end,
                    transaction: view.index.number,
                });
            }
            return Ok(tail);
        }
        let mut next = View::open(&*self.vfs, &self.path, self.options.read_only)?;
        let tail = next.read_on(&mut Changes::default()).map_err(self.io())?;
        if next.index.number < view.index.number {
            return Err(LogError::Replaced(self.path.clone()));
        }
        changes.transactions += next.index.number - view.index.number;
        changes.root |= next.index.root != view.index.root;
        changes
            .objects
            .extend(differences(&view.index, &next.index));
        *view = next;
        Ok(tail)
    }

    /// Whether another file is at the path.
    pub(super) fn is_replaced(&self, view: &View) -> bool {
        let (at_path, own) = (self.vfs.metadata(&self.path), view.file.metadata());
        matches!((at_path, own), (Ok(at_path), Ok(own)) if at_path.identity != own.identity)
    }

    /// The file that is currently read.
    pub(super) fn file(&self) -> LogResult<Arc<dyn zrs_vfs::VfsFile>> {
        Ok(Arc::clone(&self.view()?.file))
    }
}

/// The objects that two indexes have from different transactions, or only one has.
fn differences(old: &ObjectIndex, new: &ObjectIndex) -> Vec<Oid> {
    let changed = new.objects.iter().filter(|(oid, entry)| {
        let before = old.objects.get(oid);
        before.is_none_or(|before| before.serial != entry.serial)
    });
    let removed = old
        .objects
        .keys()
        .filter(|oid| !new.objects.contains_key(oid));
    changed
        .map(|(oid, _)| *oid)
        .chain(removed.copied())
        .collect()
}
