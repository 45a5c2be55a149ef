//! The running checksum of a replication stream.
//!
//! One MD5 over the whole connection: the start tid, then the body of every message from
//! the primary, commit messages included. A commit message carries the digest of all that
//! came before it. MD5 guards against accidents, not against forgers.

use std::fmt;

use md5::{Digest as _, Md5};

use crate::ids::{Tid, python_bytes};

/// A digest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 16]);

impl Digest {
    /// The digest with these bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The digest that 32 hexadecimal digits stand for, `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 32 || !text.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut bytes = [0; 16];
        for (byte, digits) in bytes.iter_mut().zip(text.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The sixteen bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&python_bytes(&self.0))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The checksum so far.
#[derive(Clone, Debug)]
pub struct StreamMd5(Md5);

impl StreamMd5 {
    /// The checksum of a stream that starts after `start`.
    pub fn new(start: Tid) -> Self {
        Self(Md5::new_with_prefix(start.as_bytes()))
    }

    /// Takes in a message's body.
    pub fn update(&mut self, body: &[u8]) {
        self.0.update(body);
    }

    /// The digest of all so far.
    pub fn digest(&self) -> Digest {
        Digest(self.0.clone().finalize().into())
    }
}
