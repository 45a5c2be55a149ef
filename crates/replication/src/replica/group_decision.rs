//! When a secondary makes finished transactions visible, and when durable.

use std::time::Duration;

/// What an applier should do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupDecision {
    /// Make the pending transactions visible.
    Flush,
    /// Make the visible transactions durable.
    SyncStatus,
    /// Apply what arrives. Decide again after this much time without data, if it is given.
    Wait(Option<Duration>),
}

/// Maximum size of a group, in bytes.
const GROUP: u64 = 8 << 20;
/// Maximum time that a finished transaction waits for others to join its group.
const GROUP_TIME: Duration = Duration::from_millis(50);
/// A group smaller than this, in bytes, becomes visible when no more data is there.
const SMALL: u64 = 64 << 10;
/// More data usually arrives within this time.
const GAP: Duration = Duration::from_millis(2);

/// Decides when to make finished transactions visible, and when to sync the last of them.
///
/// `waiting` bytes are finished and not visible, the first of them since `waited`; no data has
/// arrived for `idle`, which is `None` if more data is already there.
pub(super) fn decide(
    waiting: u64,
    has_unsynced_status: bool,
    waited: Duration,
    idle: Option<Duration>,
) -> GroupDecision {
    match idle {
        _ if waiting >= GROUP => GroupDecision::Flush,
        _ if waiting > 0 && waited >= GROUP_TIME => GroupDecision::Flush,
        Some(idle) if waiting >= SMALL && idle < GAP => {
            GroupDecision::Wait(Some(GAP.saturating_sub(idle)))
        }
        Some(_) if waiting > 0 => GroupDecision::Flush,
        Some(idle) if has_unsynced_status && idle < GAP => {
            GroupDecision::Wait(Some(GAP.saturating_sub(idle)))
        }
        Some(_) if has_unsynced_status => GroupDecision::SyncStatus,
        _ => GroupDecision::Wait(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Option<Duration> = Some(Duration::ZERO);

    fn after(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_small_transaction_is_published_at_once_and_synced_soon() {
        assert_eq!(decide(700, false, after(0), NOW), GroupDecision::Flush);
        assert_eq!(
            decide(0, true, after(0), NOW),
            GroupDecision::Wait(Some(GAP))
        );
        assert_eq!(
            decide(0, true, after(0), Some(GAP)),
            GroupDecision::SyncStatus
        );
        assert_eq!(
            decide(0, false, after(0), Some(GAP)),
            GroupDecision::Wait(None)
        );
    }

    #[test]
    fn many_transactions_are_shown_together() {
        assert_eq!(
            decide(700, false, after(1), None),
            GroupDecision::Wait(None)
        );
        assert_eq!(
            decide(1 << 20, false, after(49), None),
            GroupDecision::Wait(None)
        );
        assert_eq!(
            decide(1 << 20, false, after(1), NOW),
            GroupDecision::Wait(Some(GAP))
        );
        assert_eq!(
            decide(1 << 20, true, after(3), Some(GAP)),
            GroupDecision::Flush
        );
    }

    #[test]
    fn a_group_has_its_bounds() {
        assert_eq!(decide(8 << 20, false, after(0), None), GroupDecision::Flush);
        assert_eq!(decide(1, false, after(50), None), GroupDecision::Flush);
        assert_eq!(decide(0, false, after(50), None), GroupDecision::Wait(None));
    }
}
