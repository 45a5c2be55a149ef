//! The certificates that this side trusts: authorities, which issue certificates, and single
//! certificates.
//!
//! OpenSSL and ZEO read both from the same files. A self-signed certificate is often both. A
//! certificate that is not an authority's must not make other certificates trusted.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::BasicConstraints;

use super::error::TlsError;

/// The validity period of a certificate, as times since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: Duration,
    pub(super) not_after: Duration,
}

/// The trusted certificates, and revocation lists.
#[derive(Debug)]
pub(super) struct Trust {
    pub(super) authorities: RootCertStore,
    /// Single certificates, with their validity periods.
    pub(super) known: BTreeMap<Vec<u8>, Validity>,
    pub(super) revoked: Vec<CertificateRevocationListDer<'static>>,
}

impl Trust {
    fn empty() -> Self {
        Self {
            authorities: RootCertStore::empty(),
            known: BTreeMap::new(),
            revoked: Vec::new(),
        }
    }

    /// Parses all certificates and revocation lists in these files.
    pub(super) fn parse(files: &[Vec<u8>]) -> Result<Self, TlsError> {
        let mut trust = Self::empty();
        for file in files {
            for certificate in CertificateDer::pem_slice_iter(file) {
                trust.add(certificate.map_err(damaged)?)?;
            }
            for list in CertificateRevocationListDer::pem_slice_iter(file) {
                trust.revoked.push(list.map_err(damaged)?);
            }
        }
        if trust.known.is_empty() {
            return Err(TlsError::material("`authenticate` contains no certificate"));
        }
        Ok(trust)
    }

    /// The authorities that the system trusts.
    pub(super) fn of_the_system() -> Result<Self, TlsError> {
        let found = rustls_native_certs::load_native_certs();
        let mut trust = Self::empty();
        trust.authorities.add_parsable_certificates(found.certs);
        if trust.authorities.is_empty() {
            let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
            let errors = if errors.is_empty() {
                "none found".to_owned()
            } else {
                errors.join(", ")
            };
            return Err(TlsError::System(errors));
        }
        Ok(trust)
    }

    fn add(&mut self, certificate: CertificateDer<'static>) -> Result<(), TlsError> {
        let parsed = Certificate::from_der(&certificate).map_err(damaged)?;
        let validity = parsed.tbs_certificate.validity;
        self.known.insert(
            certificate.to_vec(),
            Validity {
                not_before: validity.not_before.to_unix_duration(),
                not_after: validity.not_after.to_unix_duration(),
            },
        );
        let constraints = parsed.tbs_certificate.get::<BasicConstraints>();
        if matches!(constraints, Ok(Some((_, constraints))) if constraints.ca) {
            self.authorities.add(certificate)?;
        }
        Ok(())
    }
}

fn damaged(error: impl std::fmt::Display) -> TlsError {
    TlsError::material(format!(
        "a certificate of `authenticate` is damaged: {error}"
    ))
}
