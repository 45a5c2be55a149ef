//! The progress of a pack, for other threads to read while the pack runs.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// The phase of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No pack is running.
    Idle,
    /// Transactions up to the pack time are being read, measured by the position in the file.
    Reading,
    /// Objects reachable from the root are being found, measured by their number.
    Reaching,
    /// Kept records are being copied, measured by the position in the old file.
    Copying,
}

const PHASES: [Phase; 4] = [Phase::Idle, Phase::Reading, Phase::Reaching, Phase::Copying];

/// The progress of a pack. Its numbers may have been set at different times.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// The phase, how much of it is done, and the total: bytes, or objects.
    pub fn snapshot(&self) -> (Phase, u64, u64) {
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
    fn a_snapshot_has_the_phase_that_was_begun() {
        let progress = Progress::default();
        assert_eq!(progress.snapshot(), (Phase::Idle, 0, 0));
        for phase in PHASES {
            progress.begin(phase, 7);
            progress.done(3);
            assert_eq!(progress.snapshot(), (phase, 3, 7));
        }
    }
}
