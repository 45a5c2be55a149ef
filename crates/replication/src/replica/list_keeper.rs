//! The list of dropped transactions of a secondary, kept while it is connected.
//!
//! After a failover a secondary must distinguish forks from transactions that packs dropped, so
//! it needs its primary's list. A list is an aid: if it cannot be written, this is logged, and
//! replication goes on.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Feed, log_messages};
use crate::proto::{ControlMessage, DroppedOffer, DroppedTransactions, Followed, PeerError};
use zrs_ids::Tid;
use zrs_storage::error::StorageResult;
use zrs_storage::filestorage::FileStorage;
use zrs_storage::{DataFile, ReceivedList};
use zrs_vfs::Vfs;

/// Maximum number of tids accepted on one connection.
pub const MAX_DROPPED: u64 = 1 << 27;
/// Maximum number of bytes of a file that are compared if a list was not written at the end.
const CHECKPOINT: u64 = 256 << 20;

/// The location of a secondary's list of dropped transactions.
#[derive(Clone)]
pub struct ListPlace {
    /// The file system.
    pub vfs: Arc<dyn Vfs>,
    /// The `Data.fs` that the list belongs to.
    pub path: PathBuf,
    /// The storage, if it lists what its own packs drop.
    pub storage: Option<Arc<FileStorage>>,
    /// The feed of a cascade from that file, if there is one.
    pub feed: Option<Arc<Feed>>,
}

/// The state of a secondary's list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListState {
    /// Unknown: the primary has not offered a list, or the storage cannot keep one.
    #[default]
    Unknown,
    /// It is being received, or not yet written.
    Pending,
    /// It is complete.
    Complete,
    /// The primary does not know everything that was dropped.
    Incomplete,
}

/// Whether the list has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    No,
    Yes,
    /// It has, and the last attempt could not write it: a pack was writing the list, or the file
    /// has no transaction.
    Later,
}

/// Receives and writes the list on one connection.
pub(super) struct ListKeeper {
    place: ListPlace,
    list: ReceivedList,
    /// Everything dropped up to this tid has been received.
    known_to: Tid,
    followed: Followed,
    due: Due,
    /// Whether the list is to be kept although nothing was dropped since.
    is_kept: bool,
    /// The number of tids received.
    count: u64,
    limit: u64,
    has_transactions: bool,
    /// Whether the previous transaction is marked as packed.
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

    /// Lowers the maximum number of tids.
    pub(super) fn with_limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    /// The request to the primary.
    pub(super) fn request(&self) -> ControlMessage {
        ControlMessage::List(self.list.after())
    }

    pub(super) fn state(&self) -> ListState {
        match self.followed {
            Followed::ByMore => ListState::Pending,
            _ if self.due != Due::No && self.has_transactions => ListState::Pending,
            Followed::ByNothing => ListState::Complete,
            Followed::ByUnknown => ListState::Incomplete,
        }
    }

    /// Handles a part of the list from the primary.
    ///
    /// # Errors
    /// An error of the primary, or of writing the received tids to a file.
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

    /// Whether the list must be written before a transaction of this kind: between two
    /// transactions not marked as packed, only the list records that others were dropped.
    pub(super) fn is_due_before(&self, is_packed: bool) -> bool {
        !is_packed && !self.after_packed && self.list.pending() > 0
    }

    /// Records a finished transaction.
    pub(super) fn finished(&mut self, tid: Tid, is_packed: bool) {
        self.after_packed = is_packed;
        self.has_transactions = true;
        if self.followed == Followed::ByNothing {
            self.known_to = self.known_to.max(tid);
        }
    }

    /// Whether the list should be written when the applier is idle. `is_level` is whether the
    /// storage has everything up to the primary's reported position.
    pub(super) fn is_due(&self, is_level: bool) -> bool {
        let is_due = self.due == Due::Yes && self.followed != Followed::ByMore;
        is_due && is_level || self.is_overdue()
    }

    /// Whether it must be written although more data is there.
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

    /// Whether it should be written at the end of the connection.
    pub(super) fn is_due_at_end(&self, finished: u64) -> bool {
        self.is_kept
            && (self.due != Due::No || finished > 0 && self.followed == Followed::ByNothing)
    }

    /// Records that another transaction or control message has arrived.
    pub(super) fn go_on(&mut self) {
        if self.due == Due::Later {
            self.due = Due::Yes;
        }
    }

    /// Writes the list. `last` is the last finished transaction.
    pub(super) fn write(&mut self, last: Tid) -> StorageResult<()> {
        let (received, known_to) = (&mut self.list, self.known_to);
        let mut is_all = false;
        let mut write = |file: &DataFile, end, durable: Tid, is_listing| {
            // Later tids may be in the list before they are in the file, but only for a time.
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

    /// Logs that this connection gives up on the list.
    pub(super) fn give_up(&self, error: &dyn std::fmt::Display) {
        log_messages::list_not_kept(&self.place.path, error);
    }
}

impl std::fmt::Debug for ListKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListKeeper").finish_non_exhaustive()
    }
}
