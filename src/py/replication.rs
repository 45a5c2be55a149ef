//! The tokio drivers.

use std::sync::Arc;

use pyo3::prelude::*;

use super::convert::{self, dialect, seconds};
use super::errors::os_error;
use super::feed::Feed;
use super::sink::Sink;
use crate::net::{self, Address, SecondaryOptions};

/// Serves a feed.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct PrimaryServer(net::PrimaryServer);

#[pymethods]
impl PrimaryServer {
    #[new]
    #[pyo3(signature = (feed, addr, wire_pickles = "python3"))]
    fn new(py: Python<'_>, feed: &Feed, addr: Address, wire_pickles: &str) -> PyResult<Self> {
        let dialect = dialect(wire_pickles)?;
        let feed = Arc::clone(&feed.0);
        py.detach(|| net::PrimaryServer::bind(feed, &addr, dialect))
            .map(Self)
            .map_err(|error| os_error(&error, addr.to_string()))
    }

    #[getter]
    fn address<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        convert::address(py, self.0.address())
    }

    #[getter]
    fn connections(&self) -> usize {
        self.0.connections()
    }

    #[pyo3(signature = (deadline = 10.0))]
    fn close(&self, py: Python<'_>, deadline: f64) -> PyResult<()> {
        let deadline = seconds("deadline", deadline)?;
        py.detach(|| self.0.close(deadline));
        Ok(())
    }
}

/// Keeps a sink up to date.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct SecondaryClient(net::SecondaryClient);

#[pymethods]
impl SecondaryClient {
    #[new]
    #[pyo3(signature = (
        sink, addr, reconnect_delay = 60.0, check_checksums = true, keep_alive_delay = 0.0
    ))]
    fn new(
        py: Python<'_>,
        sink: Py<PyAny>,
        addr: Address,
        reconnect_delay: f64,
        check_checksums: bool,
        keep_alive_delay: f64,
    ) -> PyResult<Self> {
        let keep_alive_delay = seconds("keep_alive_delay", keep_alive_delay)?;
        let options = SecondaryOptions {
            reconnect_delay: seconds("reconnect_delay", reconnect_delay)?,
            check_checksums,
            keep_alive_delay: (!keep_alive_delay.is_zero()).then_some(keep_alive_delay),
        };
        let shown = addr.to_string();
        let sink = Sink::new(sink);
        py.detach(|| net::SecondaryClient::start(move || sink.clone(), addr, options))
            .map(Self)
            .map_err(|error| os_error(&error, shown))
    }

    fn set_address(&self, py: Python<'_>, addr: Address) {
        py.detach(|| self.0.set_address(addr));
    }

    #[getter]
    fn connected(&self) -> bool {
        self.0.is_connected()
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}

/// Ends every server, client and thread, at exit.
#[pyfunction]
pub(super) fn shut_down(py: Python<'_>) {
    py.detach(net::shut_down);
}
