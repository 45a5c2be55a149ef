//! Fast parsing of headers in exactly the form that peers write.
//!
//! zc.zrs and this project write headers of one form: protocol 1, no memo, ids and strings in one
//! of two spellings ([`Dialect`](super::Dialect)). A [`PlainHeader`] accepts only that form: it
//! returns `None` for any deviation, which [`Header::read`](super::Header::read) then decides.
//! Both give the same result for headers that this module accepts.

use std::borrow::Cow;

const ENCODED: &[u8] = b"c_codecs\nencode\n(X";
const LATIN1: &[u8] = b"X\x06\0\0\0latin1tR";
const EMPTY_BYTES: &[u8] = b"c__builtin__\nbytes\n)R";

/// A header whose kind was read; its fields are read in order.
pub struct PlainHeader<'message> {
    kind: u8,
    rest: &'message [u8],
}

impl<'message> PlainHeader<'message> {
    /// A message that begins like a header.
    pub fn new(message: &'message [u8]) -> Option<Self> {
        let mut header = Self {
            kind: 0,
            rest: message,
        };
        header.skip(b"(")?;
        let [kind] = *header.text()? else {
            return None;
        };
        header.skip(b"(")?;
        header.kind = kind;
        Some(header)
    }

    /// The kind, such as `T`.
    pub const fn kind(&self) -> u8 {
        self.kind
    }

    /// A field that is a byte string, or text instead.
    pub fn bytes(&mut self) -> Option<Cow<'message, [u8]>> {
        match *self.rest.first()? {
            b'X' => {
                let text = self.text()?;
                std::str::from_utf8(text).ok()?;
                Some(Cow::Borrowed(text))
            }
            b'U' | b'T' => self.byte_string().map(Cow::Borrowed),
            _ if self.rest.starts_with(EMPTY_BYTES) => {
                self.skip(EMPTY_BYTES)?;
                Some(Cow::Borrowed(&[]))
            }
            _ => {
                self.skip(ENCODED)?;
                let encoded = self.counted::<4>()?;
                self.skip(LATIN1)?;
                if encoded.is_ascii() {
                    return Some(Cow::Borrowed(encoded));
                }
                let mut decoded = vec![0; encoded.len()];
                let length = from_latin1(encoded, &mut decoded)?;
                decoded.truncate(length);
                Some(Cow::Owned(decoded))
            }
        }
    }

    /// A field that is an id.
    pub fn id(&mut self) -> Option<[u8; 8]> {
        if !self.rest.starts_with(ENCODED) {
            return (*self.bytes()?).try_into().ok();
        }
        self.skip(ENCODED)?;
        let encoded = self.counted::<4>()?;
        self.skip(LATIN1)?;
        let mut id = [0; 8];
        (from_latin1(encoded, &mut id)? == id.len()).then_some(id)
    }

    /// A field that is an id or `None`.
    pub fn optional_id(&mut self) -> Option<Option<[u8; 8]>> {
        if self.rest.first() == Some(&b'N') {
            self.skip(b"N")?;
            return Some(None);
        }
        self.id().map(Some)
    }

    /// A field that is an empty dictionary.
    pub fn empty_dictionary(&mut self) -> Option<()> {
        self.skip(b"}")
    }

    /// The end, with nothing after it.
    pub fn end(self) -> Option<()> {
        (self.rest == b"tt.").then_some(())
    }

    /// Text of either dialect, as bytes.
    fn text(&mut self) -> Option<&'message [u8]> {
        if self.rest.first() == Some(&b'X') {
            self.skip(b"X")?;
            return self.counted::<4>();
        }
        self.byte_string()
    }

    fn byte_string(&mut self) -> Option<&'message [u8]> {
        let (opcode, rest) = self.rest.split_first()?;
        self.rest = rest;
        match opcode {
            b'U' => self.counted::<1>(),
            b'T' => self.counted::<4>(),
            _ => None,
        }
    }

    fn skip(&mut self, expected: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(expected)?;
        Some(())
    }

    /// A little-endian length of `WIDTH` bytes, and that many bytes.
    fn counted<const WIDTH: usize>(&mut self) -> Option<&'message [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<WIDTH>()?;
        let length = length
            .iter()
            .rev()
            .fold(0_usize, |number, byte| (number << 8) | usize::from(*byte));
        let (bytes, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }
}

/// Decodes UTF-8 of characters below 256 into a byte each; returns their number.
fn from_latin1(encoded: &[u8], decoded: &mut [u8]) -> Option<usize> {
    let mut length = 0;
    let mut bytes = encoded.iter().copied();
    while let Some(byte) = bytes.next() {
        *decoded.get_mut(length)? = match byte {
            0..=0x7f => byte,
            // The two lead bytes have the upper bits, the byte after them the lower six.
            0xc2 | 0xc3 => match bytes.next()? {
                low @ 0x80..=0xbf => (byte << 6) | (low & 0x3f),
                _ => return None,
            },
            _ => return None,
        };
        length += 1;
    }
    Some(length)
}
