//! What a primary's server and its connections share.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::admission::{Admission, Network};
use super::status::PrimaryCounters;
use crate::net::runtime::Host;
use crate::net::tls::TlsServer;
use crate::replica::Feed;
use zrs_storage::pickle::Dialect;

/// How a primary behaves.
#[derive(Clone, Debug)]
pub struct PrimaryOptions {
    /// How headers are written.
    pub dialect: Dialect,
    /// Who may connect; `None` for everybody.
    pub allow: Option<Vec<Network>>,
    /// How many connections there may be.
    pub max_connections: usize,
    /// How long a secondary may take to say where to start.
    pub handshake_deadline: Duration,
    /// The certificates, if connections are to be encrypted.
    pub tls: Option<TlsServer>,
}

/// What the connections of a server have in common.
pub(super) struct Shared {
    pub(super) host: Host,
    pub(super) feed: Arc<Feed>,
    pub(super) options: PrimaryOptions,
    pub(super) admission: Admission,
    pub(super) counters: Arc<PrimaryCounters>,
    /// No new connections; those that stream may finish.
    pub(super) closing: CancellationToken,
    /// No more of anything.
    pub(super) abort: CancellationToken,
}
