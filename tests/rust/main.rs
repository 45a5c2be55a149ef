//! Tests of the core through its public interface, in one binary.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and say why they skip"
)]

mod captures;
mod crash;
mod hostile;
mod live_check;
mod object_log;
mod pack_faults;
mod packs;
mod peers;
mod pickles;
mod pulses;
mod received_lists;
mod references;
mod sim;
mod stream_ends;
