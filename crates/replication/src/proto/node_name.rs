//! The name that a secondary reports in a control message; see docs/protocol.md "Control
//! messages".
//!
//! It becomes the label of metrics and part of log lines, so it is short and has no special
//! characters.

use std::fmt;
use std::str::FromStr;

/// Maximum length of a name, in bytes.
const LONGEST: usize = 64;

/// A name of 1 to 64 letters, digits, dots, hyphens and underscores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName(Box<str>);

/// What is given is not the name of a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the name of a node: it is 1 to 64 letters, digits, dots, hyphens and underscores"
)]
pub struct NotANodeName(String);

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = NotANodeName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if (1..=LONGEST).contains(&text.len()) && text.bytes().all(is_plain) {
            Ok(Self(text.into()))
        } else {
            Err(NotANodeName(text.chars().take(LONGEST).collect()))
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for name in ["b", "node-2.example_com", &"x".repeat(LONGEST)] {
            assert_eq!(name.parse::<NodeName>().unwrap().as_str(), name);
        }
        for other in [
            "",
            "a b",
            "a=b",
            "ä",
            "a\n",
            "a\"",
            &"x".repeat(LONGEST + 1),
        ] {
            assert!(other.parse::<NodeName>().is_err(), "{other:?}");
        }
    }
}
