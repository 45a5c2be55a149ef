//! The lock that a commit holds from its beginning to its end, among the threads of a process.
//!
//! It is built on the standard library's lock and condition, as they keep no table of waiting
//! threads. `parking_lot` has one for the whole process: a forked child that released a lock
//! would follow it to threads that do not exist there, and hand the lock to one of them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Held by one commit, or by the end of a pack. Any thread may release it.
#[derive(Default)]
pub struct CommitLock {
    lock: Mutex<Lock>,
    released: Condvar,
}

#[derive(Default)]
struct Lock {
    held: bool,
    /// The number of threads that wait for it.
    waiting: usize,
    /// The number of times it was taken.
    taken: u64,
}

impl Lock {
    fn take(&mut self) {
        self.held = true;
        self.taken = self.taken.wrapping_add(1);
    }
}

impl CommitLock {
    /// Take the lock; waits without limit.
    pub fn acquire(self: &Arc<Self>) -> CommitGuard {
        let mut lock = self.lock();
        lock.waiting += 1;
        while lock.held {
            lock = unpoisoned(self.released.wait(lock));
        }
        lock.waiting -= 1;
        lock.take();
        CommitGuard(Arc::clone(self))
    }

    /// Take the lock after one currently waiting thread has had it; for callers that would
    /// otherwise starve others.
    pub fn acquire_fair(self: &Arc<Self>) -> CommitGuard {
        let mut lock = self.lock();
        let taken = lock.taken;
        // Taking the lock notifies no one; releasing it does.
        while lock.waiting > 0 && lock.taken == taken {
            lock = unpoisoned(self.released.wait(lock));
        }
        drop(lock);
        self.acquire()
    }

    /// Take the lock, or return `None` if it is not free within `timeout`.
    pub fn acquire_within(self: &Arc<Self>, timeout: Duration) -> Option<CommitGuard> {
        let mut lock = self.lock();
        if lock.held {
            lock.waiting += 1;
            let busy = |lock: &mut Lock| lock.held;
            let waited = self.released.wait_timeout_while(lock, timeout, busy);
            lock = unpoisoned(waited).0;
            lock.waiting -= 1;
        }
        if lock.held {
            // `acquire_fair` need not wait for this thread any longer.
            self.released.notify_all();
            return None;
        }
        lock.take();
        Some(CommitGuard(Arc::clone(self)))
    }

    /// Whether the lock is held at this moment.
    pub fn is_held(&self) -> bool {
        self.lock().held
    }

    fn lock(&self) -> MutexGuard<'_, Lock> {
        unpoisoned(self.lock.lock())
    }
}

/// The value of a lock under which nothing can panic.
fn unpoisoned<T>(locked: Result<T, PoisonError<T>>) -> T {
    locked.unwrap_or_else(PoisonError::into_inner)
}

/// Releases the lock when it is dropped.
pub struct CommitGuard(Arc<CommitLock>);

impl Drop for CommitGuard {
    fn drop(&mut self) {
        self.0.lock().held = false;
        // All, because one of them may be in `acquire_fair`.
        self.0.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fair_acquisition_lets_a_waiting_thread_go_first() {
        let lock = Arc::new(CommitLock::default());
        let guard = lock.acquire();
        let waiter = {
            let lock = Arc::clone(&lock);
            std::thread::spawn(move || drop(lock.acquire()))
        };
        while lock.lock().waiting == 0 {
            std::thread::yield_now();
        }
        let taken = lock.lock().taken;
        drop(guard);
        drop(lock.acquire_fair());
        assert_eq!(lock.lock().taken, taken + 2);
        waiter.join().unwrap();
    }

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

    #[test]
    fn a_released_lock_can_be_taken_within_a_timeout() {
        let lock = Arc::new(CommitLock::default());
        let guard = lock.acquire_within(Duration::ZERO);
        assert!(guard.is_some());
        assert!(lock.acquire_within(Duration::ZERO).is_none());
        drop(guard);
        assert!(lock.acquire_within(Duration::ZERO).is_some());
    }
}
