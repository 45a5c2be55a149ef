//! The running checksum of a replication stream.
//!
//! One digest covers the whole connection: the start tid, then the body of every message from
//! the primary, including commit messages. A commit message carries the digest of everything
//! before it. zc.zrs supports only MD5, which takes more time than the rest of replication.
//! A zrs primary and a zrs secondary switch to an XXH3 of 128 bits. Both protect against
//! accidental damage, not against forgery.

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

    /// Parses 32 hexadecimal digits; `None` for anything else.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
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

/// The algorithm of a stream's checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// The algorithm of zc.zrs.
    #[default]
    Md5,
    /// The algorithm after a hello that announces it.
    Xxh3,
}

/// The checksum of a stream up to some message.
#[derive(Clone)]
pub(super) struct StreamDigest(Running);

#[derive(Clone)]
enum Running {
    Md5(Md5),
    Xxh3(Box<Xxh3>),
}

impl StreamDigest {
    /// The checksum of a stream that starts after `start`.
    pub(super) fn new(start: Tid) -> Self {
        Self(Running::Md5(Md5::new_with_prefix(start.as_bytes())))
    }

    /// Switches to another algorithm, whose input begins with the digest so far. Switching to
    /// the current algorithm, or back to MD5, changes nothing.
    pub(super) fn switch_to(&mut self, checksum: Checksum) {
        if checksum == Checksum::Xxh3 && matches!(self.0, Running::Md5(_)) {
            let mut xxh3 = Box::new(Xxh3::new());
            xxh3.update(self.digest().as_bytes());
            self.0 = Running::Xxh3(xxh3);
        }
    }

    /// Adds the body of a message.
    pub(super) fn update(&mut self, body: &[u8]) {
        match &mut self.0 {
            Running::Md5(md5) => md5.update(body),
            Running::Xxh3(xxh3) => xxh3.update(body),
        }
    }

    /// The digest so far. An XXH3 is a number, written in big-endian byte order.
    pub(super) fn digest(&self) -> Digest {
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

    /// Values computed with Python's hashlib and xxhash: `md5(bytes(8))`, then
    /// `xxh3_128(that + b"abc")`.
    #[test]
    fn the_input_of_xxh3_begins_with_the_previous_md5() {
        let mut digest = StreamDigest::new(Tid::ZERO);
        assert_eq!(
            digest.digest().to_string(),
            "7dea362b3fac8e00956a4952a3d4f474"
        );
        digest.switch_to(Checksum::Md5);
        assert_eq!(
            digest.digest().to_string(),
            "7dea362b3fac8e00956a4952a3d4f474"
        );
        digest.switch_to(Checksum::Xxh3);
        let empty = digest.digest();
        digest.switch_to(Checksum::Xxh3);
        digest.switch_to(Checksum::Md5);
        assert_eq!(digest.digest(), empty);
        digest.update(b"abc");
        assert_eq!(
            digest.digest().to_string(),
            "2b23d2d297327155e0cc5de7a3b5879a"
        );
    }
}
