//! The certificate and private key of this side.

use pkcs8::{EncryptedPrivateKeyInfo, SecretDocument};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::error::TlsError;
use super::options::TlsOptions;

const ENCRYPTED_BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const ENCRYPTED_END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
/// OpenSSL's mark of encrypted keys before PKCS #8.
const TRADITIONAL_ENCRYPTION: &str = "Proc-Type: 4,ENCRYPTED";

/// A certificate with its chain, and its key.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Parses the certificate and key; `None` if neither is given.
    pub(super) fn parse(options: &TlsOptions) -> Result<Option<Self>, TlsError> {
        let Some(certificate) = &options.certificate else {
            return match options.key {
                Some(_) => Err(TlsError::material("a key was given without a certificate")),
                None => Ok(None),
            };
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain
            .map_err(|error| TlsError::material(format!("the certificate is damaged: {error}")))?;
        if chain.is_empty() {
            return Err(TlsError::material(
                "the certificate file contains no certificate",
            ));
        }
        let key = options.key.as_ref().unwrap_or(certificate);
        let key = private_key(key, options.password.as_deref())?;
        Ok(Some(Self { chain, key }))
    }
}

fn private_key(pem: &[u8], password: Option<&[u8]>) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = String::from_utf8_lossy(pem);
    if let Some(encrypted) = encrypted_key(&text) {
        let password = password.ok_or_else(|| {
            TlsError::material("the private key is encrypted but no password function was given")
        })?;
        return decrypted(encrypted, password);
    }
    if text.contains(TRADITIONAL_ENCRYPTION) {
        return Err(TlsError::material(
            "the key is encrypted in OpenSSL's traditional format; convert it with \
             `openssl pkcs8 -topk8`",
        ));
    }
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|error| TlsError::material(format!("there is no private key: {error}")))
}

/// The part of a file that is an encrypted PKCS #8 key.
fn encrypted_key(text: &str) -> Option<&str> {
    let begin = text.find(ENCRYPTED_BEGIN)?;
    let end = begin + text.get(begin..)?.find(ENCRYPTED_END)? + ENCRYPTED_END.len();
    text.get(begin..end)
}

fn decrypted(pem: &str, password: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let (_, document) = SecretDocument::from_pem(pem).map_err(damaged)?;
    let encrypted = EncryptedPrivateKeyInfo::try_from(document.as_bytes()).map_err(damaged)?;
    let key = encrypted.decrypt(password).map_err(|error| {
        TlsError::material(format!(
            "the key cannot be decrypted: {error}; perhaps the password is wrong"
        ))
    })?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

fn damaged(error: impl std::fmt::Display) -> TlsError {
    TlsError::material(format!("the encrypted key is damaged: {error}"))
}
