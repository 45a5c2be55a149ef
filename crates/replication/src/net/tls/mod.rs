//! TLS 1.3 for both sides, with ZEO's conventions: each side has a certificate, and a list of
//! the authorities and single certificates that it trusts.
//!
//! The caller reads the files. This module receives the contents of PEM files.

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

/// Maximum number of encrypted bytes that a primary buffers for each connection.
const BUFFER: usize = 1 << 15;

/// The primary's side.
#[derive(Clone)]
pub struct TlsServer(TlsAcceptor);

impl std::fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsServer")
    }
}

impl TlsServer {
    /// A server that accepts clients with a trusted certificate.
    ///
    /// # Errors
    /// [`TlsError`], also without a certificate or a list of trusted certificates.
    pub fn new(options: &TlsOptions) -> Result<Self, TlsError> {
        let Some(identity) = Identity::parse(options)? else {
            return Err(TlsError::material("a primary requires a certificate"));
        };
        let Some(authenticate) = &options.authenticate else {
            return Err(TlsError::material(
                "a primary requires `authenticate`, the certificates to trust",
            ));
        };
        let provider = provider();
        let verifier = Verifier::new(Trust::parse(authenticate)?, &provider, false)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(identity.chain, identity.key)?;
        // Sessions are never resumed, so every connection presents its certificate.
        config.send_tls13_tickets = 0;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Encrypts a connection.
    pub(super) fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: S) -> Accept<S> {
        self.0
            .accept_with(socket, |session| session.set_buffer_limit(Some(BUFFER)))
    }
}

/// The secondary's side.
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
    /// A client that connects to servers with a trusted certificate.
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

    /// Checks that an address determines the host name that the certificate must have.
    ///
    /// # Errors
    /// [`TlsError`], if it does not.
    pub fn check_address(&self, address: &Address) -> Result<(), TlsError> {
        self.name_at(address).map(drop)
    }

    /// The host name that the certificate of the server at this address must have.
    pub(super) fn name_at(&self, address: &Address) -> Result<ServerName<'static>, TlsError> {
        match (&self.server_hostname, address) {
            (Some(name), _) => Ok(name.clone()),
            (None, Address::Tcp { host, .. }) if !host.is_empty() => server_name(host),
            (None, Address::Unix(_)) if self.check_hostname => Err(TlsError::material(
                "a UNIX socket has no host name: set server-hostname, or turn check-hostname off",
            )),
            (None, _) => server_name("localhost"),
        }
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let host = host.split('%').next().unwrap_or(host); // without the zone of an IPv6 address
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(ServerName::IpAddress(address.into())),
        Err(_) => ServerName::try_from(host.to_owned())
            .map_err(|error| TlsError::material(format!("{host:?} is not a host name: {error}"))),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Why a connection failed, if the cause is an error of TLS.
pub(super) fn reason(error: &io::Error) -> Option<String> {
    let inner = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match inner {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the peer does not use TLS".to_owned()
        }
        Error::AlertReceived(alert) => format!("the peer refused the connection: {alert:?}"),
        Error::General(text) => text.clone(),
        Error::NoCertificatesPresented => "the peer has no certificate".to_owned(),
        other => other.to_string(),
    })
}

/// Why a TLS handshake failed.
pub(super) fn handshake_reason(error: &io::Error) -> String {
    reason(error).unwrap_or_else(|| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            "the peer closed the connection during the handshake; it may not use TLS".into()
        }
        _ => error.to_string(),
    })
}

/// The error for a primary that uses TLS although this secondary has no TLS configuration.
pub(super) fn unexpected() -> io::Error {
    let text = "the primary requires TLS, but this secondary has no TLS configuration \
                (--ssl-certificate or <ssl>)";
    io::Error::other(Error::General(text.to_owned()))
}

/// Whether the first bytes from a peer begin a TLS record.
pub(super) fn begins_tls(data: &[u8]) -> bool {
    // An alert or a handshake, and the major version. As the length of a message: 350 MB.
    matches!(data, [0x15 | 0x16, 0x03, ..])
}
