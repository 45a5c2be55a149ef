//! Object and transaction ids: eight big-endian bytes each, ordered as bytes.
//!
//! The time that a tid stands for is in [`crate::timestamp`].

pub mod timestamp;

use std::fmt::{self, Write as _};

macro_rules! eight_bytes {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name([u8; 8]);

        impl $name {
            /// The id of eight zero bytes.
            pub const ZERO: Self = Self([0; 8]);
            /// The highest id.
            pub const MAX: Self = Self([0xff; 8]);

            /// The id with these bytes.
            pub const fn new(bytes: [u8; 8]) -> Self {
                Self(bytes)
            }

            /// The id with this number, as ZODB's `p64` makes it.
            pub const fn from_u64(number: u64) -> Self {
                Self(number.to_be_bytes())
            }

            /// The id as a number, as ZODB's `u64` reads it.
            pub const fn as_u64(self) -> u64 {
                u64::from_be_bytes(self.0)
            }

            /// The eight bytes.
            pub const fn as_bytes(&self) -> &[u8; 8] {
                &self.0
            }

            /// The id in `bytes`, or `None` if there are not exactly eight.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "0x{:016x}", self.as_u64())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(0x{:016x})"), self.as_u64())
            }
        }
    };
}

eight_bytes! {
    /// An object id.
    Oid
}
eight_bytes! {
    /// A transaction id, which is also a time stamp.
    Tid
}

/// The most bytes that [`python_bytes`] shows.
const QUOTED: usize = 50;

/// Bytes as Python's `repr` prints them, for the log texts of zc.zrs.
pub fn python_bytes(bytes: &[u8]) -> String {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') {
        '"'
    } else {
        '\''
    };
    let mut text = format!("b{quote}");
    for &byte in bytes.iter().take(QUOTED) {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b'\t' => text.push_str("\\t"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b' '..=b'~' if char::from(byte) == quote => {
                text.push('\\');
                text.push(quote);
            }
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text.push(quote);
    if bytes.len() > QUOTED {
        // Writing to a string cannot fail.
        let _ = write!(text, "... ({} bytes)", bytes.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_order_as_numbers_and_as_bytes() {
        let (low, high) = (Tid::from_u64(1), Tid::from_u64(256));
        assert!(low < high);
        assert_eq!(Tid::from_slice(high.as_bytes()), Some(high));
        assert_eq!(Tid::from_slice(b"short"), None);
    }

    #[test]
    fn bytes_print_as_python_prints_them() {
        assert_eq!(
            python_bytes(b"\x03lk\x91\x00\n'"),
            "b\"\\x03lk\\x91\\x00\\n'\""
        );
        let long = python_bytes(&vec![0xfe; 120_000]);
        assert!(
            long.len() < 250 && long.ends_with("... (120000 bytes)"),
            "{long}"
        );
        assert_eq!(python_bytes(b"'\"\\\xff"), "b'\\'\"\\\\\\xff'");
    }
}
