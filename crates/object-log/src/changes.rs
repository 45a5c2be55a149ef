//! What other instances have changed.

use std::collections::BTreeSet;

use zrs_ids::Oid;

/// What others have changed since the log was last read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The objects that other instances wrote.
    pub objects: BTreeSet<Oid>,
    /// Whether the root is another object.
    pub root: bool,
    /// The number of transactions, including failed ones.
    pub transactions: u64,
}
