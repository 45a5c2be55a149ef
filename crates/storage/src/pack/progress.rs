//! How far a pack has come, for other threads to look at while it works.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What a pack is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is being packed.
    Idle,
    /// Transactions up to the pack time are read: positions in the file.
    Reading,
    /// Objects are reached from the root: how many of those there are.
    Reaching,
    /// What is kept is copied: positions in the old file.
    Copying,
}

const PHASES: [Phase; 4] = [Phase::Idle, Phase::Reading, Phase::Reaching, Phase::Copying];

/// How far a pack has come. Its numbers may be of different moments.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// The phase, how much of it is done, and how much there is: bytes, or objects.
    pub fn look(&self) -> (Phase, u64, u64) {
        let phase = usize::from(self.phase.load(Ordering::Relaxed));
        (
            PHASES.get(phase).copied().unwrap_or(Phase::Idle),
            self.done.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed),
        )
    }

    pub(crate) fn begin(&self, phase: Phase, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub(super) fn done(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_is_seen() {
        let progress = Progress::default();
        assert_eq!(progress.look(), (Phase::Idle, 0, 0));
        for phase in PHASES {
            progress.begin(phase, 7);
            progress.done(3);
            assert_eq!(progress.look(), (phase, 3, 7));
        }
    }
}
