//! Remarks: messages that only our own kind exchange, and that others never see.
//!
//! A secondary of ours *knocks* after its start tid: so many empty messages at once, which
//! any other primary takes for keep-alives. A primary that hears the knock answers with
//! [`Remark::Hello`], and from then on both may make remarks. A remark is one line of ASCII:
//! `zrs:NAME KEY=VALUE ... check=CHECK`. No pickle begins like that. Names and keys that are
//! not known are passed over, so that there may be more of them one day; so are remarks that
//! were damaged on the way.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use md5::{Digest as _, Md5};

use super::dropped::{DroppedOffer, DroppedTransactions};
use super::fields::Fields;
use super::node_name::NodeName;
use super::stream_digest::{Checksum, Digest};
use zrs_ids::Tid;

/// The empty messages that make a knock.
pub const KNOCK: u8 = 16;
/// The longest remark.
pub const REMARK_LIMIT: usize = 1 << 10;
/// What every remark begins with.
const PREFIX: &[u8] = b"zrs:";
/// What comes before the check of a remark.
const CHECK: &str = " check=";
/// The version of the remarks written here.
const VERSION: &str = "1";
/// The name of the checksum that is not MD5.
const XXH3: &str = "xxh3";

/// Why a primary ships nothing to a secondary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// The secondary's last transaction is later than the primary's.
    Ahead,
    /// It is not in the primary's history, and no pack has removed it.
    Unknown,
    /// It is not in the primary's history, and a pack that left no list may have removed it.
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

/// Why a primary cannot go on with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// Its file is damaged where it must be read for this secondary.
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

/// What a primary has that a secondary may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// Its last transaction, zeros if it has none.
    pub last: Tid,
    /// How many bytes of its file follow what it has sent, if it knows.
    pub bytes: Option<u64>,
    /// How many transactions do, if it knows.
    pub transactions: Option<u64>,
}

/// What one of our kind says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// A primary hears who is there; with the digest of the transaction to start after,
    /// unless a pack has touched it or there is none.
    Hello {
        /// What the secondary starts after.
        start: Tid,
        /// The digest of that transaction in the primary's file.
        digest: Option<Digest>,
        /// The checksum of the stream behind this remark.
        checksum: Checksum,
        /// The pause between pulses, if there will be any.
        pulse: Option<Duration>,
        /// How much there is to catch up with.
        goal: Option<Goal>,
        /// What it can tell of dropped transactions.
        dropped: Option<DroppedOffer>,
    },
    /// A primary is alive, and says how far it is.
    Pulse {
        /// What is still to come behind this remark.
        goal: Goal,
        /// The pause between such remarks, while there is nothing else to send.
        every: Duration,
    },
    /// A primary ships nothing, because of a fork.
    Refused {
        /// Why.
        reason: RefusalReason,
        /// What the secondary wanted to start after.
        start: Tid,
        /// The primary's last transaction.
        last: Tid,
    },
    /// A primary ends the stream because of its own file.
    Failed(FailureReason),
    /// A primary says which transactions packs have dropped, to a secondary that has asked.
    Dropped(DroppedTransactions),
    /// A secondary asks which transactions later than this one were dropped.
    List(Tid),
    /// A secondary has this transaction, and all before it, on disk.
    At(Tid),
    /// A secondary gives its name.
    Named(NodeName),
    /// A secondary has found that its transaction of this id is not the primary's.
    Diverged(Tid),
}

impl Remark {
    /// Reads a message: `None` if it is no remark at all, `Some(None)` for one that is not
    /// known here.
    pub fn read(message: &[u8]) -> Option<Option<Self>> {
        let rest = message.strip_prefix(PREFIX)?;
        Some(
            std::str::from_utf8(rest)
                .ok()
                .and_then(checked)
                .and_then(parse),
        )
    }

    /// The checksum of the stream behind this remark, if it changes.
    pub(super) const fn checksum(&self) -> Checksum {
        match self {
            Self::Hello { checksum, .. } => *checksum,
            Self::Pulse { .. }
            | Self::Refused { .. }
            | Self::Failed(_)
            | Self::Dropped(_)
            | Self::List(_)
            | Self::At(_)
            | Self::Named(_)
            | Self::Diverged(_) => Checksum::Md5,
        }
    }

