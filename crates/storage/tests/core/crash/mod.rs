//! The file storage on a disk that loses power and fails.
//!
//! [`recorder`] does a [`step`] after the other on a simulated file system and notes what
//! was acknowledged, [`workloads`] says which steps, [`check`] opens what a crash left, and
//! the sweeps try every crash ([`power`]) and every failing call ([`faults`]). Normally
//! they try a sample; with `ZRS_CRASH=full` in the environment, all.

mod check;
mod export;
mod faults;
mod power;
mod readers;
mod recorder;
mod recovery;
mod step;
mod workloads;

/// Whether to try everything.
fn full() -> bool {
    std::env::var_os("ZRS_CRASH").is_some_and(|value| value == "full")
}
