//! The certificates and keys of one side.

/// The certificates and keys of one side, as they are given.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// The certificate and those that lead to the authority, and perhaps the key.
    pub certificate: Option<Vec<u8>>,
    /// The key, if it is not with the certificate.
    pub key: Option<Vec<u8>>,
    /// What the key is encrypted with.
    pub password: Option<Vec<u8>>,
    /// Whom to trust: authorities, single certificates, revocation lists. `None`: the
    /// authorities that the system trusts.
    pub authenticate: Option<Vec<Vec<u8>>>,
    /// Whether the certificate must be for the host that it comes from.
    pub check_hostname: bool,
    /// That host's name, if it is not the one connected to.
    pub server_hostname: Option<String>,
}
