//! What time it is: the one place of the drivers that asks for the calendar's time.

use std::time::{SystemTime, UNIX_EPOCH};

use once_cell::sync::Lazy;
use tokio::time::Instant;

static START: Lazy<Instant> = Lazy::new(Instant::now);

/// Seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "drivers read the clock, and status tells people the time"
)]
pub(super) fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64())
}

/// Whole seconds that only ever grow, whatever happens to the calendar.
pub(super) fn second() -> u64 {
    START.elapsed().as_secs()
}
