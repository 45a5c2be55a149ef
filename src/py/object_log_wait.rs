//! Waiting until others have committed to a log of `dobbin`.

use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::errors::{log_error, value_error};
use crate::dobbin::{CommitWaiter, Log};
use crate::vfs::Watch;

/// How long a wait goes on before signals are looked at, and the file: what another machine
/// writes to a shared file system nobody tells us.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long to wait between two looks where nobody tells us anything, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_micros(500);
const LONGEST_PAUSE: Duration = Duration::from_millis(4);

/// Wait until others have committed, or `ready()` is true, which is asked whenever something was
/// written; false after `timeout` seconds, `None` for any time.
pub(super) fn wait(
    py: Python<'_>,
    log: &Log,
    timeout: Option<f64>,
    ready: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    let end = end_of(timeout)?;
    let mut waiter = CommitWaiter::default();
    let mut pause = FIRST_PAUSE;
    // What happens between the first look and the wait is told.
    let watch = py.detach(|| log.watch());
    loop {
        if ready.map_or(Ok(false), |ready| ready.call0()?.is_truthy())? {
            return Ok(true);
        }
        let behind = py.detach(|| log.is_behind(&mut waiter));
        if behind.map_err(|error| log_error(py, &error))? {
            return Ok(true);
        }
        let rest = end.map_or(PATIENCE, |end| end.saturating_duration_since(now()));
        if rest.is_zero() {
            return Ok(false);
        }
        py.detach(|| rest_for(watch.as_deref(), rest, pause));
        pause = (pause * 2).min(LONGEST_PAUSE);
        py.check_signals()?;
    }
}

fn rest_for(watch: Option<&dyn Watch>, rest: Duration, pause: Duration) {
    let told = watch.map(|watch| watch.wait(rest.min(PATIENCE)));
    if !matches!(told, Some(Ok(()))) {
        thread::sleep(rest.min(pause));
    }
}

fn now() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "a driver: the core knows no clock"
    )]
    Instant::now()
}

/// When the time is over; `None` if never.
fn end_of(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    let Some(seconds) = timeout else {
        return Ok(None);
    };
    if seconds.is_nan() {
        return Err(value_error("a timeout is a number of seconds".to_owned()));
    }
    let duration = Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    Ok(duration.and_then(|duration| now().checked_add(duration)))
}
