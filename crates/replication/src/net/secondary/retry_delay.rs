//! The delay between two rounds of attempts to connect.

use std::time::Duration;

/// The first delay after a connection was lost or could not be made.
const FIRST_DELAY: Duration = Duration::from_secs(1);

/// Delays that double up to a limit.
///
/// A session shorter than the limit does not reset the delay. Otherwise the secondary would
/// connect every second to a primary that accepts connections but cannot serve them.
#[derive(Debug)]
pub(super) struct RetryDelay {
    limit: Duration,
    next: Duration,
}

impl RetryDelay {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            next: limit.min(FIRST_DELAY),
        }
    }

    /// Returns the delay that begins now, and doubles the next one.
    pub(super) fn advance(&mut self) -> Duration {
        let delay = self.next;
        self.next = delay.saturating_mul(2).min(self.limit);
        delay
    }

    /// Resets the delay if a session lasted at least as long as the limit.
    pub(super) fn session_ended(&mut self, duration: Duration) {
        if duration >= self.limit {
            self.reset();
        }
    }

    /// Makes the next delay the first one again.
    pub(super) fn reset(&mut self) {
        self.next = self.limit.min(FIRST_DELAY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(retry_delay: &mut RetryDelay, count: usize) -> Vec<u64> {
        (0..count)
            .map(|_| retry_delay.advance().as_secs())
            .collect()
    }

    #[test]
    fn delays_double_from_one_second_to_the_limit() {
        let mut retry_delay = RetryDelay::new(Duration::from_secs(60));
        assert_eq!(delays(&mut retry_delay, 8), [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_short_limit_bounds_the_first_delay() {
        let limit = Duration::from_millis(200);
        let mut retry_delay = RetryDelay::new(limit);
        assert_eq!(
            [retry_delay.advance(), retry_delay.advance()],
            [limit, limit]
        );
    }

    #[test]
    fn only_a_session_of_the_limit_resets_the_delay() {
        let mut retry_delay = RetryDelay::new(Duration::from_secs(10));
        assert_eq!(delays(&mut retry_delay, 3), [1, 2, 4]);
        retry_delay.session_ended(Duration::from_secs(9));
        assert_eq!(delays(&mut retry_delay, 1), [8]);
        retry_delay.session_ended(Duration::from_secs(10));
        assert_eq!(delays(&mut retry_delay, 2), [1, 2]);
        retry_delay.reset();
        assert_eq!(delays(&mut retry_delay, 2), [1, 2]);
    }
}
