//! Waiting until others have committed to a log of `dobbin`.

use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::errors::{log_error, value_error};
use zrs_object_log::{CommitWaiter, Log};
use zrs_vfs::Watch;

/// The interval at which a wait checks for signals, and checks the file: the system does not
/// report what another machine writes to a shared file system.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The first and the longest pause between checks of the file where the system reports nothing.
const FIRST_PAUSE: Duration = Duration::from_micros(500);
const LONGEST_PAUSE: Duration = Duration::from_millis(4);

/// Wait until others have committed, or until `ready()` is true, which is called whenever the
/// file was written. Returns false after `timeout` seconds; `None` waits without a limit.
pub(crate) fn wait(
    py: Python<'_>,
    log: &Log,
    timeout: Option<f64>,
    ready: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    let end = end_of(timeout)?;
    let mut waiter = CommitWaiter::default();
    let mut pause = FIRST_PAUSE;
    // The watch begins before the first check, so no change goes unnoticed.
    let watch = py.detach(|| log.watch());
    loop {
        if ready.map_or(Ok(false), |ready| ready.call0()?.is_truthy())? {
            return Ok(true);
        }
        let behind = py.detach(|| log.is_behind(&mut waiter));
        if behind.map_err(|error| log_error(py, &error))? {
            return Ok(true);
        }
        let rest = end.map_or(CHECK_INTERVAL, |end| end.saturating_duration_since(now()));
        if rest.is_zero() {
            return Ok(false);
        }
        py.detach(|| rest_for(watch.as_deref(), rest, pause));
        pause = (pause * 2).min(LONGEST_PAUSE);
        py.check_signals()?;
    }
}

fn rest_for(watch: Option<&dyn Watch>, rest: Duration, pause: Duration) {
    let watched = watch.map(|watch| watch.wait(rest.min(CHECK_INTERVAL)));
    if !matches!(watched, Some(Ok(()))) {
        thread::sleep(rest.min(pause));
    }
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a driver: the core has no clock")]
    Instant::now()
}

/// The end of a timeout; `None` for no limit.
fn end_of(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    let Some(seconds) = timeout else {
        return Ok(None);
    };
    if seconds.is_nan() {
        return Err(value_error(
            "a timeout must be a number of seconds".to_owned(),
        ));
    }
    let duration = Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    Ok(duration.and_then(|duration| now().checked_add(duration)))
}
