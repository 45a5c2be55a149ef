//! Tests of the crate through its public interface, in one binary.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and say why they skip"
)]

mod crash;
mod cut_groups;
mod failed_syncs;
mod live_check;
mod pack_faults;
mod packs;
mod pickles;
mod references;
