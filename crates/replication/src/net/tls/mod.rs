//! TLS 1.3 for both sides, by ZEO's conventions: each has a certificate and a list of whom
//! it trusts, authorities or single certificates.
//!
//! Files are the caller's business: everything here is given as the bytes of PEM files.

mod error;
mod identity;
mod options;
mod trust;
mod verify;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, Error, InvalidMessage, ServerConfig};
use tokio_rustls::{Accept, TlsAcceptor, TlsConnector};

use super::Address;
pub use error::TlsError;
use identity::Identity;
pub use options::TlsOptions;
use trust::Trust;
use verify::Verifier;

/// How many encrypted bytes a primary keeps for each connection that does not take them.
const BUFFER: usize = 1 << 15;

/// A primary's side.
#[derive(Clone)]
pub struct TlsServer(TlsAcceptor);

impl std::fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsServer")
    }
}

impl TlsServer {
    /// A server that takes the clients that it is told to trust.
    ///
    /// # Errors
    /// [`TlsError`], also if no certificate is given, or nobody to trust.
    pub fn new(options: &TlsOptions) -> Result<Self, TlsError> {
        let Some(identity) = Identity::parse(options)? else {
            return Err(TlsError::material("a primary needs a certificate"));
        };
        let Some(authenticate) = &options.authenticate else {
            return Err(TlsError::material(
                "a primary needs `authenticate`: whom to trust",
            ));
        };
        let provider = provider();
        let verifier = Verifier::new(Trust::parse(authenticate)?, &provider, false)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(identity.chain, identity.key)?;
        // Nobody resumes a session: each connection shows its certificate.
        config.send_tls13_tickets = 0;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Makes an encrypted connection of a plain one.
    pub(super) fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: S) -> Accept<S> {
        self.0
            .accept_with(socket, |session| session.set_buffer_limit(Some(BUFFER)))
    }
}

/// A secondary's side.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
    check_hostname: bool,
    server_hostname: Option<ServerName<'static>>,
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsClient")
    }
}

impl TlsClient {
    /// A client that connects to the servers that it is told to trust.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(options: &TlsOptions) -> Result<Self, TlsError> {
        let trust = match &options.authenticate {
            Some(authenticate) => Trust::parse(authenticate)?,
            None => Trust::of_the_system()?,
        };
        let provider = provider();
        let verifier = Verifier::new(trust, &provider, options.check_hostname)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match Identity::parse(options)? {
            Some(identity) => builder.with_client_auth_cert(identity.chain, identity.key)?,
            None => builder.with_no_client_auth(),
        };
        let server_hostname = options.server_hostname.as_deref().map(server_name);
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            check_hostname: options.check_hostname,
            server_hostname: server_hostname.transpose()?,
        })
    }

    pub(super) fn connector(&self) -> &TlsConnector {
        &self.connector
    }

    /// Whether the host that a certificate must be for is known where this is the address.
    ///
    /// # Errors
    /// [`TlsError`], if it is not.
    pub fn check_address(&self, address: &Address) -> Result<(), TlsError> {
        self.name_at(address).map(drop)
    }

    /// The name that the certificate of the server at this address must have.
    pub(super) fn name_at(&self, address: &Address) -> Result<ServerName<'static>, TlsError> {
        match (&self.server_hostname, address) {
            (Some(name), _) => Ok(name.clone()),
            (None, Address::Tcp { host, .. }) if !host.is_empty() => server_name(host),
            (None, Address::Unix(_)) if self.check_hostname => Err(TlsError::material(
                "a UNIX socket has no host name: give a server-hostname, or check none",
            )),
            (None, _) => server_name("localhost"),
        }
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let host = host.split('%').next().unwrap_or(host); // an IPv6 address may have a zone
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(ServerName::IpAddress(address.into())),
        Err(_) => ServerName::try_from(host.to_owned())
            .map_err(|error| TlsError::material(format!("{host:?} is no host name: {error}"))),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Why a connection failed, if that is a matter of TLS.
pub(super) fn reason(error: &io::Error) -> Option<String> {
    let inner = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match inner {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS".to_owned()
        }
        Error::AlertReceived(alert) => format!("it refused us: {alert:?}"),
        Error::General(text) => text.clone(),
        Error::NoCertificatesPresented => "it has no certificate".to_owned(),
        other => other.to_string(),
    })
}

/// Why a handshake failed.
pub(super) fn handshake_reason(error: &io::Error) -> String {
    reason(error).unwrap_or_else(|| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            "it closed the connection during the handshake; perhaps it does not speak TLS".into()
        }
        _ => error.to_string(),
    })
}

/// The error of a primary that speaks TLS without being asked to.
pub(super) fn unexpected() -> io::Error {
    let text = "the primary requires TLS, but this secondary has no TLS configuration \
                (--ssl-certificate or <ssl>)";
    io::Error::other(Error::General(text.to_owned()))
}

/// Whether these first bytes from a peer are those of TLS.
pub(super) fn begins_tls(data: &[u8]) -> bool {
    // An alert or a handshake, and the major version: as a length, 350 MB.
    matches!(data, [0x15 | 0x16, 0x03, ..])
}
