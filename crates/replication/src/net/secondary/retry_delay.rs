//! How long a secondary waits between two rounds of attempts to connect.

use std::time::Duration;

/// The first pause after a connection was lost or could not be made.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Pauses that begin short and double up to a limit. No pause exceeds the limit.
///
/// A session that ends earlier than the limit leaves the length of the next pause as it is: a
/// primary that accepts connections and cannot serve them must not be asked every second.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Duration,
    next: Duration,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            next: limit.min(FIRST_PAUSE),
        }
    }

    /// The length of the pause that begins now.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.limit);
        pause
    }

    /// Notes that a connection stood for `duration`.
    pub(super) fn session_ended(&mut self, duration: Duration) {
        if duration >= self.limit {
            self.reset();
        }
    }

    /// Makes the next pause a short one: there is another target.
    pub(super) fn reset(&mut self) {
        self.next = self.limit.min(FIRST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(patience: &mut Patience, count: usize) -> Vec<u64> {
        (0..count).map(|_| patience.pause().as_secs()).collect()
    }

    #[test]
    fn pauses_grow_from_a_second_to_the_limit() {
        let mut patience = Patience::new(Duration::from_secs(60));
        assert_eq!(pauses(&mut patience, 8), [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn no_pause_is_longer_than_a_short_limit() {
        let limit = Duration::from_millis(200);
        let mut patience = Patience::new(limit);
        assert_eq!([patience.pause(), patience.pause()], [limit, limit]);
    }

    #[test]
    fn only_a_session_as_long_as_the_limit_makes_the_next_pause_short() {
        let mut patience = Patience::new(Duration::from_secs(10));
        assert_eq!(pauses(&mut patience, 3), [1, 2, 4]);
        patience.session_ended(Duration::from_secs(9));
        assert_eq!(pauses(&mut patience, 1), [8]);
        patience.session_ended(Duration::from_secs(10));
        assert_eq!(pauses(&mut patience, 2), [1, 2]);
        patience.reset();
        assert_eq!(pauses(&mut patience, 2), [1, 2]);
    }
}
