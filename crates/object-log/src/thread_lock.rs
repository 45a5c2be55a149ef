//! The lock that the threads of a process take before the file's lock.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// A lock that a thread other than its holder may release.
#[derive(Default)]
pub(super) struct ThreadLock {
    held: Mutex<bool>,
    released: Condvar,
}

impl ThreadLock {
    /// Take the lock; false if it is not released within `timeout`.
    pub(super) fn acquire_within(&self, timeout: Duration) -> bool {
        let mut held = self.held.lock();
        if *held {
            let busy = |held: &mut bool| *held;
            self.released.wait_while_for(&mut held, busy, timeout);
        }
        !std::mem::replace(&mut *held, true)
    }

    pub(super) fn release(&self) {
        *self.held.lock() = false;
        self.released.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_thread_at_a_time_holds_the_lock() {
        let lock = ThreadLock::default();
        let timeout = Duration::from_millis(1);
        assert!(lock.acquire_within(timeout));
        assert!(!lock.acquire_within(timeout));
        lock.release();
        assert!(lock.acquire_within(timeout));
    }
}
