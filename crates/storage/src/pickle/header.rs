//! Replication headers: pickled pairs of a one-letter kind and a tuple of fields.
//!
//! Reading accepts the headers of every peer: protocols 0 to 5, with or without memo, Python 2's
//! strings and Python 3's `_codecs.encode` form of bytes. Writing produces the same bytes as
//! zc.zrs: protocol 1 without memo, in the [`Dialect`] of either Python.

use serde_pickle::{DeOptions, Value};

use super::dialect::Dialect;
use super::error::PickleError;
use super::extension::Extension;
use super::opcode::Effect;
use super::scan::{Policy, Scan, scan, step};
use super::stack::{Item, Kind};

/// A field of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `None`.
    Nothing,
    /// A byte string.
    Bytes(Vec<u8>),
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
}

/// A header that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The kind, such as `T`.
    pub kind: u8,
    /// The fields, without the extension.
    pub fields: Vec<Field>,
    /// The last field of a header of kind `T`.
    pub extension: Option<Extension>,
}

impl Header {
    /// Reads a header. The last field of a `T` header is taken as an [`Extension`] without being
    /// decoded.
    ///
    /// # Errors
    /// [`PickleError`] if it is not a pickle or not a header, or contains anything that headers
    /// do not use.
    pub fn read(message: &[u8]) -> Result<Self, PickleError> {
        let found = scan(message, Policy::Opaque)?;
        if kind(message, &found)? != b'T' {
            scan(message, Policy::Header)?;
            return decode(message, None);
        }
        let span = extension_span(&found)?;
        let mut rest = Vec::with_capacity(message.len() - span.len() + 1);
        rest.extend_from_slice(message.get(..span.start).unwrap_or_default());
        rest.push(b'N');
        rest.extend_from_slice(message.get(span.end..).unwrap_or_default());
        scan(&rest, Policy::Header)?;
        let extension = Extension::cut(message, span, &found)?;
        decode(&rest, Some(extension))
    }
}

/// The letter of the first value, read from its opcode's argument.
fn kind(message: &[u8], found: &Scan) -> Result<u8, PickleError> {
    let no_kind = || PickleError::NotAHeader("expected a pair that begins with a letter".into());
    let first = found.root.values.first().ok_or_else(no_kind)?;
    let mut at = step(message, first.span.start)?;
    while at.effect == Effect::Prefix {
        at = step(message, at.span.end)?;
    }
    match message.get(at.argument) {
        Some([kind] | [b'\'', kind, b'\''] | [b'"', kind, b'"']) => Ok(*kind),
        _ => Err(no_kind()),
    }
}

/// The range of the fifth field of the inner tuple.
fn extension_span(found: &Scan) -> Result<std::ops::Range<usize>, PickleError> {
    let inner: Option<&Item> = match found.root.values.as_slice() {
        [_, inner] if found.root.kind == Kind::Tuple && inner.kind == Kind::Tuple => Some(inner),
        _ => None,
    };
    match inner.map(|inner| inner.values.as_slice()) {
        Some([_, _, _, _, extension]) => Ok(extension.span.clone()),
        _ => Err(PickleError::NotAHeader(
            "expected ('T', (five fields))".into(),
        )),
    }
}

/// Decodes a pickle that [`scan`] has accepted under [`Policy::Header`].
fn decode(message: &[u8], extension: Option<Extension>) -> Result<Header, PickleError> {
    let options = DeOptions::new().keep_restore_state();
    let value = serde_pickle::value_from_slice(message, options)
        .map_err(|error| PickleError::NotAHeader(error.to_string()))?;
    let Value::Tuple(pair) = value else {
        return Err(PickleError::NotAHeader("expected a tuple".into()));
    };
    let Ok([kind, Value::Tuple(values)]) = <[Value; 2]>::try_from(pair) else {
        return Err(PickleError::NotAHeader(
            "expected a pair of a kind and a tuple".into(),
        ));
    };
    let kind = match field(kind)? {
        Field::Text(text) => text.into_bytes(),
        Field::Bytes(bytes) => bytes,
        Field::Nothing | Field::Number(_) => Vec::new(),
    };
    let [kind] = kind[..] else {
        return Err(PickleError::NotAHeader(
            "expected a kind of one letter".into(),
        ));
    };
    if (kind == b'T') != extension.is_some() {
        return Err(PickleError::NotAHeader(
            "expected ('T', (five fields))".into(),
        ));
    }
    let mut fields = values
        .into_iter()
        .map(field)
        .collect::<Result<Vec<_>, _>>()?;
    if extension.is_some() {
        fields.pop();
    }
    Ok(Header {
        kind,
        fields,
        extension,
    })
}

