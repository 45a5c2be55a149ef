//! The file storage on a disk that loses power and fails.
//!
//! [`recorder`] performs [`step`]s on a simulated file system and records acknowledged states,
//! [`workloads`] defines the steps, [`check`] opens the files after a crash, and the sweeps try
//! every crash ([`power`]) and every failing call ([`faults`]). Normally they try a sample; with
//! `ZRS_CRASH=full` in the environment, all of them.

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
