//! Counters: totals, rates, and errors. Time is an argument.

use std::collections::BTreeMap;

use crate::replica::log_messages;

/// Number of full seconds over which a rate is averaged.
const WINDOW: usize = 10;

/// Events per second.
#[derive(Clone, Debug, Default)]
struct Rate {
    /// Events of the current second and the previous ones, indexed by the second modulo the
    /// number of slots.
    seconds: [u64; WINDOW + 1],
    current: u64,
}

impl Rate {
    fn add(&mut self, second: u64, count: u64) {
        self.advance(second);
        *self.slot(second) += count;
    }

    fn per_second(&mut self, second: u64) -> f64 {
        self.advance(second);
        let unfinished = *self.slot(second);
        let total = self.seconds.iter().sum::<u64>() - unfinished;
        // Exact below 2⁵³ events.
        #[expect(
            clippy::cast_precision_loss,
            reason = "a displayed rate may be inexact"
        )]
        let rate = total as f64 / WINDOW as f64;
        rate
    }

    fn advance(&mut self, second: u64) {
        let gone = second.saturating_sub(self.current).min(WINDOW as u64 + 1);
        for back in 0..gone {
            *self.slot(second - back) = 0;
        }
        self.current = self.current.max(second);
    }

    fn slot(&mut self, second: u64) -> &mut u64 {
        let at = usize::try_from(second % (WINDOW as u64 + 1)).unwrap_or_default();
        &mut self.seconds[at]
    }
}

/// Transactions and bytes transferred on one connection, or on all of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic {
    transactions: u64,
    bytes: u64,
    transaction_rate: Rate,
    byte_rate: Rate,
}

/// Totals and rates of transactions and bytes, for a status.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TrafficStatus {
    /// Total number of transactions.
    pub transactions: u64,
    /// Total number of bytes.
    pub bytes: u64,
    /// Average over the last ten seconds.
    pub transactions_per_second: f64,
    /// Average over the last ten seconds.
    pub bytes_per_second: f64,
}

impl Traffic {
    pub(super) fn add(&mut self, second: u64, transactions: u64, bytes: u64) {
        self.transactions += transactions;
        self.bytes += bytes;
        self.transaction_rate.add(second, transactions);
        self.byte_rate.add(second, bytes);
    }

    pub(super) fn status(&mut self, second: u64) -> TrafficStatus {
        TrafficStatus {
            transactions: self.transactions,
            bytes: self.bytes,
            transactions_per_second: self.transaction_rate.per_second(second),
            bytes_per_second: self.byte_rate.per_second(second),
        }
    }
}

/// The most recent error.
#[derive(Clone, Debug, PartialEq)]
pub struct LastError {
    /// Time of the error, in seconds since 1970.
    pub time: f64,
    /// Name of the peer, as in the log.
    pub peer: String,
    /// The error message, as in the log.
    pub message: String,
}

/// Counts of errors, and the last one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorStats {
    /// Number of errors.
    pub count: u64,
    /// Number of errors by kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// The last error.
    pub last: Option<LastError>,
}

impl ErrorStats {
    pub(super) fn add(&mut self, kind: &'static str, time: f64, peer: &str, message: String) {
        self.count += 1;
        *self.kinds.entry(kind).or_default() += 1;
        self.last = Some(LastError {
            time,
            peer: peer.to_owned(),
            message: log_messages::cut(message),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "these averages are exact")]
    fn a_rate_is_the_average_of_the_last_full_seconds() {
        let mut rate = Rate::default();
        rate.add(100, 30);
        assert_eq!(rate.per_second(100), 0.0, "the current second is not over");
        assert_eq!(rate.per_second(101), 3.0);
        rate.add(105, 20);
        assert_eq!(rate.per_second(110), 5.0);
        assert_eq!(rate.per_second(111), 2.0);
        assert_eq!(rate.per_second(116), 0.0);
        rate.add(1000, 10);
        assert_eq!(rate.per_second(1001), 1.0);
        // A thread may have read the clock earlier than a faster one.
        rate.add(1000, 10);
        assert_eq!(rate.per_second(1001), 2.0);
    }

    #[test]
    fn errors_are_counted_by_kind() {
        let mut errors = ErrorStats::default();
        errors.add("protocol", 1.0, "a", "bad".to_owned());
        errors.add("network", 2.0, "b", "lost".to_owned());
        errors.add("network", 3.0, "c", "lost again".to_owned());
        assert_eq!(errors.count, 3);
        assert_eq!(errors.kinds[&"network"], 2);
        let last = errors.last.unwrap();
        assert_eq!(
            (last.peer.as_str(), last.message.as_str()),
            ("c", "lost again")
        );
    }
}
