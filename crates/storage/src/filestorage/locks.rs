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
    lock: Mutex<Lock>,
    released: Condvar,
}

#[derive(Default)]
struct Lock {
    held: bool,
    /// How many threads wait for it.
    waiting: usize,
    /// How often it was taken.
    taken: u64,
}

impl Lock {
    fn take(&mut self) {
        self.held = true;
        self.taken = self.taken.wrapping_add(1);
    }
}

impl CommitLock {
    /// Take the lock; waits as long as it takes.
    pub fn acquire(self: &Arc<Self>) -> CommitGuard {
        let mut lock = self.lock.lock();
        lock.waiting += 1;
        while lock.held {
            self.released.wait(&mut lock);
        }
        lock.waiting -= 1;
        lock.take();
        CommitGuard(Arc::clone(self))
    }

    /// Take the lock when a thread that waits for it now has had it: for who takes it so
    /// often that others would never get it.
    pub fn acquire_politely(self: &Arc<Self>) -> CommitGuard {
        let mut lock = self.lock.lock();
        let taken = lock.taken;
        // Who takes it notifies nobody, but will when it is released.
        let not_taken = |lock: &mut Lock| lock.waiting > 0 && lock.taken == taken;
        self.released.wait_while(&mut lock, not_taken);
        drop(lock);
        self.acquire()
    }

    /// Take the lock, or `None` if it is not free within `patience`.
    pub fn acquire_within(self: &Arc<Self>, patience: Duration) -> Option<CommitGuard> {
        let mut lock = self.lock.lock();
        if lock.held {
            lock.waiting += 1;
            let busy = |lock: &mut Lock| lock.held;
            self.released.wait_while_for(&mut lock, busy, patience);
            lock.waiting -= 1;
        }
        if lock.held {
            // Nobody need be polite to this one any more.
            self.released.notify_all();
            return None;
        }
        lock.take();
        Some(CommitGuard(Arc::clone(self)))
    }

    /// Whether somebody holds the lock at this moment.
    pub fn is_held(&self) -> bool {
        self.lock.lock().held
    }
}

/// The lock is held as long as this lives.
pub struct CommitGuard(Arc<CommitLock>);

impl Drop for CommitGuard {
    fn drop(&mut self) {
        self.0.lock.lock().held = false;
        // All, since one that is polite may be among them.
        self.0.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_polite_lets_others_have_it() {
        let lock = Arc::new(CommitLock::default());
        let guard = lock.acquire();
        let waiter = {
            let lock = Arc::clone(&lock);
            std::thread::spawn(move || drop(lock.acquire()))
        };
        while lock.lock.lock().waiting == 0 {
            std::thread::yield_now();
        }
        let taken = lock.lock.lock().taken;
        drop(guard);
        drop(lock.acquire_politely());
        assert_eq!(lock.lock.lock().taken, taken + 2);
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
}
