//! The list of dropped transactions of a secondary, kept while it is connected.
//!
//! A secondary that takes over tells forks from transactions that packs have dropped, so it
//! needs the list that its primary has. A list is an aid: where it cannot be written, that is
//! logged, and replication goes on.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Feed, log_messages};
use crate::proto::{DroppedOffer, DroppedTransactions, Followed, PeerError, Remark};
use zrs_ids::Tid;
use zrs_storage::error::StorageResult;
use zrs_storage::filestorage::FileStorage;
use zrs_storage::{DataFile, ReceivedList};
use zrs_vfs::Vfs;

/// The most tids that are taken on one connection.
pub const MAX_DROPPED: u64 = 1 << 27;
/// So many bytes of a file are compared at most when a list was not written in the end.
const CHECKPOINT: u64 = 256 << 20;

/// Where a secondary's list of dropped transactions is.
#[derive(Clone)]
pub struct ListPlace {
    /// The file system.
    pub vfs: Arc<dyn Vfs>,
    /// The `Data.fs` beside which it is.
    pub path: PathBuf,
    /// The storage, if it lists what its packs drop.
    pub storage: Option<Arc<FileStorage>>,
    /// What serves others from that file, if anything does.
    pub feed: Option<Arc<Feed>>,
}

/// What is known of a secondary's list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListState {
    /// Nothing: the primary has not offered one, or there is no place for it.
    #[default]
    Unknown,
    /// It is being received, or is to be written.
    Pending,
    /// It has all that is needed.
    Complete,
    /// The primary does not know all that was dropped.
    Incomplete,
}

/// Whether there is something to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    No,
    Yes,
    /// There is, and it could not be written when that was tried last: a pack was in the way,
    /// or there is no transaction.
    Later,
}

/// Receives and writes the list on one connection.
pub(super) struct ListKeeper {
    place: ListPlace,
    list: ReceivedList,
    /// All that was dropped up to here has come.
    known_to: Tid,
    followed: Followed,
    due: Due,
    /// Whether the list is to be kept although nothing was dropped lately.
    is_kept: bool,
    /// How many tids have come.
    count: u64,
    limit: u64,
    has_transactions: bool,
    /// Whether the transaction before is marked as packed.
    after_packed: bool,
}

impl ListKeeper {
    /// A keeper for a storage whose last transaction is `start`.
    pub(super) fn new(place: ListPlace, start: Tid, offer: DroppedOffer) -> StorageResult<Self> {
        let primary_has_list = offer != DroppedOffer::NoList;
        let vfs = Arc::clone(&place.vfs);
        let list = ReceivedList::open(vfs, &place.path, start, primary_has_list)?;
        Ok(Self {
            known_to: list.after(),
            followed: Followed::ByMore,
            due: if primary_has_list && (!list.has_list() || list.after() < start) {
                Due::Yes
            } else {
                Due::No
            },
            is_kept: primary_has_list || list.has_list(),
            place,
            list,
            count: 0,
            limit: MAX_DROPPED,
            has_transactions: start > Tid::ZERO,
            after_packed: false,
        })
    }

    /// Takes fewer tids.
    pub(super) fn with_limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    /// The question to the primary.
    pub(super) fn question(&self) -> Remark {
        Remark::List(self.list.after())
    }

    pub(super) fn state(&self) -> ListState {
        match self.followed {
            Followed::ByMore => ListState::Pending,
            _ if self.due != Due::No && self.has_transactions => ListState::Pending,
            Followed::ByNothing => ListState::Complete,
            Followed::ByUnknown => ListState::Incomplete,
        }
    }

