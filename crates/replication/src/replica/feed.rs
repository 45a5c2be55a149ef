//! Which transactions of a storage may be shipped.
//!
//! A primary publishes a transaction when its storage's `tpc_finish` has returned, that is
//! when it is durable; streams ship no further. Publishing takes one short lock and never
//! waits for a stream.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::blobs::{BlobError, BlobReader, Blobs};
use super::divergence::Findings;
use super::log_messages;
use zrs_ids::Tid;
use zrs_storage::error::StorageError;
use zrs_storage::{DataRecord, OpenFile, SeekHints};
use zrs_vfs::Vfs;

/// How many of the last transactions a feed remembers, to tell how far behind a secondary is.
const REMEMBERED: usize = 1 << 14;

/// How often a primary says how far it is.
pub const PULSE: Duration = Duration::from_secs(1);

/// How far streams may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The last transaction that may be shipped.
    pub tid: Tid,
    /// A position of the file at which some finished transaction ends, a hint for searches.
    pub end: Option<u64>,
    /// Nothing will follow.
    pub finished: bool,
    /// How often [`Feed::pulse`] was called.
    pub pulses: u64,
    /// How often [`Feed::list_changed`] was called.
    pub lists: u64,
    /// Rises with every change.
    version: u64,
}

/// What a secondary lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// How many transactions; `None` if they are more than the feed remembers.
    pub transactions: Option<u64>,
    /// How many bytes of the file, where both ends are known.
    pub bytes: Option<u64>,
    /// The first of the transactions, or, where it is not remembered, the last one before.
    pub since: Option<Tid>,
}

/// The transactions published last, in the order of their tids.
#[derive(Debug)]
struct Recent {
    /// All after this one are remembered.
    floor: Tid,
    tids: VecDeque<Tid>,
    /// How many were ever added.
    added: u64,
}

impl Recent {
    fn add(&mut self, tid: Tid) {
        // Threads that commit one after the other may publish the other way round.
        let at = self.tids.partition_point(|&known| known < tid);
        if tid <= self.floor || self.tids.get(at) == Some(&tid) {
            return;
        }
        self.tids.insert(at, tid);
        self.added += 1;
        if self.tids.len() > REMEMBERED {
            self.floor = self.tids.pop_front().unwrap_or(self.floor);
        }
    }

    fn after(&self, tid: Tid) -> (Option<u64>, Option<Tid>) {
        let at = self.tids.partition_point(|&known| known <= tid);
        if tid < self.floor {
            return (None, Some(tid));
        }
        let count = u64::try_from(self.tids.len() - at).ok();
        (count, self.tids.get(at).copied())
    }
}

/// What a primary has to ship.
#[derive(Debug)]
pub struct Feed {
    path: PathBuf,
    seek_hints: Option<SeekHints>,
    blobs: Option<Blobs>,
    published: Watched,
    recent: Mutex<Recent>,
    findings: Findings,
    refuses_unverified: bool,
    /// Which file the storage has open, where that can be asked for.
    open_file: Option<OpenFile>,
    /// Whether the path was found not to lead to that file.
    displaced: AtomicBool,
}

impl Feed {
    /// The feed of the `Data.fs` at `path`, whose last finished transaction is `tid`.
    pub fn new(path: PathBuf, tid: Tid, end: Option<u64>) -> Self {
        let published = Published {
            tid,
            end,
            finished: false,
            pulses: 0,
            lists: 0,
            version: 0,
        };
        Self {
            path,
            seek_hints: None,
            blobs: None,
            published: Watched::new(published),
            recent: Mutex::new(Recent {
                floor: tid,
                tids: VecDeque::new(),
                added: 0,
            }),
            findings: Findings::default(),
            refuses_unverified: false,
            open_file: None,
            displaced: AtomicBool::new(false),
        }
    }

    /// Refuses secondaries whose last transaction may have been dropped by a pack that has
    /// left no list.
    #[must_use]
    pub fn refusing_unverified(mut self) -> Self {
        self.refuses_unverified = true;
        self
    }

