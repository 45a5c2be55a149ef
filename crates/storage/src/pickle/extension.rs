//! A transaction's extension: a pickled dictionary whose bytes are copied from file to file.
//!
//! In a file it is a pickle of its own, empty for an empty dictionary. In a header it is one of
//! several values, written without its final `STOP`. If a header uses the pickle memo, the
//! extension may refer to values outside of itself; then it is rewritten so that it is
//! self-contained, with the same meaning.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;

use super::dialect::Dialect;
use super::error::PickleError;
use super::opcode::{Effect, FRAME, LONG_BINPUT, MEMOIZE, POP, STOP};
use super::python2;
use super::scan::{Policy, Scan, Step, memo_index, scan, step};

/// The maximum length of an extension: its length in a file has sixteen bits.
const EXTENSION_LIMIT: usize = 0xffff;

/// The bytes of an extension as stored in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extension(Bytes);

impl Extension {
    /// The extension stored in a file: a pickle, or nothing.
    pub fn new(pickle: impl Into<Bytes>) -> Self {
        Self(pickle.into())
    }

    /// The pickle, empty for an empty dictionary.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The extension as a value within a header of this dialect.
    ///
    /// For Python 3 this is the pickle from the file, which the peers of this project store byte
    /// for byte; for Python 2 it is translated to opcodes that Python 2 has.
    ///
    /// # Errors
    /// [`PickleError`] if it is not one complete pickle, or the dialect has no opcode for it.
    pub fn value(&self, dialect: Dialect) -> Result<Cow<'_, [u8]>, PickleError> {
        if self.0.is_empty() {
            return Ok(Cow::Borrowed(b"}"));
        }
        if dialect == Dialect::Python2 {
            let mut translated = python2::translate(&self.0)?;
            translated.pop();
            return Ok(Cow::Owned(translated));
        }
        scan(&self.0, Policy::Opaque)?;
        Ok(Cow::Borrowed(
            self.0.get(..self.0.len() - 1).unwrap_or_default(),
        ))
    }

    /// The value at `span` of `message`, made self-contained.
    pub(super) fn cut(
        message: &[u8],
        span: Range<usize>,
        found: &Scan,
    ) -> Result<Self, PickleError> {
        let steps = steps(message, span.clone())?;
        if is_empty_dictionary(&steps) {
            return Ok(Self::default());
        }
        let mut pickle = Vec::with_capacity(span.len().min(EXTENSION_LIMIT) + 1);
        if needs_outside(message, &steps, &span, found)? {
            relocate(message, &steps, &span, found, &mut pickle)?;
        } else {
            pickle.extend_from_slice(message.get(span).unwrap_or_default());
        }
        pickle.push(STOP);
        check_length(pickle.len())?;
        scan(&pickle, Policy::Opaque)?;
        Ok(Self::new(pickle))
    }
}

fn check_length(length: usize) -> Result<(), PickleError> {
    if length <= EXTENSION_LIMIT {
        return Ok(());
    }
    Err(PickleError::NotAHeader(format!(
        "an extension of at least {length} bytes: the maximum is {EXTENSION_LIMIT}"
    )))
}

fn steps(message: &[u8], span: Range<usize>) -> Result<Vec<Step>, PickleError> {
    let mut steps = Vec::new();
    let mut position = span.start;
    while position < span.end {
        let next = step(message, position)?;
        position = next.span.end;
        steps.push(next);
    }
    Ok(steps)
}

/// Whether the opcodes only make (and memoize) an empty dictionary, or `None`, which some writers
/// use instead.
fn is_empty_dictionary(steps: &[Step]) -> bool {
    let made = steps
        .iter()
        .filter(|step| !matches!(step.effect, Effect::Prefix | Effect::Put | Effect::Memoize));
    let opcodes: Vec<u8> = made.take(3).map(|step| step.opcode).collect();
    matches!(opcodes[..], [b'}' | b'N'] | [b'(', b'd'])
}

