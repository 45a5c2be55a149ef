//! Why certificates or keys cannot be used.

use tokio_rustls::rustls::Error;

/// Why certificates or keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file's bytes are not what they should be.
    #[error("{0}")]
    Material(String),
    /// They do not go together, or not with TLS.
    #[error("{0}")]
    Rustls(#[from] Error),
    /// The system's authorities cannot be had.
    #[error("the system's certificates cannot be read: {0}")]
    System(String),
}

impl TlsError {
    pub(super) fn material(message: impl Into<String>) -> Self {
        Self::Material(message.into())
    }
}