    pub(super) fn refuses_unverified(&self) -> bool {
        self.refuses_unverified
    }

    /// Ships only from the file that the storage has open.
    #[must_use]
    pub fn with_open_file(mut self, open_file: OpenFile) -> Self {
        self.open_file = Some(open_file);
        self
    }

    /// Which file the storage has open, where that can be asked for.
    pub(super) fn open_file(&self) -> Option<&OpenFile> {
        self.open_file.as_ref()
    }

    /// Look whether the path still leads to the file that the storage has open. If it does not,
    /// that is logged once, and [`Self::is_displaced`].
    pub fn check_place(&self, vfs: &dyn Vfs) {
        let Some(open_file) = &self.open_file else {
            return;
        };
        // What the system cannot tell now is asked again.
        match open_file.is_at(vfs, &self.path) {
            Err(error @ StorageError::Displaced { .. }) => {
                if !self.displaced.swap(true, Ordering::AcqRel) {
                    log_messages::displaced(&error);
                }
            }
            Ok(true) => self.displaced.store(false, Ordering::Release),
            Ok(false) | Err(_) => {}
        }
    }

    /// Whether the path was found to lead to another file than the one that the storage has
    /// open, or to nothing.
    pub fn is_displaced(&self) -> bool {
        self.displaced.load(Ordering::Acquire)
    }

    /// Ships blobs too.
    #[must_use]
    pub fn with_blobs(mut self, blobs: Blobs) -> Self {
        self.blobs = Some(blobs);
        self
    }

    /// Streams that start in the middle of the file look there.
    #[must_use]
    pub fn with_seek_hints(mut self, seek_hints: SeekHints) -> Self {
        self.seek_hints = Some(seek_hints);
        self
    }

    /// What is known of the places of transactions in the file.
    pub(super) fn seek_hints(&self) -> Option<&SeekHints> {
        self.seek_hints.as_ref()
    }

    /// Whether secondaries must store blobs.
    pub fn ships_blobs(&self) -> bool {
        self.blobs.is_some()
    }

    /// The blob of this record, if it has one that is to be shipped to `peer`.
    pub(super) fn open_blob(
        &self,
        vfs: &dyn Vfs,
        record: &DataRecord,
        peer: &str,
    ) -> Result<Option<BlobReader>, BlobError> {
        match &self.blobs {
            Some(blobs) => blobs.open(vfs, record, |missing| {
                log_messages::blob_left_out(&self.findings, peer, missing);
            }),
            None => Ok(None),
        }
    }

    /// The forks that were found among the secondaries.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How far streams may go now.
    pub fn published(&self) -> Published {
        *self.published.lock()
    }

    /// Lets streams ship up to `tid`. A lower tid than before changes nothing.
    pub fn publish(&self, tid: Tid, end: Option<u64>) {
        self.recent.lock().add(tid);
        self.change(|published| {
            published.tid = published.tid.max(tid);
            published.end = end;
        });
    }

    /// Lets streams ship transactions, the last of which ends at `end`.
    pub fn publish_all(&self, tids: &[Tid], end: u64) {
        let Some(last) = tids.last() else { return };
        let mut recent = self.recent.lock();
        for tid in tids {
            recent.add(*tid);
        }
        drop(recent);
        self.publish(*last, Some(end));
    }

    /// How many transactions were published since the feed was made, each counted once.
    pub fn commits(&self) -> u64 {
        self.recent.lock().added
    }

    /// What a secondary lacks that has all up to `tid`, which ends at `position`.
    pub fn lag(&self, tid: Tid, position: Option<u64>) -> Lag {
        let published = self.published();
        if published.tid <= tid {
            return Lag {
                transactions: Some(0),
                bytes: Some(0),
                since: None,
            };
        }
        let (transactions, since) = self.recent.lock().after(tid);
        Lag {
            transactions,
            bytes: published
                .end
                .zip(position)
                .map(|(end, position)| end.saturating_sub(position)),
            since,
        }
    }

