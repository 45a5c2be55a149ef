//! The state machines of the protocol, for drivers written in Python.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::convert::{Id, tid_bytes};
use super::errors::{runtime_error, storage_error};
use super::feed::Feed;
use super::python_sink::SinkError;
use super::sink::{BoxedSink, Sink};
use zrs_ids::Tid;
use zrs_replication::proto::{self, ControlMessage, PrimaryEvent};
use zrs_replication::replica::log_messages::{self, Side, has_room, kinds};
use zrs_replication::replica::{self, ApplyError, Divergence, Findings, SecondarySession};

/// The primary's side of one connection.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct PrimaryPeer {
    name: String,
    peer: Mutex<proto::PrimaryPeer>,
    /// Whether the secondary has made a capability offer.
    capability_offered: AtomicBool,
    /// The feed whose log is bounded per host; without one, this peer bounds its own.
    feed: Option<Arc<replica::Feed>>,
    own: Findings,
    /// Whether the start and end of the connection are logged.
    logged: bool,
}

type Event<'py> = (&'static str, Option<Bound<'py, PyBytes>>);

#[pymethods]
impl PrimaryPeer {
    #[new]
    #[pyo3(signature = (name, blobs = false, feed = None))]
    fn new(py: Python<'_>, name: String, blobs: bool, feed: Option<&Feed>) -> Self {
        let feed = feed.map(|feed| Arc::clone(&feed.0));
        let logged = feed
            .as_ref()
            .is_none_or(|feed| py.detach(|| has_room(feed.findings(), kinds::CONNECTIONS, &name)));
        Self {
            name,
            feed,
            own: Findings::default(),
            logged,
            peer: Mutex::new(proto::PrimaryPeer::new(blobs)),
            capability_offered: AtomicBool::new(false),
        }
    }

    #[getter]
    fn capability_offered(&self) -> bool {
        self.capability_offered.load(Ordering::Acquire)
    }

    fn connected(&self, py: Python<'_>) {
        if self.logged {
            py.detach(|| log_messages::connected(Side::Primary, &self.name));
        }
    }

    fn receive_data(&self, py: Python<'_>, data: &[u8]) {
        py.detach(|| self.peer.lock().receive_data(data));
    }

    fn next_event<'py>(&self, py: Python<'py>) -> Option<Event<'py>> {
        Some(match py.detach(|| self.next())? {
            DriverEvent::Start(tid) => ("start", Some(tid_bytes(py, tid))),
            DriverEvent::CapabilityOffer => ("capability_offered", None),
            DriverEvent::List(tid) => ("list", Some(tid_bytes(py, tid))),
            DriverEvent::Diverged(tid) => ("diverged", Some(tid_bytes(py, tid))),
            DriverEvent::Failed => ("failed", None),
        })
    }

    fn stream_failed(&self, py: Python<'_>, reason: &str) {
        py.detach(|| log_messages::stream_failed(self.findings(), &self.name, reason));
    }

    fn diverged(&self, py: Python<'_>, feed: &Feed, tid: Id<Tid>) {
        let divergence = Divergence::Content(tid.0);
        py.detach(|| log_messages::fork(feed.0.findings(), &self.name, divergence));
    }

    fn closed(&self, py: Python<'_>) {
        if self.logged {
            py.detach(|| log_messages::closed(&self.name));
        }
    }

    fn disconnected(&self, py: Python<'_>, reason: &str) {
        if self.logged {
            py.detach(|| log_messages::disconnected(Side::Primary, &self.name, reason));
        }
    }
}

/// An event that the driver handles.
enum DriverEvent {
    Start(Tid),
    CapabilityOffer,
    /// The secondary requests the list of dropped transactions later than this one.
    List(Tid),
    /// The secondary's transaction differs from the primary's. Not logged yet.
    Diverged(Tid),
    /// The secondary violated the protocol. Logged already.
    Failed,
}

impl PrimaryPeer {
    fn findings(&self) -> &Findings {
        self.feed.as_ref().map_or(&self.own, |feed| feed.findings())
    }

    /// The next event for the driver, if any. Logs the others.
    fn next(&self) -> Option<DriverEvent> {
        loop {
            // The lock must be released before logging enters the interpreter.
            let event = self.peer.lock().next_event();
            match event {
                Ok(Some(PrimaryEvent::Start { tid, offer })) => {
                    if self.logged {
                        log_messages::start(&self.name, tid);
                    }
                    self.capability_offered.store(offer, Ordering::Release);
                    return Some(DriverEvent::Start(tid));
                }
                Ok(Some(PrimaryEvent::CapabilityOffer)) => {
                    self.capability_offered.store(true, Ordering::Release);
                    return Some(DriverEvent::CapabilityOffer);
                }
                Ok(Some(PrimaryEvent::ControlMessage(ControlMessage::List(after)))) => {
                    return Some(DriverEvent::List(after));
                }
                Ok(Some(PrimaryEvent::ControlMessage(ControlMessage::Diverged(tid)))) => {
                    return Some(DriverEvent::Diverged(tid));
                }
                Ok(Some(PrimaryEvent::ControlMessage(_))) => {}
                Ok(Some(PrimaryEvent::KeepAlive)) => log_messages::keep_alive(&self.name),
                Ok(None) => return None,
                Err(error) => {
                    log_messages::refused(self.findings(), &self.name, &error);
                    return Some(DriverEvent::Failed);
                }
            }
        }
    }
}

/// The secondary's side of one connection.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct SecondaryPeer {
    name: String,
    sink: Sink,
    check_checksums: bool,
    session: Mutex<Option<SecondarySession<BoxedSink>>>,
}

#[pymethods]
impl SecondaryPeer {
    #[new]
    #[pyo3(signature = (name, sink, check_checksums = true))]
    fn new(py: Python<'_>, name: String, sink: Py<PyAny>, check_checksums: bool) -> PyResult<Self> {
        Ok(Self {
            name,
            sink: Sink::new(py, sink)?,
            check_checksums,
            session: Mutex::default(),
        })
    }

    fn connected<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let handshake = py.detach(|| self.begin()).map_err(|error| match error {
            SinkError::Raised(error) => error,
            SinkError::Storage(error) => storage_error(py, &error),
            SinkError::Exiting => runtime_error(error.to_string()),
        })?;
        Ok(PyBytes::new(py, &handshake))
    }

    fn receive_data(&self, py: Python<'_>, data: &[u8]) -> bool {
        py.detach(|| match self.apply(data) {
            Ok(()) => true,
            Err(error) => {
                log_messages::apply_failed(&self.name, error);
                false
            }
        })
    }

    #[expect(clippy::unused_self, reason = "a method in Python, for drivers")]
    fn keep_alive<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &proto::SecondaryPeer::keep_alive())
    }

    fn disconnected(&self, py: Python<'_>, reason: &str) {
        py.detach(|| {
            if let Some(mut session) = self.session.lock().take() {
                session.end();
            }
            log_messages::disconnected(Side::Secondary, &self.name, reason);
        });
    }
}

impl SecondaryPeer {
    fn begin(&self) -> Result<Bytes, SinkError> {
        log_messages::connected(Side::Secondary, &self.name);
        let (session, handshake) =
            SecondarySession::new(self.sink.storage(), self.check_checksums, false)?;
        *self.session.lock() = Some(session);
        Ok(handshake)
    }

    /// Applies while holding the lock. No thread waits for it while attached to the interpreter.
    fn apply(&self, data: &[u8]) -> Result<(), ApplyError<SinkError>> {
        match &mut *self.session.lock() {
            Some(session) => session.receive_data(data),
            None => Ok(()),
        }
    }
}
