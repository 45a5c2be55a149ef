//! The certificates and keys of one side.

/// The certificates and keys of one side, as the contents of PEM files.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// The certificate with its chain, and optionally the key.
    pub certificate: Option<Vec<u8>>,
    /// The key, if it is not in the file of the certificate.
    pub key: Option<Vec<u8>>,
    /// The password of an encrypted key.
    pub password: Option<Vec<u8>>,
    /// The authorities and single certificates to trust, and revocation lists. `None`: the
    /// authorities that the system trusts.
    pub authenticate: Option<Vec<Vec<u8>>>,
    /// Whether a server's certificate must be valid for its host name.
    pub check_hostname: bool,
    /// The host name to check, if it differs from the one in the address.
    pub server_hostname: Option<String>,
}
