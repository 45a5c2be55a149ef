//! The running checksum of a replication stream.
//!
//! One digest over the whole connection: the start tid, then the body of every message from
//! the primary, commit messages included. A commit message carries the digest of all that
//! came before it. It is an MD5, which is all that other primaries and secondaries know, and
//! which costs more than everything else that replication does; between two of our own kind
//! it becomes an XXH3 of 128 bits. Both guard against accidents, not against forgers.

use std::fmt;

use md5::{Digest as _, Md5};
use xxhash_rust::xxh3::Xxh3;

use zrs_ids::{Tid, python_bytes};

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

/// How a stream's checksum is reckoned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// As zc.zrs does.
    #[default]
    Md5,
    /// As our own kind does from a hello on that says so.
    Xxh3,
}

/// The checksum so far.
#[derive(Clone)]
pub struct StreamDigest(Running);

#[derive(Clone)]
enum Running {
    Md5(Md5),
    Xxh3(Box<Xxh3>),
}

impl StreamDigest {
    /// The checksum of a stream that starts after `start`.
    pub fn new(start: Tid) -> Self {
        Self(Running::Md5(Md5::new_with_prefix(start.as_bytes())))
    }

    /// Goes on with another checksum, which begins with the digest of all so far; with the
    /// same one nothing changes, and there is no way back to MD5.
    pub fn go_on_with(&mut self, checksum: Checksum) {
        if checksum == Checksum::Xxh3 && matches!(self.0, Running::Md5(_)) {
            let mut xxh3 = Box::new(Xxh3::new());
            xxh3.update(self.digest().as_bytes());
            self.0 = Running::Xxh3(xxh3);
        }
    }

    /// Takes in a message's body.
    pub fn update(&mut self, body: &[u8]) {
        match &mut self.0 {
            Running::Md5(md5) => md5.update(body),
            Running::Xxh3(xxh3) => xxh3.update(body),
        }
    }

    /// The digest of all so far; an XXH3 as the number it is, the highest byte first.
    pub fn digest(&self) -> Digest {
        Digest(match &self.0 {
            Running::Md5(md5) => md5.clone().finalize().into(),
            Running::Xxh3(xxh3) => xxh3.digest128().to_be_bytes(),
        })
    }
}

impl fmt::Debug for StreamDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checksum = match &self.0 {
            Running::Md5(_) => Checksum::Md5,
            Running::Xxh3(_) => Checksum::Xxh3,
        };
        write!(f, "StreamDigest({checksum:?})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Python's hashlib and xxhash reckon it: `md5(bytes(8))`, then
    /// `xxh3_128(that + b"abc")`.
    #[test]
    fn an_xxh3_begins_with_the_md5_before_it() {
        let mut digest = StreamDigest::new(Tid::ZERO);
        assert_eq!(
            digest.digest().to_string(),
            "7dea362b3fac8e00956a4952a3d4f474"
        );
        digest.go_on_with(Checksum::Md5);
        assert_eq!(
            digest.digest().to_string(),
            "7dea362b3fac8e00956a4952a3d4f474"
        );
        digest.go_on_with(Checksum::Xxh3);
        let empty = digest.digest();
        digest.go_on_with(Checksum::Xxh3);
        digest.go_on_with(Checksum::Md5);
        assert_eq!(digest.digest(), empty);
        digest.update(b"abc");
        assert_eq!(
            digest.digest().to_string(),
            "2b23d2d297327155e0cc5de7a3b5879a"
        );
    }
}
