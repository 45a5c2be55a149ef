//! Errors of certificates and keys.

use tokio_rustls::rustls::Error;

/// Why certificates or keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The contents of a file are missing or malformed.
    #[error("{0}")]
    Material(String),
    /// The certificate and the key do not match, or TLS does not support them.
    #[error("{0}")]
    Rustls(#[from] Error),
    /// The system's authorities cannot be loaded.
    #[error("the system's certificates cannot be read: {0}")]
    System(String),
}

impl TlsError {
    pub(super) fn material(message: impl Into<String>) -> Self {
        Self::Material(message.into())
    }
}
