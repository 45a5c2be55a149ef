//! Servers and clients of the tokio driver.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::convert::{self, dialect, seconds};
use super::errors::{os_error, value_error};
use super::feed::Feed;
use super::sink::Sink;
use super::status;
use super::tls::TlsFiles;
use zrs_replication::net::{self, Address, Network, NotANetwork, PrimaryOptions, SecondaryOptions};
use zrs_replication::proto::{NodeName, NotANodeName};

/// Serves a feed.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct PrimaryServer(net::PrimaryServer);

#[pymethods]
impl PrimaryServer {
    #[new]
    #[pyo3(signature = (
        feed, addr, wire_pickles = "python3", *, allow = None, max_connections = 1000,
        handshake_deadline = 30.0, tls = None
    ))]
    #[expect(clippy::too_many_arguments, reason = "options are keywords in Python")]
    fn new(
        py: Python<'_>,
        feed: &Feed,
        #[pyo3(from_py_with = convert::to_address)] addr: Address,
        wire_pickles: &str,
        allow: Option<Vec<String>>,
        max_connections: usize,
        handshake_deadline: f64,
        tls: Option<TlsFiles>,
    ) -> PyResult<Self> {
        let options = PrimaryOptions {
            dialect: dialect(wire_pickles)?,
            allow: allow.map(networks).transpose()?,
            max_connections,
            handshake_deadline: seconds("handshake_deadline", handshake_deadline)?,
            tls: tls.map(TlsFiles::server).transpose()?,
        };
        let feed = Arc::clone(&feed.0);
        py.detach(|| net::PrimaryServer::bind(feed, &addr, options))
            .map(Self)
            .map_err(|error| os_error(&error, addr.to_string()))
    }

    #[getter]
    fn address<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        convert::address(py, self.0.address())
    }

    #[getter]
    fn connections(&self, py: Python<'_>) -> usize {
        py.detach(|| self.0.connections())
    }

    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let status = py.detach(|| self.0.status());
        status::primary(py, self.0.address(), &status)
    }

    #[pyo3(signature = (deadline = 10.0))]
    fn close(&self, py: Python<'_>, deadline: f64) -> PyResult<()> {
        let deadline = seconds("deadline", deadline)?;
        py.detach(|| self.0.close(deadline));
        Ok(())
    }
}

fn networks(texts: Vec<String>) -> PyResult<Vec<Network>> {
    let parse = |text: String| {
        text.parse()
            .map_err(|error: NotANetwork| value_error(error.to_string()))
    };
    texts.into_iter().map(parse).collect()
}

fn named(text: &str) -> PyResult<NodeName> {
    text.parse()
        .map_err(|error: NotANodeName| value_error(error.to_string()))
}

/// Replicates a primary into a sink.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct SecondaryClient(net::SecondaryClient);

#[pymethods]
impl SecondaryClient {
    #[new]
    #[pyo3(signature = (
        sink, addrs, reconnect_delay = 60.0, check_checksums = true, keep_alive_delay = 0.0, *,
        tls = None, node_name = None
    ))]
    #[expect(clippy::too_many_arguments, reason = "options are keywords in Python")]
    fn new(
        py: Python<'_>,
        sink: Py<PyAny>,
        #[pyo3(from_py_with = convert::to_addresses)] addrs: Vec<Address>,
        reconnect_delay: f64,
        check_checksums: bool,
        keep_alive_delay: f64,
        tls: Option<TlsFiles>,
        node_name: Option<&str>,
    ) -> PyResult<Self> {
        let keep_alive_delay = seconds("keep_alive_delay", keep_alive_delay)?;
        let options = SecondaryOptions {
            reconnect_delay: seconds("reconnect_delay", reconnect_delay)?,
            check_checksums,
            keep_alive_delay: (!keep_alive_delay.is_zero()).then_some(keep_alive_delay),
            tls: tls.map(|files| files.client(&addrs)).transpose()?,
            node_name: node_name.map(named).transpose()?,
        };
        let shown: Vec<_> = addrs.iter().map(ToString::to_string).collect();
        let sink = Sink::new(py, sink)?;
        py.detach(|| net::SecondaryClient::start(move || sink.storage(), addrs, options))
            .map(Self)
            .map_err(|error| os_error(&error, shown.join(", ")))
    }

    fn set_address(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = convert::to_address)] addr: Address,
    ) {
        py.detach(|| self.0.set_address(addr));
    }

    #[pyo3(signature = (addrs, stay = false))]
    fn set_addresses(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = convert::to_addresses)] addrs: Vec<Address>,
        stay: bool,
    ) {
        py.detach(|| self.0.set_addresses(addrs, stay));
    }

    #[getter]
    fn connected(&self, py: Python<'_>) -> bool {
        py.detach(|| self.0.is_connected())
    }

    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let status = py.detach(|| self.0.status());
        status::secondary(py, &status)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}

/// Stops every server, client and thread, at exit.
#[pyfunction]
pub(super) fn shut_down(py: Python<'_>) {
    py.detach(net::shut_down);
}
