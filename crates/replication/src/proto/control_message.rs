//! Control messages: messages between a zrs primary and a zrs secondary. zc.zrs never receives
//! one.
//!
//! A zrs secondary makes a *capability offer* after its start tid: [`OFFER_LENGTH`] empty
//! messages at once, which zc.zrs treats as keep-alives. A primary that recognizes the offer
//! answers with [`ControlMessage::Hello`]. From then on both sides may send control messages.
//! A control message is one line of ASCII: `zrs:NAME KEY=VALUE ... check=CHECK`. No pickle
//! begins like that. The receiver ignores unknown names and keys, so later versions can add
//! some. It also ignores damaged control messages.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use md5::{Digest as _, Md5};

use super::dropped::{DroppedOffer, DroppedTransactions};
use super::fields::Fields;
use super::node_name::NodeName;
use super::stream_digest::{Checksum, Digest};
use zrs_ids::Tid;

/// Number of empty messages in a capability offer.
pub(super) const OFFER_LENGTH: u8 = 16;
/// Maximum length of a control message, in bytes.
pub const CONTROL_MESSAGE_LIMIT: usize = 1 << 10;
/// The beginning of every control message.
const PREFIX: &[u8] = b"zrs:";
/// The key of the check, which is the last field.
const CHECK: &str = " check=";
/// The version of the control messages that this module encodes.
const VERSION: &str = "1";
/// The name of [`Checksum::Xxh3`] on the wire.
const XXH3: &str = "xxh3";

/// Why a primary refuses a secondary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// The secondary's last transaction is later than the primary's.
    Ahead,
    /// That transaction is not in the primary's history, and no pack has removed it.
    Unknown,
    /// That transaction is not in the primary's history. A pack that left no list may have
    /// removed it.
    Unverified,
}

impl RefusalReason {
    const fn word(self) -> &'static str {
        match self {
            Self::Ahead => "ahead",
            Self::Unknown => "unknown",
            Self::Unverified => "unverified",
        }
    }
}

/// Why a primary cannot continue a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// Its file is damaged at a transaction that this secondary needs.
    Damaged,
    /// Its file cannot be read.
    Unreadable,
}

impl FailureReason {
    const fn word(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Damaged => "the primary's file is damaged",
            Self::Unreadable => "the primary cannot read its file",
        })
    }
}

/// The primary's last transaction, and what the secondary lacks up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrimaryPosition {
    /// The primary's last transaction, or zeros.
    pub last: Tid,
    /// Number of bytes of the primary's file that are still to be sent, if known.
    pub bytes: Option<u64>,
    /// Number of transactions that are still to be sent, if known.
    pub transactions: Option<u64>,
}

/// A control message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlMessage {
    /// The primary has recognized a capability offer.
    Hello {
        /// The transaction that the stream starts after.
        start: Tid,
        /// The digest of that transaction in the primary's file; `None` without a transaction,
        /// or if a pack has changed it.
        digest: Option<Digest>,
        /// The checksum of the stream after this message.
        checksum: Checksum,
        /// Time between heartbeats, if the primary sends them.
        heartbeat_interval: Option<Duration>,
        /// What the secondary has to catch up with.
        position: Option<PrimaryPosition>,
        /// Which dropped transactions the primary can list.
        dropped: Option<DroppedOffer>,
    },
    /// The primary is alive, and reports its position.
    Heartbeat {
        /// What is still to be sent after this message.
        position: PrimaryPosition,
        /// Time between heartbeats while there is nothing else to send.
        interval: Duration,
    },
    /// The primary sends nothing, because the histories have diverged.
    Refused {
        /// Why.
        reason: RefusalReason,
        /// The transaction that the secondary wanted to start after.
        start: Tid,
        /// The primary's last transaction.
        last: Tid,
    },
    /// The primary ends the stream because it cannot read its file.
    Failed(FailureReason),
    /// The primary lists transactions that packs have dropped, after [`Self::List`].
    Dropped(DroppedTransactions),
    /// The secondary requests the list of dropped transactions later than this one.
    List(Tid),
    /// This transaction and all before it are durable on the secondary.
    At(Tid),
    /// The secondary reports its name.
    Named(NodeName),
    /// The secondary's transaction with this id differs from the primary's.
    Diverged(Tid),
}

