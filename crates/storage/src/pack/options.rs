//! What to pack.

use zrs_ids::Tid;

/// What to pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The pack time: what was current then is kept, and all that is later.
    pub time: Tid,
    /// Whether objects that cannot be reached from the root are dropped.
    pub gc: bool,
}
