//! Tests of the crate through its public interface, in one binary.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and say why they skip"
)]

mod captures;
mod databases;
mod heartbeats;
mod hostile;
mod peers;
mod received_lists;
mod sim;
mod stream_ends;
