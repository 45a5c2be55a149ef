//! Verifies the certificate of a peer.
//!
//! A certificate that equals a known one byte for byte is trusted during its validity period.
//! This includes the certificate of an authority itself, which rustls does not accept for a
//! peer. Any other certificate must be issued by a trusted authority.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
};

use super::error::TlsError;
use super::trust::{Trust, Validity};

/// Verifies servers and clients.
#[derive(Debug)]
pub(super) struct Verifier {
    trust: Trust,
    /// `None`: no authority is trusted.
    servers: Option<Arc<WebPkiServerVerifier>>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
    check_hostname: bool,
}

impl Verifier {
    pub(super) fn new(
        trust: Trust,
        provider: &Arc<CryptoProvider>,
        check_hostname: bool,
    ) -> Result<Self, TlsError> {
        let mut verifier = Self {
            trust,
            servers: None,
            clients: None,
            algorithms: provider.signature_verification_algorithms,
            check_hostname,
        };
        if !verifier.trust.authorities.is_empty() {
            let unusable = |error| TlsError::material(format!("`authenticate`: {error}"));
            let authorities = Arc::new(verifier.trust.authorities.clone());
            let revoked = || verifier.trust.revoked.iter().cloned();
            let provider = || Arc::clone(provider);
            let servers =
                WebPkiServerVerifier::builder_with_provider(Arc::clone(&authorities), provider())
                    .with_crls(revoked())
                    .only_check_end_entity_revocation()
                    .build()
                    .map_err(unusable)?;
            let clients = WebPkiClientVerifier::builder_with_provider(authorities, provider())
                .with_crls(revoked())
                .only_check_end_entity_revocation()
                .build()
                .map_err(unusable)?;
            (verifier.servers, verifier.clients) = (Some(servers), Some(clients));
        }
        Ok(verifier)
    }

    /// Whether this certificate is a known one; an error outside of its validity period.
    fn knows(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Result<bool, Error> {
        let Some(Validity {
            not_before,
            not_after,
        }) = self.trust.known.get(certificate.as_ref())
        else {
            return Ok(false);
        };
        let (not_before, not_after) = (
            UnixTime::since_unix_epoch(*not_before),
            UnixTime::since_unix_epoch(*not_after),
        );
        if now < not_before {
            let time = now;
            return Err(CertificateError::NotValidYetContext { time, not_before }.into());
        }
        if now > not_after {
            let time = now;
            return Err(CertificateError::ExpiredContext { time, not_after }.into());
        }
        Ok(true)
    }
}

/// The error of rustls for a certificate that no trusted authority issued.
fn unknown_issuer() -> Error {
    CertificateError::UnknownIssuer.into()
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.knows(end_entity, now)? {
            if self.check_hostname {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        let servers = self.servers.as_ref().ok_or_else(unknown_issuer)?;
        let verified =
            servers.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // rustls checks the name last, so everything else is valid.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.check_hostname => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hints: a known certificate of a client may come from any authority.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.knows(end_entity, now)? {
            return Ok(ClientCertVerified::assertion());
        }
        let clients = self.clients.as_ref().ok_or_else(unknown_issuer)?;
        clients.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
