//! The remarks about dropped transactions: what a primary offers, and how tids are written.
//!
//! Tids are written as the differences between one and the next, in hexadecimal, the first
//! one from `from`: eight characters for a second.

use std::fmt;

use super::fields::{Fields, parse_hex, parse_tid};
use zrs_ids::Tid;

/// The most tids in one remark: as many as fit whatever they are.
pub const TIDS_IN_A_REMARK: usize = 50;
/// What stands for a primary without a list.
const NONE: &str = "none";

/// What a primary can tell of the transactions that packs have dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DroppedOffer {
    /// It has no list, or not yet.
    NoList,
    /// Its list has each one that is later than this.
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

/// What a primary knows of what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// Nothing was dropped from there up to the transaction that was sent last.
    ByNothing,
    /// There is more to come.
    ByMore,
    /// What was dropped behind is not known, or not yet.
    ByUnknown,
}

/// Some of the transactions of a primary's history that a secondary may lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedTransactions {
    /// All that are later than this one,
    pub from: Tid,
    /// and not later than this one, are here.
    pub to: Tid,
    /// Of those not later than this one, some may be missing.
    pub complete_after: Tid,
    /// What comes behind them.
    pub followed: Followed,
    /// Their tids, rising. Those up to the start of the connection are in the secondary's
    /// file unless it has dropped them.
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
            // Whether they rise is checked by the receiver.
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
