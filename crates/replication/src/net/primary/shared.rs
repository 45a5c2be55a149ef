//! The state shared by a primary's server and its connections.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::admission::{Admission, Network};
use super::status::PrimaryCounters;
use crate::net::runtime::RuntimeHandle;
use crate::net::tls::TlsServer;
use crate::replica::Feed;
use zrs_storage::pickle::Dialect;

/// Options of a primary.
#[derive(Clone, Debug)]
pub struct PrimaryOptions {
    /// The pickle dialect of message headers.
    pub dialect: Dialect,
    /// Networks that may connect; `None` allows every address.
    pub allow: Option<Vec<Network>>,
    /// Maximum number of connections.
    pub max_connections: usize,
    /// Maximum time until a secondary has completed the handshake.
    pub handshake_deadline: Duration,
    /// The certificates of encrypted connections; `None` for plain connections.
    pub tls: Option<TlsServer>,
}

/// The state shared by a server and its connections.
pub(super) struct Shared {
    pub(super) runtime: RuntimeHandle,
    pub(super) feed: Arc<Feed>,
    pub(super) options: PrimaryOptions,
    pub(super) admission: Admission,
    pub(super) counters: Arc<PrimaryCounters>,
    /// Cancelled when the server accepts no more connections; streams may finish.
    pub(super) closing: CancellationToken,
    /// Cancelled when all connections must end.
    pub(super) abort: CancellationToken,
}
