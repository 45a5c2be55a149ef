//! Arbitrary bytes for everything that reads bytes from a disk or a network: an error or
//! an answer, and neither a panic nor memory out of proportion.
//!
//! Each function is a target of cargo-fuzz, and of crates/replication/tests/core/hostile.rs.

mod objects;
mod peers;
mod pickles;
mod storage;

pub use objects::{object_log, object_log_heads, sample_object_log};
pub use peers::{primary_peer, secondary_peer};
pub use pickles::{pickles, references};
pub use storage::{data_file, data_file_and_index, format, index_file};
