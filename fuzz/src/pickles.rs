//! Pickles: those of headers, of transactions' extensions, and of records.

use zrs_storage::pickle::{Dialect, Extension, Header, Policy, refs, scan};

/// A pickle that may be a header or an extension.
pub fn pickles(bytes: &[u8]) {
    let walked = scan(bytes, Policy::Opaque);
    if scan(bytes, Policy::Header).is_ok() {
        assert!(walked.is_ok(), "a header is a pickle");
    }
    let _ = Header::read(bytes);
    let extension = Extension::new(bytes.to_vec());
    for dialect in [Dialect::Python2, Dialect::Python3] {
        let _ = extension.value(dialect);
    }
}

/// A record: as many references as it has room for.
pub fn references(bytes: &[u8]) {
    if let Ok(oids) = refs::references(bytes) {
        assert!(oids.len() <= bytes.len());
    }
}