    /// Takes what the primary says.
    ///
    /// # Errors
    /// The primary's, and within it those of writing what came to a file.
    pub(super) fn receive(
        &mut self,
        dropped: &DroppedTransactions,
    ) -> Result<StorageResult<()>, PeerError> {
        let mut last = self.known_to;
        let order = |found, last| Err(PeerError::DroppedOrder { found, last });
        if dropped.from != last {
            return order(dropped.from, last);
        }
        for &tid in &dropped.tids {
            if tid <= last {
                return order(tid, last);
            }
            last = tid;
        }
        if dropped.to < last {
            return order(dropped.to, last);
        }
        self.count += dropped.tids.len() as u64;
        if self.count > self.limit {
            return Err(PeerError::TooManyDropped(self.limit));
        }
        if dropped.complete_after > dropped.from {
            self.list.raise(dropped.complete_after);
        }
        if self.followed != Followed::ByNothing {
            self.list.compare_to(dropped.to);
        }
        self.known_to = dropped.to;
        self.followed = dropped.followed;
        if !dropped.tids.is_empty() {
            self.due = Due::Yes;
            self.is_kept = true;
        }
        Ok(dropped.tids.iter().try_for_each(|tid| self.list.add(*tid)))
    }

    /// Whether the list is to be written before a transaction of this kind: between two that
    /// are not marked as packed, only the list tells that others were dropped.
    pub(super) fn is_due_before(&self, is_packed: bool) -> bool {
        !is_packed && !self.after_packed && self.list.pending() > 0
    }

    /// Notes a transaction that was finished.
    pub(super) fn finished(&mut self, tid: Tid, is_packed: bool) {
        self.after_packed = is_packed;
        self.has_transactions = true;
        if self.followed == Followed::ByNothing {
            self.known_to = self.known_to.max(tid);
        }
    }

    /// Whether the list is to be written when nothing else is to be done; `is_level` tells
    /// whether the storage has all that the primary has named.
    pub(super) fn is_due(&self, is_level: bool) -> bool {
        let is_due = self.due == Due::Yes && self.followed != Followed::ByMore;
        is_due && is_level || self.is_overdue()
    }

    /// Whether it is to be written while there is more to do.
    pub(super) fn is_overdue(&self) -> bool {
        if self.due == Due::Later || !self.is_kept || self.followed == Followed::ByMore {
            return false;
        }
        let is_first = self.due == Due::Yes && !self.list.has_list();
        is_first || self.list.is_long() || self.has_grown()
    }

    fn has_grown(&self) -> bool {
        let storage = self.place.storage.as_ref();
        let storage = storage.filter(|_| self.followed == Followed::ByNothing);
        storage.is_some_and(|storage| {
            storage.durable().0 > self.list.written().saturating_add(CHECKPOINT)
        })
    }

    /// Whether it is to be written at the end of the connection, which has brought something.
    pub(super) fn is_due_at_end(&self, finished: u64) -> bool {
        self.is_kept
            && (self.due != Due::No || finished > 0 && self.followed == Followed::ByNothing)
    }

    /// Another transaction or remark has come.
    pub(super) fn go_on(&mut self) {
        if self.due == Due::Later {
            self.due = Due::Yes;
        }
    }

    /// Writes the list; `last` is the last transaction that was finished.
    pub(super) fn write(&mut self, last: Tid) -> StorageResult<()> {
        let (received, known_to) = (&mut self.list, self.known_to);
        let mut is_all = false;
        let mut write = |file: &DataFile, end, durable: Tid, is_listing| {
            // Later ones may be in the list before they are in the file, but not for ever.
            is_all = durable >= last;
            let to = if is_all {
                known_to
            } else {
                known_to.min(durable)
            };
            received.write(file, end, to, is_listing)
        };
        let written = if let Some(storage) = &self.place.storage {
            storage.write_list(|file, end, durable| write(file, end, durable, true))?
        } else {
            let file = DataFile::open(&*self.place.vfs, &self.place.path.as_path().into())?;
            Some(write(&file, file.metadata()?.len, last, false)?)
        };
        self.due = Due::Later;
        if written == Some(true) {
            let is_all = is_all && self.list.pending() == 0;
            self.due = if is_all { Due::No } else { Due::Yes };
            if let Some(feed) = &self.place.feed {
                feed.list_changed();
            }
        }
        Ok(())
    }

    /// Logs that the list is given up for this connection.
    pub(super) fn give_up(&self, error: &dyn std::fmt::Display) {
        log_messages::list_not_kept(&self.place.path, error);
    }
}

impl std::fmt::Debug for ListKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListKeeper").finish_non_exhaustive()
    }
}
