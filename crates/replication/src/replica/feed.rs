//! Which transactions of a storage may be sent.
//!
//! A primary publishes a transaction when its storage's `tpc_finish` has returned, that is,
//! when it is durable. Streams send nothing beyond it. Publishing takes one short lock and
//! never waits for a stream.

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

/// The number of recent transactions that a feed remembers, to compute the lag of secondaries.
const REMEMBERED: usize = 1 << 14;

/// The interval of heartbeats.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// The position up to which streams may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The last transaction that may be sent.
    pub tid: Tid,
    /// The end of some finished transaction in the file, a hint for searches.
    pub end: Option<u64>,
    /// Whether the feed is finished: nothing will follow.
    pub finished: bool,
    /// The number of calls of [`Feed::heartbeat`].
    pub heartbeats: u64,
    /// The number of calls of [`Feed::list_changed`].
    pub lists: u64,
    /// Increases with every change.
    version: u64,
}

/// How far a secondary lags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The number of missing transactions; `None` if they are more than the feed remembers.
    pub transactions: Option<u64>,
    /// The number of missing bytes of the file, if both ends are known.
    pub bytes: Option<u64>,
    /// The first missing transaction; if it is not remembered, the last one before it.
    pub since: Option<Tid>,
}

/// The most recently published transactions, in the order of their tids.
#[derive(Debug)]
struct Recent {
    /// Every transaction after this one is remembered.
    floor: Tid,
    tids: VecDeque<Tid>,
    /// The number of transactions ever added.
    added: u64,
}

impl Recent {
    fn add(&mut self, tid: Tid) {
        // Threads that commit one after the other may publish in reverse order.
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

/// The transactions that a primary may send, and the file that has them.
#[derive(Debug)]
pub struct Feed {
    path: PathBuf,
    seek_hints: Option<SeekHints>,
    blobs: Option<Blobs>,
    published: Watched,
    recent: Mutex<Recent>,
    findings: Findings,
    refuses_unverified: bool,
    /// Returns the identity of the file that the storage has open, if that is possible.
    open_file: Option<OpenFile>,
    /// Whether the path was found to name another file.
    displaced: AtomicBool,
}

impl Feed {
    /// The feed of the `Data.fs` at `path`, whose last finished transaction is `tid`.
    pub fn new(path: PathBuf, tid: Tid, end: Option<u64>) -> Self {
        let published = Published {
            tid,
            end,
            finished: false,
            heartbeats: 0,
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

    /// Sends only from the file that the storage has open.
    #[must_use]
    pub fn with_open_file(mut self, open_file: OpenFile) -> Self {
        self.open_file = Some(open_file);
        self
    }

    /// Returns the identity of the file that the storage has open, if that is possible.
    pub(super) fn open_file(&self) -> Option<&OpenFile> {
        self.open_file.as_ref()
    }

    /// Checks that the path still names the file that the storage has open. If it does not, this
    /// is logged once, and [`Self::is_displaced`] returns true.
    pub fn check_place(&self, vfs: &dyn Vfs) {
        let Some(open_file) = &self.open_file else {
            return;
        };
        // After an error of the system the next call checks again.
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

    /// Whether the path was found to name a file other than the one that the storage has open,
    /// or no file.
    pub fn is_displaced(&self) -> bool {
        self.displaced.load(Ordering::Acquire)
    }

    /// Sends blobs too.
    #[must_use]
    pub fn with_blobs(mut self, blobs: Blobs) -> Self {
        self.blobs = Some(blobs);
        self
    }

    /// Sets seek hints for streams that start in the middle of the file.
    #[must_use]
    pub fn with_seek_hints(mut self, seek_hints: SeekHints) -> Self {
        self.seek_hints = Some(seek_hints);
        self
    }

    /// The seek hints.
    pub(super) fn seek_hints(&self) -> Option<&SeekHints> {
        self.seek_hints.as_ref()
    }

    /// Whether secondaries must store blobs.
    pub fn ships_blobs(&self) -> bool {
        self.blobs.is_some()
    }

    /// The blob of this record, if it has one that is to be sent to `peer`.
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

    /// The forks found among the secondaries.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The position up to which streams may send now.
    pub fn published(&self) -> Published {
        *self.published.lock()
    }

    /// Lets streams send up to `tid`. A lower tid than before has no effect.
    pub fn publish(&self, tid: Tid, end: Option<u64>) {
        self.recent.lock().add(tid);
        self.change(|published| {
            published.tid = published.tid.max(tid);
            published.end = end;
        });
    }

    /// Lets streams send these transactions, the last of which ends at `end`.
    pub fn publish_all(&self, tids: &[Tid], end: u64) {
        let Some(last) = tids.last() else { return };
        let mut recent = self.recent.lock();
        for tid in tids {
            recent.add(*tid);
        }
        drop(recent);
        self.publish(*last, Some(end));
    }

    /// The number of transactions published since the feed was created, each counted once.
    pub fn commits(&self) -> u64 {
        self.recent.lock().added
    }

    /// The lag of a secondary whose last transaction is `tid`, which ends at `position`.
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

    /// The number of blobs to be sent whose files were missing.
    pub fn missing_blobs(&self) -> u64 {
        self.blobs.as_ref().map_or(0, Blobs::missing_count)
    }

    /// Finishes the feed: nothing will follow.
    pub fn finish(&self) {
        self.change(|published| published.finished = true);
    }

    /// Makes every stream send a heartbeat. The driver calls this every [`HEARTBEAT_INTERVAL`].
    pub fn heartbeat(&self) {
        self.change(|published| published.heartbeats += 1);
    }

    /// Announces that the list of dropped transactions next to the file was replaced.
    pub fn list_changed(&self) {
        self.change(|published| published.lists += 1);
    }

    /// Wakes every waiting stream.
    pub fn wake(&self) {
        self.change(|_| {});
    }

    /// Waits until the feed has changed since `seen`.
    pub fn wait(&self, seen: Published) {
        self.published.wait(seen, None);
    }

    /// Waits until the feed has changed since `seen`, at most for `timeout`.
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

/// The published position, for threads that wait until it changes.
///
/// It uses the standard library's locks: streams wait here until the next commit, also while the
/// process forks. `parking_lot` records waiting threads in a table of the whole process, so in a
/// forked child it would find threads there that no longer exist, and whose memory has new
/// owners.
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
        // No code that could panic runs under this lock.
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
