//! The driver's clocks. No other module of the driver reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use once_cell::sync::Lazy;
use tokio::time::Instant;

static START: Lazy<Instant> = Lazy::new(Instant::now);

/// The wall-clock time, in seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the status reports wall-clock times"
)]
pub(super) fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64())
}

/// Whole seconds of a monotonic clock, which changes of the wall clock do not affect.
pub(super) fn second() -> u64 {
    START.elapsed().as_secs()
}
