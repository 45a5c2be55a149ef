//! The lock that a commit holds from its beginning to its end.
//!
//! Lock order, see docs/locking.md: commit lock, then the gate, then the state.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Held by one commit, or by the end of a pack. Whoever holds it may release it from
/// another thread than the one that took it.
#[derive(Default)]
pub struct CommitLock {
    held: Mutex<bool>,
    released: Condvar,
}

impl CommitLock {
    /// Take the lock; waits as long as it takes.
    pub fn acquire(self: &Arc<Self>) -> CommitGuard {
        let mut held = self.held.lock();
        while *held {
            self.released.wait(&mut held);
        }
        *held = true;
        CommitGuard(Arc::clone(self))
    }

    /// Take the lock, or `None` if it is not free within `patience`.
    pub fn acquire_within(self: &Arc<Self>, patience: Duration) -> Option<CommitGuard> {
        let mut held = self.held.lock();
        if *held {
            let busy = |held: &mut bool| *held;
            self.released.wait_while_for(&mut held, busy, patience);
        }
        if *held {
            return None;
        }
        *held = true;
        Some(CommitGuard(Arc::clone(self)))
    }

    /// Whether somebody holds the lock at this moment.
    pub fn is_held(&self) -> bool {
        *self.held.lock()
    }
}

/// The lock is held as long as this lives.
pub struct CommitGuard(Arc<CommitLock>);

impl Drop for CommitGuard {
    fn drop(&mut self) {
        *self.0.held.lock() = false;
        self.0.released.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_any_thread_may_release() {
        let lock = Arc::new(CommitLock::default());
        let guard = lock.acquire();
        assert!(lock.acquire_within(Duration::from_millis(1)).is_none());
        let waiter = {
            let lock = Arc::clone(&lock);
            std::thread::spawn(move || drop(lock.acquire()))
        };
        std::thread::spawn(move || drop(guard)).join().unwrap();
        waiter.join().unwrap();
        assert!(!lock.is_held());
    }
}
