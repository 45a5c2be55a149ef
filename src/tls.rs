//! Certificates and keys, from the files that `zc.zrs.tls` has read.

use pyo3::prelude::*;

use super::errors::value_error;
use zrs_replication::net::{Address, TlsClient, TlsError, TlsOptions, TlsServer};

/// The items of `TLSMaterial` in `_zrs.pyi`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(super) struct TlsFiles {
    certificate: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
    password: Option<Vec<u8>>,
    authenticate: Option<Vec<Vec<u8>>>,
    check_hostname: bool,
    server_hostname: Option<String>,
    shown: String,
}

impl TlsFiles {
    pub(super) fn server(self) -> PyResult<TlsServer> {
        self.make(TlsServer::new)
    }

    pub(super) fn client(self, addresses: &[Address]) -> PyResult<TlsClient> {
        self.make(|options| {
            let client = TlsClient::new(options)?;
            for address in addresses {
                client.check_address(address)?;
            }
            Ok(client)
        })
    }

    fn make<T>(self, make: impl FnOnce(&TlsOptions) -> Result<T, TlsError>) -> PyResult<T> {
        let shown = self.shown;
        let options = TlsOptions {
            certificate: self.certificate,
            key: self.key,
            password: self.password,
            authenticate: self.authenticate,
            check_hostname: self.check_hostname,
            server_hostname: self.server_hostname,
        };
        make(&options).map_err(|error| value_error(format!("ssl: {error} ({shown})")))
    }
}
