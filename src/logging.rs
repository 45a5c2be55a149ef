//! Passes Rust's log messages to Python's `logging`.

use log::LevelFilter;
use pyo3::prelude::*;
use pyo3_log::{Caching, Logger};

use zrs_replication::replica::log_messages;
use zrs_storage as storage;

/// Installs the logger. It checks levels for each message, so `logging` may be configured later.
pub(super) fn install(py: Python<'_>) -> PyResult<()> {
    // A filter treats `::`, but not a dot, as the separator of a hierarchy.
    let names = [
        log_messages::PRIMARY,
        log_messages::SECONDARY,
        log_messages::REACTOR,
        storage::LOGGER,
    ];
    let logger = names.into_iter().fold(
        Logger::new(py, Caching::Loggers)?.filter(LevelFilter::Warn),
        |logger, name| logger.filter_target(name.to_owned(), LevelFilter::Debug),
    );
    // Fails in a second interpreter of the process, which uses the first one's logger.
    let _ = logger.install();
    log_messages::set_critical(critical);
    zrs_replication::net::install_clock();
    Ok(())
}

/// Logs with the level CRITICAL, which Rust's log does not have.
fn critical(logger: &str, message: &str) {
    let outcome = Python::try_attach(|py| {
        let logger = py.import("logging")?.call_method1("getLogger", (logger,))?;
        logger.call_method1("critical", ("%s", message)).map(drop)
    });
    if let Some(Err(error)) = outcome {
        log::error!(target: log_messages::REACTOR, "cannot log {message:?}: {error}");
    }
}