/// The result of parsing a message as a control message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The message does not begin with the prefix of control messages.
    NotControl,
    /// A damaged control message, or one of a later version. It is ignored.
    Unknown,
    /// A control message.
    Known(ControlMessage),
}

impl ControlMessage {
    /// Parses a message.
    pub fn read(message: &[u8]) -> Parsed {
        let Some(rest) = message.strip_prefix(PREFIX) else {
            return Parsed::NotControl;
        };
        std::str::from_utf8(rest)
            .ok()
            .and_then(checked)
            .and_then(parse)
            .map_or(Parsed::Unknown, Parsed::Known)
    }

    /// The checksum that the stream switches to after this message.
    pub(super) const fn checksum(&self) -> Checksum {
        match self {
            Self::Hello { checksum, .. } => *checksum,
            Self::Heartbeat { .. }
            | Self::Refused { .. }
            | Self::Failed(_)
            | Self::Dropped(_)
            | Self::List(_)
            | Self::At(_)
            | Self::Named(_)
            | Self::Diverged(_) => Checksum::Md5,
        }
    }

    /// Encodes the message.
    pub fn write(&self) -> Bytes {
        let text = self.to_string();
        Bytes::from(format!("{text}{CHECK}{:08x}", check(text.as_bytes())))
    }
}

/// The first four bytes of the MD5 of a message's text. They detect damage earlier than the
/// stream's digest, which is sent at the end of the next transaction: a damaged hello could
/// look like a diverged history.
fn check(text: &[u8]) -> u32 {
    let digest = Md5::digest(text);
    digest
        .iter()
        .take(4)
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// The text of a control message without the prefix, if the check matches.
fn checked(rest: &str) -> Option<&str> {
    let (text, given) = rest.rsplit_once(CHECK)?;
    let expected = check(&[PREFIX, text.as_bytes()].concat());
    (given == format!("{expected:08x}")).then_some(text)
}

impl fmt::Display for PrimaryPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "last={}", self.last)?;
        if let Some(bytes) = self.bytes {
            write!(f, " bytes={bytes}")?;
        }
        if let Some(transactions) = self.transactions {
            write!(f, " transactions={transactions}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ControlMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello {
                start,
                digest,
                checksum,
                heartbeat_interval,
                position,
                dropped,
            } => {
                write!(f, "zrs:hello version={VERSION} start={start}")?;
                if let Some(digest) = digest {
                    write!(f, " digest={digest}")?;
                }
                if let Some(position) = position {
                    write!(f, " {position}")?;
                }
                if let Some(interval) = heartbeat_interval {
                    write!(f, " every={}", interval.as_millis())?;
                }
                if let Some(dropped) = dropped {
                    write!(f, " dropped={dropped}")?;
                }
                match checksum {
                    Checksum::Md5 => Ok(()),
                    Checksum::Xxh3 => write!(f, " checksum={XXH3}"),
                }
            }
            Self::Heartbeat { position, interval } => {
                write!(f, "zrs:pulse {position} every={}", interval.as_millis())
            }
            Self::Refused {
                reason,
                start,
                last,
            } => {
                let reason = reason.word();
                write!(f, "zrs:refused reason={reason} start={start} last={last}")
            }
            Self::Failed(reason) => write!(f, "zrs:failed reason={}", reason.word()),
            Self::Dropped(dropped) => write!(f, "zrs:dropped {dropped}"),
            Self::List(after) => write!(f, "zrs:list after={after}"),
            Self::At(tid) => write!(f, "zrs:at tid={tid}"),
            Self::Named(name) => write!(f, "zrs:name name={name}"),
            Self::Diverged(tid) => write!(f, "zrs:diverged tid={tid}"),
        }
    }
}

