//! Limits on connections: a list of allowed networks, and a maximum number of connections.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::replica::LogBound;

/// Maximum number of refusals of one kind that are logged in a period; further ones are only
/// counted.
const LINES: u64 = 10;
/// Refusals are limited for all hosts together, because any number of hosts may be refused.
const EVERY_HOST: &str = "";
/// Number of bits before the IPv4 address in an IPv4-mapped IPv6 address.
const MAPPED: u8 = 96;

/// An address, or a network of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

/// A text that is not a usable network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotANetwork {
    /// It cannot be parsed.
    #[error("{0:?} is neither an address nor a network such as 10.0.0.0/8")]
    Malformed(String),
    /// No connection can have an address in this network.
    #[error("{text:?} can match no connection: {reason}")]
    Unmatchable {
        /// The text.
        text: String,
        /// Why no connection can match.
        reason: &'static str,
    },
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let network = text.parse::<IpNet>().ok();
        network
            .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
            .ok_or_else(|| NotANetwork::Malformed(text.to_owned()))
            .and_then(|network| {
                matchable(network).map_err(|reason| NotANetwork::Unmatchable {
                    text: text.to_owned(),
                    reason,
                })
            })
            .map(Self)
    }
}

/// Converts a network to the form of peers' addresses, which are canonical: IPv4 addresses are
/// not mapped into IPv6.
fn matchable(network: IpNet) -> Result<IpNet, &'static str> {
    let length = network.prefix_len();
    let network = match (network.addr(), length.checked_sub(MAPPED)) {
        (IpAddr::V6(address), within) => match (address.to_ipv4_mapped(), within) {
            (Some(mapped), Some(length)) => IpNet::new(mapped.into(), length)
                .map_err(|_too_long| "its prefix is longer than an address")?,
            (Some(_), None) => {
                return Err(
                    "IPv4 addresses mapped into IPv6 have a prefix of 96 bits or more; \
                     write the IPv4 network itself, such as 10.0.0.0/8",
                );
            }
            (None, _) => network,
        },
        _ => network,
    };
    let (first, last) = (network.network(), network.broadcast());
    match (first, last) {
        (IpAddr::V6(first), IpAddr::V6(last))
            if first.to_bits() > 1 && last.to_bits() <= u128::from(u32::MAX) =>
        {
            Err("IPv4-compatible IPv6 addresses are not used; write the IPv4 network itself")
        }
        _ if first.is_unspecified() && last == first => Err("it is the unspecified address"),
        _ if first.is_multicast() && last.is_multicast() => {
            Err("a connection never comes from a multicast address")
        }
        (IpAddr::V4(first), _) if first.is_broadcast() => Err("it is the broadcast address"),
        _ => Ok(network),
    }
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refusal {
    /// Its address is not in the list of allowed networks.
    NotAllowed,
    /// The number of connections has reached the maximum.
    TooMany(usize),
}

impl Refusal {
    /// The name of the reason in the status.
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
            Self::NotAllowed => f.write_str("address not in the allow list"),
            Self::TooMany(limit) => write!(f, "there are {limit} connections already"),
        }
    }
}

/// The rules for new connections.
#[derive(Debug)]
pub(super) struct Admission {
    /// `None`: every address is allowed.
    allow: Option<Vec<Network>>,
    max_connections: usize,
    log: LogBound,
}

impl Admission {
    pub(super) fn new(allow: Option<Vec<Network>>, max_connections: usize) -> Self {
        Self {
            allow,
            max_connections,
            log: LogBound::new(LINES),
        }
    }

    /// Whether to accept a connection, given the number of existing ones. A connection through a
    /// UNIX socket has no address and is always from this machine.
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

    /// Whether to log a refusal of this kind now. If so, returns the number of earlier refusals
    /// that were not logged.
    pub(super) fn to_log(&self, kind: &'static str, second: u64) -> Option<u64> {
        self.log.to_log(kind, EVERY_HOST, second)
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
        // Peers of a UNIX socket have no address. File permissions limit them.
        assert_eq!(admission.check(None, 0), Ok(()));
    }

    #[test]
    fn an_empty_list_allows_no_address_and_none_allows_all() {
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
    fn mapped_networks_equal_ipv4_networks() {
        for text in [
            "::ffff:10.0.0.0/104",
            "::ffff:10.1.2.3/104",
            "::ffff:a00:0/104",
        ] {
            let admission = allowing(&[text]);
            assert!(allows(&admission, "10.9.9.9"), "{text}");
            assert!(allows(&admission, "::ffff:10.9.9.9"), "{text}");
            assert!(!allows(&admission, "11.0.0.1"), "{text}");
        }
        assert!(allows(&allowing(&["::ffff:10.0.0.1"]), "10.0.0.1"));
        assert!(allows(&allowing(&["::ffff:0:0/96"]), "192.0.2.1"));
        assert!(!allows(&allowing(&["::/0"]), "192.0.2.1"));
        assert!(allows(&allowing(&["::/0"]), "2001:db8::1"));
    }

    #[test]
    fn networks_that_cannot_match_are_refused() {
        for text in [
            "::ffff:10.0.0.0/90",
            "::10.0.0.0/104",
            "::10.0.0.1",
            "0.0.0.0",
            "::",
            "224.0.0.0/4",
            "239.1.2.3",
            "ff02::/16",
            "255.255.255.255",
        ] {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains("can match no connection"), "{error}");
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
        for text in [
            "0.0.0.0/0",
            "::/0",
            "::1",
            "::/127",
            "10.0.0.1/8",
            "fe80::/10",
        ] {
            assert!(text.parse::<Network>().is_ok(), "{text}");
        }
    }

    #[test]
    fn malformed_networks_are_quoted_in_the_error() {
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
