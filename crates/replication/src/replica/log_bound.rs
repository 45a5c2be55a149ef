//! A bound on the number of log messages of one kind about one host.

use std::collections::HashMap;

use parking_lot::Mutex;

/// The length of a period, in seconds.
const PERIOD: u64 = 10;
/// Maximum number of pairs of host and kind that are counted separately; further hosts are
/// counted together.
const MAX_COUNTED: usize = 1024;

/// Decides which messages are logged: a bounded number of each kind and host per [`PERIOD`].
#[derive(Debug)]
pub struct LogBound {
    lines: u64,
    counted: Mutex<HashMap<(String, &'static str), Lines>>,
}

/// The number of messages logged in the current period, and the number left out.
#[derive(Clone, Copy, Debug, Default)]
struct Lines {
    since: u64,
    logged: u64,
    left_out: u64,
}

impl LogBound {
    /// A bound of this many lines.
    pub fn new(lines: u64) -> Self {
        Self {
            lines,
            counted: Mutex::default(),
        }
    }

    /// Whether to log a message of this kind about a host in this second: `Some` with the number
    /// left out before, or `None`. Memory is bounded, whatever the number of hosts.
    pub fn to_log(&self, kind: &'static str, host: &str, second: u64) -> Option<u64> {
        let mut counted = self.counted.lock();
        let mut key = (host.to_owned(), kind);
        if counted.len() >= MAX_COUNTED && !counted.contains_key(&key) {
            counted.retain(|_, lines| second < lines.since + PERIOD);
            if counted.len() >= MAX_COUNTED {
                key.0.clear();
            }
        }
        let lines = counted.entry(key).or_default();
        if second >= lines.since + PERIOD {
            let left_out = lines.left_out;
            *lines = Lines {
                since: second,
                logged: 1,
                left_out: 0,
            };
            return Some(left_out);
        }
        if lines.logged < self.lines {
            lines.logged += 1;
            return Some(0);
        }
        lines.left_out += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: u64 = 20;

    #[test]
    fn each_host_gets_a_bounded_number_of_lines_of_each_kind() {
        let bound = LogBound::new(LINES);
        let logged = |second| bound.to_log("connections", "192.0.2.1", second);
        for _ in 0..LINES {
            assert_eq!(logged(100), Some(0));
        }
        assert_eq!([logged(101), logged(109)], [None, None]);
        assert_eq!(bound.to_log("connections", "192.0.2.2", 101), Some(0));
        assert_eq!(bound.to_log("protocol errors", "192.0.2.1", 101), Some(0));
        assert_eq!([logged(110), logged(110)], [Some(2), Some(0)]);
    }

    #[test]
    fn any_number_of_hosts_takes_bounded_memory_and_lines() {
        let bound = LogBound::new(LINES);
        let logged =
            (0..10_000).filter(|host| bound.to_log("kind", &host.to_string(), 100).is_some());
        assert_eq!(
            logged.count(),
            MAX_COUNTED + usize::try_from(LINES).unwrap()
        );
        assert!(bound.counted.lock().len() <= MAX_COUNTED + 1);
    }
}
