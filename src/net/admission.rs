//! Who may connect: a list of networks, and no more than so many at once.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use parking_lot::Mutex;

/// How many refusals of one kind are logged within [`PERIOD`]; the others are counted.
const LINES: u64 = 10;
/// Seconds.
const PERIOD: u64 = 10;

/// An address, or a network of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

/// A text that names no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an address nor a network such as 10.0.0.0/8")]
pub struct NotANetwork(String);

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let network = text.parse::<IpNet>().ok();
        network
            .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
            .map(Self)
            .ok_or_else(|| NotANetwork(text.to_owned()))
    }
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refusal {
    /// Its address is not on the list.
    NotAllowed,
    /// There are so many connections already.
    TooMany(usize),
}

impl Refusal {
    /// Its name in a status.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::NotAllowed => "not allowed",
            Self::TooMany(_) => "too many connections",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed => f.write_str("its address is not one of those allowed"),
            Self::TooMany(limit) => write!(f, "there are {limit} connections already"),
        }
    }
}

/// The rules for those who connect.
#[derive(Debug)]
pub(super) struct Admission {
    /// `None`: everybody may.
    allow: Option<Vec<Network>>,
    max_connections: usize,
    log: Mutex<BTreeMap<&'static str, Lines>>,
}

/// The lines that were logged in the present period, and how many were not.
#[derive(Clone, Copy, Debug, Default)]
struct Lines {
    since: u64,
    logged: u64,
    left_out: u64,
}

impl Admission {
    pub(super) fn new(allow: Option<Vec<Network>>, max_connections: usize) -> Self {
        Self {
            allow,
            max_connections,
            log: Mutex::default(),
        }
    }

    /// Whether a connection may be taken beside those there are; one over a UNIX socket
    /// has no address and is this machine's own.
    pub(super) fn check(&self, address: Option<IpAddr>, connections: usize) -> Result<(), Refusal> {
        if let (Some(allow), Some(address)) = (&self.allow, address) {
            if !allow.iter().any(|network| network.contains(address)) {
                return Err(Refusal::NotAllowed);
            }
        }
        if connections >= self.max_connections {
            return Err(Refusal::TooMany(self.max_connections));
        }
        Ok(())
    }

    /// Whether to log a refusal of this kind now; then how many were left out before.
    pub(super) fn to_log(&self, kind: &'static str, second: u64) -> Option<u64> {
        let mut log = self.log.lock();
        let lines = log.entry(kind).or_default();
        if second >= lines.since + PERIOD {
            let left_out = lines.left_out;
            *lines = Lines {
                since: second,
                logged: 1,
                left_out: 0,
            };
            return Some(left_out);
        }
        if lines.logged < LINES {
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

    fn allowing(networks: &[&str]) -> Admission {
        let networks = networks.iter().map(|text| text.parse().unwrap()).collect();
        Admission::new(Some(networks), 10)
    }

    fn allows(admission: &Admission, address: &str) -> bool {
        admission.check(Some(address.parse().unwrap()), 0).is_ok()
    }

    #[test]
    fn addresses_and_networks_of_both_kinds_are_allowed() {
        let admission = allowing(&["10.1.0.0/16", "192.0.2.7", "2001:db8::/32", "::1"]);
        for address in [
            "10.1.2.3",
            "192.0.2.7",
            "2001:db8:1::9",
            "::1",
            "::ffff:10.1.0.1",
        ] {
            assert!(allows(&admission, address), "{address}");
        }
        for address in [
            "10.2.0.1",
            "192.0.2.8",
            "2001:db9::1",
            "::2",
            "::ffff:10.2.0.1",
        ] {
            assert!(!allows(&admission, address), "{address}");
        }
        // A UNIX socket's peers have no address, and file permissions of their own.
        assert_eq!(admission.check(None, 0), Ok(()));
    }

    #[test]
    fn an_empty_list_allows_nobody_and_none_everybody() {
        assert!(!allows(&allowing(&[]), "127.0.0.1"));
        assert!(allows(&Admission::new(None, 1), "127.0.0.1"));
    }

    #[test]
    fn the_number_of_connections_is_bounded() {
        let admission = Admission::new(None, 3);
        assert_eq!(admission.check(None, 2), Ok(()));
        assert_eq!(admission.check(None, 3), Err(Refusal::TooMany(3)));
    }

    #[test]
    fn what_is_no_network_is_named() {
        for text in ["", "localhost", "10.0.0.0/33", "1.2.3", "::/129"] {
            let error = text.parse::<Network>().unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn refusals_are_logged_at_a_bounded_rate() {
        let admission = Admission::new(None, 0);
        let logged = |second| admission.to_log("not allowed", second);
        for _ in 0..LINES {
            assert_eq!(logged(100), Some(0));
        }
        assert_eq!([logged(101), logged(109)], [None, None]);
        assert_eq!(logged(110), Some(2));
        assert_eq!(logged(110), Some(0));
        assert_eq!(admission.to_log("too many connections", 110), Some(0));
    }
}