fn parse(text: &str) -> Option<ControlMessage> {
    let mut words = text.split(' ');
    let name = words.next()?;
    let fields = Fields::new(words);
    let field = |wanted| fields.get(wanted);
    let tid = |wanted| fields.tid(wanted);
    let number = |wanted| fields.number(wanted);
    let interval = number("every").map(Duration::from_millis);
    let position = tid("last").map(|last| PrimaryPosition {
        last,
        bytes: number("bytes"),
        transactions: number("transactions"),
    });
    Some(match name {
        "hello" => ControlMessage::Hello {
            start: tid("start")?,
            digest: field("digest").and_then(Digest::from_hex),
            checksum: match field("checksum") {
                Some(XXH3) => Checksum::Xxh3,
                _ => Checksum::Md5,
            },
            heartbeat_interval: interval,
            position,
            dropped: field("dropped").and_then(DroppedOffer::parse),
        },
        "pulse" => ControlMessage::Heartbeat {
            position: position?,
            interval: interval?,
        },
        "refused" => ControlMessage::Refused {
            reason: match field("reason")? {
                "ahead" => RefusalReason::Ahead,
                "unverified" => RefusalReason::Unverified,
                // A later version may add reasons; any of them is a refusal.
                _ => RefusalReason::Unknown,
            },
            start: tid("start")?,
            last: tid("last")?,
        },
        "failed" => ControlMessage::Failed(match field("reason")? {
            "damaged" => FailureReason::Damaged,
            _ => FailureReason::Unreadable,
        }),
        "dropped" => ControlMessage::Dropped(DroppedTransactions::parse(&fields)?),
        "list" => ControlMessage::List(tid("after")?),
        "at" => ControlMessage::At(tid("tid")?),
        "name" => ControlMessage::Named(field("name")?.parse().ok()?),
        "diverged" => ControlMessage::Diverged(tid("tid")?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::dropped::{Followed, TIDS_PER_MESSAGE};
    use super::*;
    use proptest::prelude::*;

    fn tid() -> impl Strategy<Value = Tid> {
        any::<u64>().prop_map(Tid::from_u64)
    }

    fn position() -> impl Strategy<Value = PrimaryPosition> {
        let position = (tid(), any::<Option<u64>>(), any::<Option<u64>>());
        position.prop_map(|(last, bytes, transactions)| PrimaryPosition {
            last,
            bytes,
            transactions,
        })
    }

    fn offer() -> impl Strategy<Value = DroppedOffer> {
        prop_oneof![
            Just(DroppedOffer::NoList),
            tid().prop_map(DroppedOffer::CompleteAfter)
        ]
    }

    /// With tids in any order: the receiver checks the order.
    fn dropped() -> impl Strategy<Value = DroppedTransactions> {
        let followed = prop_oneof![
            Just(Followed::ByNothing),
            Just(Followed::ByMore),
            Just(Followed::ByUnknown)
        ];
        let tids = prop::collection::vec(tid(), 0..=TIDS_PER_MESSAGE);
        (tid(), tid(), tid(), followed, tids).prop_map(
            |(from, to, complete_after, followed, tids)| DroppedTransactions {
                from,
                to,
                complete_after,
                followed,
                tids,
            },
        )
    }

    fn control_message() -> impl Strategy<Value = ControlMessage> {
        let digest = proptest::option::of(any::<[u8; 16]>().prop_map(Digest::new));
        let checksum = prop_oneof![Just(Checksum::Md5), Just(Checksum::Xxh3)];
        let reason = prop_oneof![
            Just(RefusalReason::Ahead),
            Just(RefusalReason::Unknown),
            Just(RefusalReason::Unverified)
        ];
        let interval = || any::<u64>().prop_map(Duration::from_millis);
        let promise = proptest::option::of(interval());
        let heartbeat_interval = (position(), interval())
            .prop_map(|(position, interval)| ControlMessage::Heartbeat { position, interval });
        let position = proptest::option::of(position());
        prop_oneof![
            (
                tid(),
                digest,
                checksum,
                promise,
                position,
                proptest::option::of(offer())
            )
                .prop_map(
                    |(start, digest, checksum, heartbeat_interval, position, dropped)| {
                        ControlMessage::Hello {
                            start,
                            digest,
                            checksum,
                            heartbeat_interval,
                            position,
                            dropped,
                        }
                    }
                ),
            dropped().prop_map(ControlMessage::Dropped),
            tid().prop_map(ControlMessage::List),
            (reason, tid(), tid()).prop_map(|(reason, start, last)| ControlMessage::Refused {
                reason,
                start,
                last
            }),
            heartbeat_interval,
            Just(ControlMessage::Failed(FailureReason::Damaged)),
            Just(ControlMessage::Failed(FailureReason::Unreadable)),
            tid().prop_map(ControlMessage::At),
            "[A-Za-z0-9._-]{1,64}".prop_map(|name| ControlMessage::Named(name.parse().unwrap())),
            tid().prop_map(ControlMessage::Diverged),
        ]
    }

    proptest! {
        #[test]
        fn written_messages_parse_to_the_same_value(control_message in control_message()) {
            let message = control_message.write();
            prop_assert!(message.len() <= CONTROL_MESSAGE_LIMIT);
            prop_assert_eq!(ControlMessage::read(&message), Parsed::Known(control_message));
        }

        #[test]
        fn every_message_with_the_prefix_is_a_control_message(rest: Vec<u8>) {
            let message = [PREFIX, &rest[..]].concat();
            prop_assert_ne!(ControlMessage::read(&message), Parsed::NotControl);
        }
    }

    /// Appends the check to a text.
    fn with_check(text: &str) -> Vec<u8> {
        format!("{text} check={:08x}", check(text.as_bytes())).into_bytes()
    }

    #[test]
    fn unknown_messages_are_ignored() {
        for unknown in [
            "zrs:",
            "zrs:greetings tid=0x0000000000000001",
            "zrs:at",
            "zrs:at tid=1",
            "zrs:pulse last=0x0000000000000001",
            "zrs:pulse every=1000",
            "zrs:pulse last=0x0000000000000001 every=-1",
            "zrs:at tid=0x+000000000000001",
            "zrs:name",
            "zrs:name name=",
            "zrs:name name=a\tb",
            "zrs:refused reason=ahead start=0x0000000000000001",
            "zrs:list",
            "zrs:dropped from=0x0000000000000001 to=0x0000000000000002",
            "zrs:dropped from=0x0000000000000001 to=0x0000000000000002 after=0x0000000000000000 tids=",
            "zrs:dropped from=0x0000000000000001 to=0x0000000000000002 after=0x0000000000000000 tids=+1",
        ] {
            assert_eq!(
                ControlMessage::read(&with_check(unknown)),
                Parsed::Unknown,
                "{unknown}"
            );
        }
        let more = with_check("zrs:at tid=0x0000000000000001 lag=3 flags");
        let at = ControlMessage::At(Tid::from_u64(1));
        assert_eq!(ControlMessage::read(&more), Parsed::Known(at));
        assert_eq!(ControlMessage::read(b"(U\x01T"), Parsed::NotControl);
    }

    #[test]
    fn damaged_messages_are_ignored() {
        let control_message = ControlMessage::Hello {
            start: Tid::from_u64(1),
            digest: Some(Digest::new([7; 16])),
            checksum: Checksum::Xxh3,
            heartbeat_interval: Some(Duration::from_secs(1)),
            position: Some(PrimaryPosition {
                last: Tid::from_u64(2),
                bytes: Some(3),
                transactions: Some(4),
            }),
            dropped: Some(DroppedOffer::CompleteAfter(Tid::from_u64(5))),
        };
        let message = control_message.write();
        for at in PREFIX.len()..message.len() {
            let mut flipped = message.to_vec();
            flipped[at] ^= 1;
            assert_eq!(
                ControlMessage::read(&flipped),
                Parsed::Unknown,
                "a flip at {at}"
            );
            let mut short = message.to_vec();
            short.remove(at);
            assert_eq!(
                ControlMessage::read(&short),
                Parsed::Unknown,
                "a loss at {at}"
            );
        }
        assert_eq!(
            ControlMessage::read(b"zrs:at tid=0x0000000000000001"),
            Parsed::Unknown
        );
    }
}