    /// The message.
    pub fn write(&self) -> Bytes {
        let text = self.to_string();
        Bytes::from(format!("{text}{CHECK}{:08x}", check(text.as_bytes())))
    }
}

/// The beginning of the MD5 of a remark's text, against damage on the way: the stream's digest
/// comes too late for a hello, and a damaged one could tell of a fork that there is not.
fn check(text: &[u8]) -> u32 {
    let digest = Md5::digest(text);
    digest
        .iter()
        .take(4)
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// A remark's text, less the prefix, if its check agrees.
fn checked(rest: &str) -> Option<&str> {
    let (text, given) = rest.rsplit_once(CHECK)?;
    let expected = check(&[PREFIX, text.as_bytes()].concat());
    (given == format!("{expected:08x}")).then_some(text)
}

impl fmt::Display for Goal {
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

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello {
                start,
                digest,
                checksum,
                pulse,
                goal,
                dropped,
            } => {
                write!(f, "zrs:hello version={VERSION} start={start}")?;
                if let Some(digest) = digest {
                    write!(f, " digest={digest}")?;
                }
                if let Some(goal) = goal {
                    write!(f, " {goal}")?;
                }
                if let Some(every) = pulse {
                    write!(f, " every={}", every.as_millis())?;
                }
                if let Some(dropped) = dropped {
                    write!(f, " dropped={dropped}")?;
                }
                match checksum {
                    Checksum::Md5 => Ok(()),
                    Checksum::Xxh3 => write!(f, " checksum={XXH3}"),
                }
            }
            Self::Pulse { goal, every } => {
                write!(f, "zrs:pulse {goal} every={}", every.as_millis())
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

fn parse(text: &str) -> Option<Remark> {
    let mut words = text.split(' ');
    let name = words.next()?;
    let fields = Fields::new(words);
    let field = |wanted| fields.get(wanted);
    let tid = |wanted| fields.tid(wanted);
    let number = |wanted| fields.number(wanted);
    let every = number("every").map(Duration::from_millis);
    let goal = tid("last").map(|last| Goal {
        last,
        bytes: number("bytes"),
        transactions: number("transactions"),
    });
    Some(match name {
        "hello" => Remark::Hello {
            start: tid("start")?,
            digest: field("digest").and_then(Digest::from_hex),
            checksum: match field("checksum") {
                Some(XXH3) => Checksum::Xxh3,
                _ => Checksum::Md5,
            },
            pulse: every,
            goal,
            dropped: field("dropped").and_then(DroppedOffer::parse),
        },
        "pulse" => Remark::Pulse {
            goal: goal?,
            every: every?,
        },
        "refused" => Remark::Refused {
            reason: match field("reason")? {
                "ahead" => RefusalReason::Ahead,
                "unverified" => RefusalReason::Unverified,
                // Whatever else a later primary may call it, it refuses.
                _ => RefusalReason::Unknown,
            },
            start: tid("start")?,
            last: tid("last")?,
        },
        "failed" => Remark::Failed(match field("reason")? {
            "damaged" => FailureReason::Damaged,
            _ => FailureReason::Unreadable,
        }),
        "dropped" => Remark::Dropped(DroppedTransactions::parse(&fields)?),
        "list" => Remark::List(tid("after")?),
        "at" => Remark::At(tid("tid")?),
        "name" => Remark::Named(field("name")?.parse().ok()?),
        "diverged" => Remark::Diverged(tid("tid")?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::dropped::{Followed, TIDS_IN_A_REMARK};
    use super::*;
    use proptest::prelude::*;

    fn tid() -> impl Strategy<Value = Tid> {
        any::<u64>().prop_map(Tid::from_u64)
    }

    fn goal() -> impl Strategy<Value = Goal> {
        let goal = (tid(), any::<Option<u64>>(), any::<Option<u64>>());
        goal.prop_map(|(last, bytes, transactions)| Goal {
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

    /// With any tids: whether they rise is for others to judge.
    fn dropped() -> impl Strategy<Value = DroppedTransactions> {
        let followed = prop_oneof![
            Just(Followed::ByNothing),
            Just(Followed::ByMore),
            Just(Followed::ByUnknown)
        ];
        let tids = prop::collection::vec(tid(), 0..=TIDS_IN_A_REMARK);
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

    fn remark() -> impl Strategy<Value = Remark> {
        let digest = proptest::option::of(any::<[u8; 16]>().prop_map(Digest::new));
        let checksum = prop_oneof![Just(Checksum::Md5), Just(Checksum::Xxh3)];
        let reason = prop_oneof![
            Just(RefusalReason::Ahead),
            Just(RefusalReason::Unknown),
            Just(RefusalReason::Unverified)
        ];
        let every = || any::<u64>().prop_map(Duration::from_millis);
        let promise = proptest::option::of(every());
        let pulse = (goal(), every()).prop_map(|(goal, every)| Remark::Pulse { goal, every });
        let goal = proptest::option::of(goal());
        prop_oneof![
            (
                tid(),
                digest,
                checksum,
                promise,
                goal,
                proptest::option::of(offer())
            )
                .prop_map(|(start, digest, checksum, pulse, goal, dropped)| {
                    Remark::Hello {
                        start,
                        digest,
                        checksum,
                        pulse,
                        goal,
                        dropped,
                    }
                }),
            dropped().prop_map(Remark::Dropped),
            tid().prop_map(Remark::List),
            (reason, tid(), tid()).prop_map(|(reason, start, last)| Remark::Refused {
                reason,
                start,
                last
            }),
            pulse,
            Just(Remark::Failed(FailureReason::Damaged)),
            Just(Remark::Failed(FailureReason::Unreadable)),
            tid().prop_map(Remark::At),
            "[A-Za-z0-9._-]{1,64}".prop_map(|name| Remark::Named(name.parse().unwrap())),
            tid().prop_map(Remark::Diverged),
        ]
    }

    proptest! {
        #[test]
        fn remarks_are_read_as_they_were_written(remark in remark()) {
            let message = remark.write();
            prop_assert!(message.len() <= REMARK_LIMIT);
            prop_assert_eq!(Remark::read(&message), Some(Some(remark)));
        }

        #[test]
        fn whatever_follows_the_prefix_is_a_remark(rest: Vec<u8>) {
            let message = [PREFIX, &rest[..]].concat();
            prop_assert!(Remark::read(&message).is_some());
        }
    }

    /// A message with its check.
    fn with_check(text: &str) -> Vec<u8> {
        format!("{text} check={:08x}", check(text.as_bytes())).into_bytes()
    }

    #[test]
    fn what_is_not_known_is_passed_over() {
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
            assert_eq!(Remark::read(&with_check(unknown)), Some(None), "{unknown}");
        }
        let more = with_check("zrs:at tid=0x0000000000000001 lag=3 flags");
        let at = Remark::At(Tid::from_u64(1));
        assert_eq!(Remark::read(&more), Some(Some(at)));
        assert_eq!(Remark::read(b"(U\x01T"), None);
    }

    #[test]
    fn what_was_damaged_is_passed_over() {
        let remark = Remark::Hello {
            start: Tid::from_u64(1),
            digest: Some(Digest::new([7; 16])),
            checksum: Checksum::Xxh3,
            pulse: Some(Duration::from_secs(1)),
            goal: Some(Goal {
                last: Tid::from_u64(2),
                bytes: Some(3),
                transactions: Some(4),
            }),
            dropped: Some(DroppedOffer::CompleteAfter(Tid::from_u64(5))),
        };
        let message = remark.write();
        for at in PREFIX.len()..message.len() {
            let mut flipped = message.to_vec();
            flipped[at] ^= 1;
            assert_eq!(Remark::read(&flipped), Some(None), "a flip at {at}");
            let mut short = message.to_vec();
            short.remove(at);
            assert_eq!(Remark::read(&short), Some(None), "a loss at {at}");
        }
        assert_eq!(Remark::read(b"zrs:at tid=0x0000000000000001"), Some(None));
    }
}
