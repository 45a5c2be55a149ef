//! Access to a primary's stream from other threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::Feed;
use zrs_ids::Tid;

/// A handle of a stream, for other threads.
#[derive(Clone, Debug)]
pub struct StreamHandle {
    pub(super) feed: Arc<Feed>,
    pub(super) stopped: Arc<AtomicBool>,
    pub(super) capability_offered: Arc<AtomicBool>,
    /// The tid after which the secondary requests dropped transactions.
    pub(super) asked: Arc<Mutex<Option<Tid>>>,
}

impl StreamHandle {
    /// Makes the stream send the dropped transactions after `after`. Only the first call has an
    /// effect.
    pub fn list(&self, after: Tid) {
        self.asked.lock().get_or_insert(after);
        self.feed.wake();
    }

    /// Makes the stream send its greeting before the next transaction: the secondary has offered
    /// its capabilities.
    pub fn capability_offered(&self) {
        self.capability_offered.store(true, Ordering::Release);
        self.feed.wake();
    }

    /// Ends the stream, also while it waits or searches.
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