/// Whether the value refers to memo entries made before it, or depends on their number.
fn needs_outside(
    message: &[u8],
    steps: &[Step],
    span: &Range<usize>,
    found: &Scan,
) -> Result<bool, PickleError> {
    let before = found
        .memo
        .values()
        .any(|named| named.span.start < span.start);
    for step in steps {
        match step.effect {
            Effect::Memoize if before => return Ok(true),
            Effect::Get if !defined_within(memo_index(message, step)?, span, found) => {
                return Ok(true);
            }
            _ => {}
        }
    }
    Ok(false)
}

fn defined_within(index: usize, span: &Range<usize>, found: &Scan) -> bool {
    found
        .memo
        .get(&index)
        .is_some_and(|named| named.span.start >= span.start)
}

/// Writes the value so that it is self-contained: first the outside values to which it refers,
/// each made, memoized and dropped again; then the value itself, with explicit memo indexes.
fn relocate(
    message: &[u8],
    within: &[Step],
    span: &Range<usize>,
    found: &Scan,
    out: &mut Vec<u8>,
) -> Result<(), PickleError> {
    let mut wanted = BTreeSet::new();
    let mut pending = outside_names(message, within, span, found)?;
    while let Some(index) = pending.pop() {
        if !wanted.insert(index) {
            continue;
        }
        let bad = PickleError::BadMemo {
            position: span.start,
        };
        let named = found.memo.get(&index).ok_or(bad)?;
        pending.extend(outside_names(
            message,
            &steps(message, named.span.clone())?,
            span,
            found,
        )?);
    }
    // Memo indexes are assigned in the order in which the values are complete, so a value's parts
    // come before it.
    let mut values: Vec<_> = wanted
        .iter()
        .filter_map(|index| Some((*index, found.memo.get(index)?)))
        .collect();
    values.sort_by_key(|(_, named)| named.span.end);
    for (index, named) in values {
        copy(message, &steps(message, named.span.clone())?, found, out)?;
        put(index, out)?;
        out.push(POP);
        check_length(out.len())?;
    }
    copy(message, within, found, out)
}

fn outside_names(
    message: &[u8],
    steps: &[Step],
    span: &Range<usize>,
    found: &Scan,
) -> Result<Vec<usize>, PickleError> {
    let gets = steps.iter().filter(|step| step.effect == Effect::Get);
    let mut names = Vec::new();
    for step in gets {
        let index = memo_index(message, step)?;
        if !defined_within(index, span, found) {
            names.push(index);
        }
    }
    Ok(names)
}

/// Copies opcodes, replacing `MEMOIZE` by explicit indexes and leaving out frames.
fn copy(
    message: &[u8],
    steps: &[Step],
    found: &Scan,
    out: &mut Vec<u8>,
) -> Result<(), PickleError> {
    for step in steps {
        match step.opcode {
            FRAME => {}
            MEMOIZE => {
                let bad = PickleError::BadMemo {
                    position: step.span.start,
                };
                let index = found.memoized.get(&step.span.start).ok_or(bad)?;
                put(*index, out)?;
            }
            _ => out.extend_from_slice(message.get(step.span.clone()).unwrap_or_default()),
        }
    }
    Ok(())
}

#[expect(
    clippy::little_endian_bytes,
    reason = "numbers in pickles are little-endian"
)]
fn put(index: usize, out: &mut Vec<u8>) -> Result<(), PickleError> {
    let index = u32::try_from(index)
        .map_err(|error| PickleError::NotAHeader(format!("a memo index: {error}")))?;
    out.push(LONG_BINPUT);
    out.extend_from_slice(&index.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_extension_is_an_empty_dictionary_in_a_header() {
        assert_eq!(
            Extension::default().value(Dialect::Python3).unwrap(),
            &b"}"[..]
        );
    }

    #[test]
    fn a_pickle_is_inserted_without_its_stop() {
        let extension = Extension::new(&b"\x80\x03}q\x00X\x01\x00\x00\x00aq\x01K\x01s."[..]);
        assert_eq!(
            extension.value(Dialect::Python3).unwrap(),
            &extension.as_bytes()[..extension.as_bytes().len() - 1]
        );
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [&b"garbage"[..], b"}", b"}.}", b"}}.", b"."] {
            assert!(
                Extension::new(bytes).value(Dialect::Python3).is_err(),
                "{bytes:?}"
            );
        }
    }
}
