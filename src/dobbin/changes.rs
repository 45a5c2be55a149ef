//! What other instances have changed.

use std::collections::BTreeSet;

use crate::ids::Oid;

/// What changed since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The objects that other instances wrote.
    pub objects: BTreeSet<Oid>,
    /// Whether another object is the root.
    pub root: bool,
    /// How many transactions there were, failed ones included.
    pub transactions: u64,
}
