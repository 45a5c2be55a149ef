//! The keys and values of a remark.

use zrs_ids::Tid;

/// What follows the name of a remark.
pub(super) struct Fields<'text>(Vec<(&'text str, &'text str)>);

impl<'text> Fields<'text> {
    /// Words without a value are passed over.
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
        // `parse` would take a sign.
        let digits = self.get(wanted)?;
        let digits = Some(digits).filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
        digits.parse().ok()
    }
}

/// A tid as in `0x03d4dc0008888888`.
pub(super) fn parse_tid(text: &str) -> Option<Tid> {
    let digits = text
        .strip_prefix("0x")
        .filter(|digits| digits.len() == 16)?;
    parse_hex(digits).map(Tid::from_u64)
}

/// One to sixteen hexadecimal digits.
pub(super) fn parse_hex(digits: &str) -> Option<u64> {
    // `from_str_radix` would take a sign.
    let digits = Some(digits)
        .filter(|digits| (1..=16).contains(&digits.len()))
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u64::from_str_radix(digits, 16).ok()
}
