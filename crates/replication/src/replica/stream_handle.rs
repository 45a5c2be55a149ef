//! How other threads reach a primary's stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::Feed;
use zrs_ids::Tid;

/// Reaches a stream from another thread.
#[derive(Clone, Debug)]
pub struct StreamHandle {
    pub(super) feed: Arc<Feed>,
    pub(super) stopped: Arc<AtomicBool>,
    pub(super) capability_offered: Arc<AtomicBool>,
    /// From where on the secondary asks for dropped transactions.
    pub(super) asked: Arc<Mutex<Option<Tid>>>,
}

impl StreamHandle {
    /// Makes the stream tell of dropped transactions that are later than `after`. The first
    /// call counts.
    pub fn list(&self, after: Tid) {
        self.asked.lock().get_or_insert(after);
        self.feed.wake();
    }

    /// Makes the stream say hello, before the next transaction: the secondary has knocked.
    pub fn capability_offered(&self) {
        self.capability_offered.store(true, Ordering::Release);
        self.feed.wake();
    }

    /// Makes the stream end, also while it waits or searches.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.feed.wake();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(super) fn is_capability_offered(&self) -> bool {
        self.capability_offered.load(Ordering::Acquire)
    }

    pub(super) fn asked(&self) -> Option<Tid> {
        *self.asked.lock()
    }
}
