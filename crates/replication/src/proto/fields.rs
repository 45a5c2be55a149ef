//! The keys and values of a control message.

use zrs_ids::Tid;

/// The fields after the name of a control message.
pub(super) struct Fields<'text>(Vec<(&'text str, &'text str)>);

impl<'text> Fields<'text> {
    /// Ignores words without a value.
    pub(super) fn new(words: impl Iterator<Item = &'text str>) -> Self {
        Self(words.filter_map(|word| word.split_once('=')).collect())
    }

    pub(super) fn get(&self, wanted: &str) -> Option<&'text str> {
        let found = self.0.iter().find(|(key, _)| *key == wanted);
        found.map(|(_, value)| *value)
    }

    pub(super) fn tid(&self, wanted: &str) -> Option<Tid> {
        self.get(wanted).and_then(parse_tid)
    }

    pub(super) fn number(&self, wanted: &str) -> Option<u64> {
        // `parse` accepts a sign.
        let digits = self.get(wanted)?;
        let digits = Some(digits).filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
        digits.parse().ok()
    }
}

/// A tid, for example `0x03d4dc0008888888`.
pub(super) fn parse_tid(text: &str) -> Option<Tid> {
    let digits = text
        .strip_prefix("0x")
        .filter(|digits| digits.len() == 16)?;
    parse_hex(digits).map(Tid::from_u64)
}

/// One to sixteen hexadecimal digits.
pub(super) fn parse_hex(digits: &str) -> Option<u64> {
    // `from_str_radix` accepts a sign.
    let digits = Some(digits)
        .filter(|digits| (1..=16).contains(&digits.len()))
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u64::from_str_radix(digits, 16).ok()
}
