//! Control messages about dropped transactions: the primary's offer, and the encoding of tids.
//!
//! Each tid is encoded as its difference from the previous one, in hexadecimal; the first, as
//! its difference from `from`. One second takes eight characters.

use std::fmt;

use super::fields::{Fields, parse_hex, parse_tid};
use zrs_ids::Tid;

/// Maximum number of tids in a control message: any tids fit.
pub(crate) const TIDS_PER_MESSAGE: usize = 50;
/// The value for a primary without a list.
const NONE: &str = "none";

/// Which transactions dropped by packs a primary can list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DroppedOffer {
    /// The primary has no list, or none yet.
    NoList,
    /// The primary's list has every dropped transaction later than this one.
    CompleteAfter(Tid),
}

impl DroppedOffer {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            NONE => Some(Self::NoList),
            tid => parse_tid(tid).map(Self::CompleteAfter),
        }
    }
}

impl fmt::Display for DroppedOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoList => f.write_str(NONE),
            Self::CompleteAfter(tid) => tid.fmt(f),
        }
    }
}

/// What follows the transactions of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// Nothing was dropped between `to` and the last transaction sent.
    ByNothing,
    /// Another message with dropped transactions.
    ByMore,
    /// The primary does not know, or not yet, what was dropped after `to`.
    ByUnknown,
}

/// Dropped transactions of a primary's history, which a secondary may lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedTransactions {
    /// The message has all dropped transactions later than this one
    pub from: Tid,
    /// and not later than this one.
    pub to: Tid,
    /// Dropped transactions up to this one may be missing.
    pub complete_after: Tid,
    /// What follows them.
    pub followed: Followed,
    /// Their tids, in ascending order. Those up to the start of the connection are in the
    /// secondary's file unless a pack has dropped them there.
    pub tids: Vec<Tid>,
}

impl DroppedTransactions {
    pub(super) fn parse(fields: &Fields<'_>) -> Option<Self> {
        let from = fields.tid("from")?;
        let mut last = from;
        let differences = fields
            .get("tids")
            .into_iter()
            .flat_map(|all| all.split(','));
        let tids = differences.map(|difference| {
            // The receiver checks that they ascend.
            last = Tid::from_u64(last.as_u64().wrapping_add(parse_hex(difference)?));
            Some(last)
        });
        Some(Self {
            from,
            to: fields.tid("to")?,
            complete_after: fields.tid("after")?,
            followed: match fields.get("then") {
                None => Followed::ByNothing,
                Some("more") => Followed::ByMore,
                Some(_) => Followed::ByUnknown,
            },
            tids: tids.collect::<Option<_>>()?,
        })
    }
}

impl fmt::Display for DroppedTransactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            to,
            complete_after,
            ..
        } = self;
        write!(f, "from={from} to={to} after={complete_after}")?;
        f.write_str(match self.followed {
            Followed::ByNothing => "",
            Followed::ByMore => " then=more",
            Followed::ByUnknown => " then=unknown",
        })?;
        let mut last = *from;
        for (number, tid) in self.tids.iter().enumerate() {
            f.write_str(if number == 0 { " tids=" } else { "," })?;
            write!(f, "{:x}", tid.as_u64().wrapping_sub(last.as_u64()))?;
            last = *tid;
        }
        Ok(())
    }
}