fn field(value: Value) -> Result<Field, PickleError> {
    match value {
        Value::None => Ok(Field::Nothing),
        Value::Bytes(bytes) => Ok(Field::Bytes(bytes)),
        Value::String(text) => Ok(Field::Text(text)),
        Value::I64(number) => Ok(Field::Number(number)),
        // This is `bytes()`: the scan allows no other call without arguments.
        Value::Tuple(values) if values.is_empty() => Ok(Field::Bytes(Vec::new())),
        _ => Err(PickleError::NotAHeader(
            "a field that is neither bytes nor text".into(),
        )),
    }
}

/// Appends one header to a buffer.
#[derive(Debug)]
pub struct HeaderWriter<'out> {
    dialect: Dialect,
    out: &'out mut Vec<u8>,
}

#[expect(
    clippy::little_endian_bytes,
    reason = "numbers in pickles are little-endian"
)]
impl<'out> HeaderWriter<'out> {
    /// Begins a header of this kind.
    pub fn new(dialect: Dialect, kind: u8, out: &'out mut Vec<u8>) -> Self {
        let mut writer = Self { dialect, out };
        writer.out.push(b'(');
        writer.text(char::from(kind).encode_utf8(&mut [0; 4]));
        writer.out.push(b'(');
        writer
    }

    /// Writes a byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        match self.dialect {
            Dialect::Python2 => self.byte_string(bytes),
            Dialect::Python3 if bytes.is_empty() => {
                self.out.extend_from_slice(b"c__builtin__\nbytes\n)R");
            }
            Dialect::Python3 => {
                self.out.extend_from_slice(b"c_codecs\nencode\n(");
                self.latin1(bytes);
                self.unicode("latin1");
                self.out.extend_from_slice(b"tR");
            }
        }
        self
    }

    /// Writes ASCII text, such as a kind or a status.
    pub fn text(&mut self, text: &str) -> &mut Self {
        match self.dialect {
            Dialect::Python2 => self.byte_string(text.as_bytes()),
            Dialect::Python3 => self.unicode(text),
        }
        self
    }

    /// Writes `None`.
    pub fn nothing(&mut self) -> &mut Self {
        self.out.push(b'N');
        self
    }

    /// Writes a count.
    pub fn number(&mut self, number: u32) -> &mut Self {
        match (self.dialect, u8::try_from(number), u16::try_from(number)) {
            (Dialect::Python2, ..) => {
                self.out
                    .extend_from_slice(format!("L{number}L\n").as_bytes());
            }
            (_, Ok(small), _) => self.out.extend_from_slice(&[b'K', small]),
            (_, _, Ok(medium)) => {
                self.out.push(b'M');
                self.out.extend_from_slice(&medium.to_le_bytes());
            }
            _ => {
                self.out.push(b'J');
                self.out.extend_from_slice(&number.to_le_bytes());
            }
        }
        self
    }

    /// Writes the bytes of a value that is already pickled.
    pub fn pickled(&mut self, value: &[u8]) -> &mut Self {
        self.out.extend_from_slice(value);
        self
    }

    /// Ends the header.
    pub fn finish(self) {
        self.out.extend_from_slice(b"tt.");
    }

    fn byte_string(&mut self, bytes: &[u8]) {
        if let Ok(length) = u8::try_from(bytes.len()) {
            self.out.extend_from_slice(&[b'U', length]);
        } else {
            self.out.push(b'T');
            self.length(bytes.len());
        }
        self.out.extend_from_slice(bytes);
    }

    fn unicode(&mut self, text: &str) {
        self.out.push(b'X');
        self.length(text.len());
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Writes each byte as the character with that number.
    fn latin1(&mut self, bytes: &[u8]) {
        self.out.push(b'X');
        let wide = bytes.iter().filter(|byte| !byte.is_ascii()).count();
        self.length(bytes.len() + wide);
        for byte in bytes {
            if byte.is_ascii() {
                self.out.push(*byte);
            } else {
                // UTF-8: the upper two bits, then the lower six.
                self.out
                    .extend_from_slice(&[0xc0 | (byte >> 6), 0x80 | (byte & 0x3f)]);
            }
        }
    }

    /// Fields come from the file format's 16-bit lengths, so they always fit.
    fn length(&mut self, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.out.extend_from_slice(&length.to_le_bytes());
    }
}