    /// How many blobs were to be shipped whose files were missing.
    pub fn missing_blobs(&self) -> u64 {
        self.blobs.as_ref().map_or(0, Blobs::missing_count)
    }

    /// Says that nothing will follow.
    pub fn finish(&self) {
        self.change(|published| published.finished = true);
    }

    /// Makes every stream say how far the primary is; the driver calls this every [`PULSE`].
    pub fn pulse(&self) {
        self.change(|published| published.pulses += 1);
    }

    /// Says that another list of dropped transactions is beside the file.
    pub fn list_changed(&self) {
        self.change(|published| published.lists += 1);
    }

    /// Makes every waiting stream look again.
    pub fn wake(&self) {
        self.change(|_| {});
    }

    /// Waits until something has changed since `seen`.
    pub fn wait(&self, seen: Published) {
        self.published.wait(seen, None);
    }

    /// Waits likewise, but no longer than `timeout`.
    pub fn wait_for(&self, seen: Published, timeout: Duration) {
        self.published.wait(seen, Some(timeout));
    }

    fn change(&self, change: impl FnOnce(&mut Published)) {
        let mut published = self.published.lock();
        change(&mut published);
        published.version += 1;
        drop(published);
        self.published.changed.notify_all();
    }
}

/// What is published, for threads that wait for it to change.
///
/// With the standard library's locks: streams wait here for as long as there are no commits,
/// also while the process forks. `parking_lot` keeps who waits in a table of the whole
/// process, so in the child it would find threads there that are gone, and whose memory new
/// ones have.
#[derive(Debug)]
struct Watched {
    published: std::sync::Mutex<Published>,
    changed: std::sync::Condvar,
}

impl Watched {
    fn new(published: Published) -> Self {
        Self {
            published: std::sync::Mutex::new(published),
            changed: std::sync::Condvar::new(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Published> {
        // Nothing that could panic is done under this lock.
        let locked = self.published.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, seen: Published, timeout: Option<Duration>) {
        let mut published = self.lock();
        while published.version == seen.version {
            let waited = match timeout {
                None => self.changed.wait(published),
                Some(timeout) => match self.changed.wait_timeout(published, timeout) {
                    Ok(_) | Err(_) => return,
                },
            };
            published = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tid(number: u64) -> Tid {
        Tid::from_u64(number)
    }

    fn lag(feed: &Feed, at: u64) -> (Option<u64>, Option<Tid>) {
        let lag = feed.lag(tid(at), None);
        (lag.transactions, lag.since)
    }

    #[test]
    fn lag_is_counted_from_what_was_published() {
        let feed = Feed::new(PathBuf::new(), tid(10), Some(100));
        assert_eq!(lag(&feed, 10), (Some(0), None));
        assert_eq!(lag(&feed, 9), (None, Some(tid(9))));
        // Two threads may publish in either order, and one transaction twice.
        for published in [13, 11, 12, 12] {
            feed.publish(tid(published), Some(published * 10));
        }
        assert_eq!(feed.commits(), 3);
        assert_eq!(lag(&feed, 10), (Some(3), Some(tid(11))));
        assert_eq!(lag(&feed, 12), (Some(1), Some(tid(13))));
        assert_eq!(lag(&feed, 13), (Some(0), None));
        assert_eq!(feed.lag(tid(11), Some(50)).bytes, Some(70));
    }

    #[test]
    fn a_feed_remembers_no_more_than_it_may() {
        let feed = Feed::new(PathBuf::new(), tid(0), None);
        let count = u64::try_from(REMEMBERED).unwrap();
        for number in 1..=count + 5 {
            feed.publish(tid(number), None);
        }
        assert_eq!(feed.recent.lock().tids.len(), REMEMBERED);
        assert_eq!(lag(&feed, 4), (None, Some(tid(4))));
        assert_eq!(lag(&feed, 5), (Some(count), Some(tid(6))));
    }
}
