//! Counters: totals, rates, and what went wrong last. Time is an argument.

use std::collections::BTreeMap;

use crate::replica::log_messages;

/// How many full seconds a rate is the mean of.
const WINDOW: usize = 10;

/// Events per second.
#[derive(Clone, Debug, Default)]
struct Rate {
    /// The events of the present second and of those before, by the second's remainder.
    seconds: [u64; WINDOW + 1],
    present: u64,
}

impl Rate {
    fn add(&mut self, second: u64, count: u64) {
        self.advance(second);
        *self.slot(second) += count;
    }

    fn per_second(&mut self, second: u64) -> f64 {
        self.advance(second);
        let present = *self.slot(second);
        let total = self.seconds.iter().sum::<u64>() - present;
        // Fewer than 2⁵³ events are counted exactly.
        #[expect(
            clippy::cast_precision_loss,
            reason = "a rate is for people to look at"
        )]
        let rate = total as f64 / WINDOW as f64;
        rate
    }

    fn advance(&mut self, second: u64) {
        let gone = second.saturating_sub(self.present).min(WINDOW as u64 + 1);
        for back in 0..gone {
            *self.slot(second - back) = 0;
        }
        self.present = self.present.max(second);
    }

    fn slot(&mut self, second: u64) -> &mut u64 {
        let at = usize::try_from(second % (WINDOW as u64 + 1)).unwrap_or_default();
        &mut self.seconds[at]
    }
}

/// Transactions and bytes that went over a connection, or over all of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic {
    transactions: u64,
    bytes: u64,
    transaction_rate: Rate,
    byte_rate: Rate,
}

/// Transactions and bytes, as a status shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TrafficStatus {
    /// How many transactions went over, in all.
    pub transactions: u64,
    /// How many bytes.
    pub bytes: u64,
    /// Transactions in each of the last ten seconds, on average.
    pub transactions_per_second: f64,
    /// Bytes, likewise.
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

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    /// When, in seconds since 1970.
    pub time: f64,
    /// The peer with whom, as the log shows it.
    pub peer: String,
    /// What, as the log says it.
    pub message: String,
}

/// What went wrong.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Troubles {
    /// How often anything did.
    pub count: u64,
    /// How often each kind of thing did.
    pub kinds: BTreeMap<&'static str, u64>,
    /// What did last.
    pub last: Option<Trouble>,
}

impl Troubles {
    pub(super) fn add(&mut self, kind: &'static str, time: f64, peer: &str, message: String) {
        self.count += 1;
        *self.kinds.entry(kind).or_default() += 1;
        self.last = Some(Trouble {
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
    #[expect(clippy::float_cmp, reason = "these means are exact")]
    fn a_rate_is_the_mean_of_the_last_full_seconds() {
        let mut rate = Rate::default();
        rate.add(100, 30);
        assert_eq!(rate.per_second(100), 0.0, "the present second is not over");
        assert_eq!(rate.per_second(101), 3.0);
        rate.add(105, 20);
        assert_eq!(rate.per_second(110), 5.0);
        assert_eq!(rate.per_second(111), 2.0);
        assert_eq!(rate.per_second(116), 0.0);
        rate.add(1000, 10);
        assert_eq!(rate.per_second(1001), 1.0);
        // A thread may have looked at the clock before another one that was faster.
        rate.add(1000, 10);
        assert_eq!(rate.per_second(1001), 2.0);
    }

    #[test]
    fn troubles_are_counted_by_kind() {
        let mut troubles = Troubles::default();
        troubles.add("protocol", 1.0, "a", "bad".to_owned());
        troubles.add("network", 2.0, "b", "lost".to_owned());
        troubles.add("network", 3.0, "c", "lost again".to_owned());
        assert_eq!(troubles.count, 3);
        assert_eq!(troubles.kinds[&"network"], 2);
        let last = troubles.last.unwrap();
        assert_eq!(
            (last.peer.as_str(), last.message.as_str()),
            ("c", "lost again")
        );
    }
}
