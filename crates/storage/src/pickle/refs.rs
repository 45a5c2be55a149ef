//! The oids to which an object's record refers, read from the opcodes of its two pickles.
//!
//! The result equals that of `ZODB.serialize.referencesf`, in the same order, without building an
//! object or importing a class: the reader only tracks the kinds of values that matter for a
//! persistent id. Weak references and references to other databases are lists, and are ignored.
//! The two pickles share one memo, as written by ZODB.
//!
//! The reader accepts more than ZODB (protocols 4 and 5, byte strings of Python 2 that are not
//! ASCII) and values that a real unpickler would refuse, such as text that is not UTF-8. If it
//! cannot determine an oid it returns an error, and the caller may use Python instead.

pub use super::error::PickleError;
use super::opcode::{self, Argument, Effect, LONG_BINPUT};
use super::scan::{Step, memo_index, step};
use zrs_ids::Oid;

/// The number of pickles in a record: the object's class, and its state.
const PICKLES: usize = 2;
/// The length of an oid.
const OID_LEN: usize = 8;
/// The highest protocol.
const HIGHEST_PROTOCOL: u8 = 5;

const PROTO: u8 = 0x80;
const PERSID: u8 = b'P';
const BINPERSID: u8 = b'Q';
const BINPUT: u8 = b'q';
const BINGET: u8 = b'h';
const LONG_BINGET: u8 = b'j';
const STRING: u8 = b'S';
const EMPTY_LIST: u8 = b']';
const LIST: u8 = b'l';

/// The oids in a record, in the order of the references, including repetitions.
///
/// # Errors
/// [`PickleError`] if the record is not two pickles, or has a persistent id whose oid cannot be
/// read without Python.
pub fn references(record: &[u8]) -> Result<Vec<Oid>, PickleError> {
    let mut oids = Vec::new();
    ReferenceReader::new().read(record, &mut oids)?;
    Ok(oids)
}

/// Reads the references of many records with one allocation.
///
/// Its memory is proportional to the largest record.
#[derive(Debug, Default)]
pub struct ReferenceReader {
    stack: Vec<Value>,
    /// The heights of `stack` at each mark.
    marks: Vec<usize>,
    /// The memoized values; pickles use dense indexes.
    memo: Vec<Option<Value>>,
    /// The number of memoized values.
    named: usize,
}

/// The kinds of values that matter for a persistent id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// A string of eight bytes.
    Oid(Oid),
    /// A tuple that begins with a string of eight bytes.
    TupleOf(Oid),
    /// A list.
    List,
    /// Any other value.
    Other,
}

impl ReferenceReader {
    /// A reader without allocated memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the oids in a record to `oids`, like [`references`].
    ///
    /// # Errors
    /// Those of [`references`]; `oids` may then have some of them.
    pub fn read(&mut self, record: &[u8], oids: &mut Vec<Oid>) -> Result<(), PickleError> {
        self.memo.clear();
        self.named = 0;
        let mut position = 0;
        for _ in 0..PICKLES {
            self.stack.clear();
            self.marks.clear();
            position = self.read_pickle(record, position, oids)?;
        }
        Ok(())
    }

    /// Reads the pickle at `position`; returns where it ends.
    fn read_pickle(
        &mut self,
        record: &[u8],
        mut position: usize,
        oids: &mut Vec<Oid>,
    ) -> Result<usize, PickleError> {
        loop {
            let step = match short_step(record, position) {
                Some(step) => step,
                None => step(record, position)?,
            };
            position = step.span.end;
            if step.effect == Effect::Stop {
                self.take(1, &step)?;
                return Ok(position);
            }
            self.apply(record, &step, oids)?;
        }
    }

    fn apply(
        &mut self,
        record: &[u8],
        step: &Step,
        oids: &mut Vec<Oid>,
    ) -> Result<(), PickleError> {
        match step.effect {
            Effect::Scalar => self.stack.push(scalar(record, step)),
            Effect::Prefix => check_protocol(record, step)?,
            Effect::Put => {
                let index = name_of(record, step)?;
                self.name(index, record.len(), step)?;
            }
            Effect::Memoize => self.name(self.named, record.len(), step)?,
            Effect::Get => {
                let value = self.memo.get(name_of(record, step)?).copied().flatten();
                self.stack.push(value.ok_or(bad_memo(step))?);
            }
            Effect::Mark => self.marks.push(self.stack.len()),
            Effect::Tuple(count) => {
                let tuple = tuple(self.take(count, step)?);
                self.stack.push(tuple);
            }
            Effect::TupleFromMark => {
                let height = self.pop_mark(step)?;
                let tuple = tuple(self.stack.get(height).copied());
                self.stack.truncate(height);
                self.stack.push(tuple);
            }
            Effect::Opaque if step.opcode == PERSID => {
                let argument = record.get(step.argument.clone()).unwrap_or_default();
                oids.push(Oid::from_slice(argument).ok_or(no_oid(step))?);
                self.stack.push(Value::Other);
            }
            Effect::Opaque if step.opcode == EMPTY_LIST => self.stack.push(Value::List),
            Effect::Opaque | Effect::Global | Effect::EmptyTuple => self.stack.push(Value::Other),
            Effect::Combine(_) if step.opcode == BINPERSID => {
                match self.take(1, step)? {
                    Some(Value::Oid(oid) | Value::TupleOf(oid)) => oids.push(oid),
                    Some(Value::List) => {}
                    Some(Value::Other) | None => return Err(no_oid(step)),
                }
                self.stack.push(Value::Other);
            }
            Effect::Combine(count) => {
                self.take(count, step)?;
                self.stack.push(Value::Other);
            }
            Effect::Reduce => {
                self.take(2, step)?;
                self.stack.push(Value::Other);
            }
            Effect::OpaqueFromMark => {
                let height = self.pop_mark(step)?;
                self.stack.truncate(height);
                let list = step.opcode == LIST;
                self.stack
                    .push(if list { Value::List } else { Value::Other });
            }
            Effect::Change(count) => {
                self.take(count, step)?;
                self.top(step)?;
            }
            Effect::ChangeFromMark => {
                let height = self.pop_mark(step)?;
                self.stack.truncate(height);
                self.top(step)?;
            }
            Effect::Pop if self.marks.last() == Some(&self.stack.len()) => {
                self.marks.pop();
            }
            Effect::Pop => {
                self.take(1, step)?;
            }
            Effect::PopMark => {
                let height = self.pop_mark(step)?;
                self.stack.truncate(height);
            }
            Effect::Duplicate => {
                let top = self.top(step)?;
                self.stack.push(top);
            }
            Effect::Stop => {}
        }
        Ok(())
    }

    /// The lowest height down to which values can be taken, given the innermost mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    /// Drops the topmost `count` values; returns the first of them.
    fn take(&mut self, count: usize, step: &Step) -> Result<Option<Value>, PickleError> {
        let rest = self.stack.len().checked_sub(count);
        let rest = rest
            .filter(|rest| *rest >= self.floor())
            .ok_or(underflow(step))?;
        let first = self.stack.get(rest).copied();
        self.stack.truncate(rest);
        Ok(first)
    }

    fn pop_mark(&mut self, step: &Step) -> Result<usize, PickleError> {
        self.marks.pop().ok_or(underflow(step))
    }

    fn top(&self, step: &Step) -> Result<Value, PickleError> {
        match self.stack.last() {
            Some(top) if self.stack.len() > self.floor() => Ok(*top),
            _ => Err(underflow(step)),
        }
    }

    /// Memoizes the topmost value. No pickler makes more entries than the record has bytes, which
    /// bounds the memo.
    fn name(&mut self, index: usize, limit: usize, step: &Step) -> Result<(), PickleError> {
        let top = self.top(step)?;
        if index >= limit {
            return Err(bad_memo(step));
        }
        if index >= self.memo.len() {
            self.memo.resize(index + 1, None);
        }
        if let Some(named) = self.memo.get_mut(index) {
            self.named += usize::from(named.is_none());
            *named = Some(top);
        }
        Ok(())
    }
}

/// The result of [`opcode::describe`] for each opcode, computed once: most of the time of a pack
/// is spent here.
static OPCODES: [Option<(Argument, Effect)>; 256] = {
    let mut opcodes = [None; 256];
    let mut opcode = 0_u8;
    loop {
        opcodes[opcode as usize] = opcode::describe(opcode);
        if opcode == u8::MAX {
            break opcodes;
        }
        opcode += 1;
    }
};

/// The opcode at `position`, like [`step`], if it is a frequent one and complete.
#[inline]
fn short_step(record: &[u8], position: usize) -> Option<Step> {
    let opcode = *record.get(position)?;
    let (layout, effect) = OPCODES[usize::from(opcode)]?;
    let (start, end) = match layout {
        Argument::Fixed(length) => (position + 1, position + 1 + length),
        Argument::Counted(1) => {
            let start = position + 2;
            (start, start + usize::from(*record.get(position + 1)?))
        }
        Argument::Counted(4) => {
            let start = position + 5;
            (start, start.checked_add(four_bytes(record, position + 1)?)?)
        }
        Argument::Counted(_) | Argument::Lines(_) => return None,
    };
    (end <= record.len()).then_some(Step {
        opcode,
        effect,
        span: position..end,
        argument: start..end,
    })
}

/// The memo index of a `PUT` or `GET`.
#[inline]
fn name_of(record: &[u8], step: &Step) -> Result<usize, PickleError> {
    let argument = step.argument.start;
    let index = match step.opcode {
        BINPUT | BINGET => record.get(argument).copied().map(usize::from),
        LONG_BINPUT | LONG_BINGET => four_bytes(record, argument),
        _ => None,
    };
    index.map_or_else(|| memo_index(record, step), Ok)
}

#[inline]
#[expect(
    clippy::little_endian_bytes,
    reason = "numbers in pickles are little-endian"
)]
fn four_bytes(record: &[u8], at: usize) -> Option<usize> {
    let bytes = record.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}

fn check_protocol(record: &[u8], step: &Step) -> Result<(), PickleError> {
    match record.get(step.argument.clone()) {
        Some([protocol]) if step.opcode == PROTO && *protocol > HIGHEST_PROTOCOL => {
            Err(PickleError::Forbidden {
                opcode: PROTO,
                detail: format!("protocol {protocol}"),
                position: step.span.start,
            })
        }
        _ => Ok(()),
    }
}

/// A tuple whose first element is this value.
fn tuple(first: Option<Value>) -> Value {
    match first {
        Some(Value::Oid(oid)) => Value::TupleOf(oid),
        _ => Value::Other,
    }
}

/// A string, number, boolean or `None`.
fn scalar(record: &[u8], step: &Step) -> Value {
    let argument = record.get(step.argument.clone()).unwrap_or_default();
    let oid = match step.opcode {
        // Byte strings, of Python 2 and 3.
        b'U' | b'T' | b'C' | b'B' | 0x8e => Oid::from_slice(argument),
        // Text can be an oid if all of its bytes are below 0x80.
        b'X' | 0x8c | 0x8d => Oid::from_slice(argument).filter(|oid| oid.as_bytes().is_ascii()),
        STRING => unquote(argument).and_then(|bytes| Oid::from_slice(&bytes)),
        _ => None,
    };
    oid.map_or(Value::Other, Value::Oid)
}

/// The bytes of a string of Python 2, as written by its `repr`, up to one more than an oid has;
/// `None` for an escape that `repr` does not write.
fn unquote(argument: &[u8]) -> Option<Vec<u8>> {
    let argument = argument.trim_ascii_end();
    let ([b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"']) = argument else {
        return None;
    };
    let mut bytes = Vec::with_capacity(OID_LEN + 1);
    let mut rest = inner;
    while bytes.len() <= OID_LEN {
        let (byte, after) = match rest {
            [] => break,
            [b'\\', b'x', high, low, after @ ..] => (hexadecimal(*high, *low)?, after),
            [b'\\', escape, after @ ..] => (unescape(*escape)?, after),
            [b'\\'] => return None,
            [byte, after @ ..] => (*byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    Some(bytes)
}

fn hexadecimal(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(u8::try_from)?.ok();
    Some(digit(high)? << 4 | digit(low)?)
}

fn unescape(escape: u8) -> Option<u8> {
    match escape {
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        b'\\' | b'\'' | b'"' => Some(escape),
        _ => None,
    }
}

fn underflow(step: &Step) -> PickleError {
    PickleError::StackUnderflow {
        position: step.span.start,
    }
}

fn bad_memo(step: &Step) -> PickleError {
    PickleError::BadMemo {
        position: step.span.start,
    }
}

fn no_oid(step: &Step) -> PickleError {
    PickleError::NoOid {
        opcode: step.opcode,
        position: step.span.start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(state: &[u8]) -> Result<Vec<Oid>, PickleError> {
        references(&[b"N.", state].concat())
    }

    #[test]
    fn strings_of_python_2_are_unquoted() {
        let oid = Oid::new(*b"\x00\n\t\r'\"\\\xff");
        for quoted in [
            &b"S'\\x00\\n\\t\\r\\'\\\"\\\\\\xff'\nQ."[..],
            b"S\"\\x00\\n\\t\\r'\\\"\\\\\\xFF\" \nQ.",
        ] {
            assert_eq!(read(quoted), Ok(vec![oid]));
        }
        for other in [
            &b"S'1234567\\'\nQ."[..],
            b"S'1234567\\q'\nQ.",
            b"S'123456789'\nQ.",
            b"S'\nQ.",
            b"S'\\x0'\nQ.",
            b"S12345678\nQ.",
        ] {
            assert!(
                matches!(read(other), Err(PickleError::NoOid { opcode: b'Q', .. })),
                "{}",
                other.escape_ascii()
            );
        }
    }

    #[test]
    fn an_uncertain_oid_is_an_error_with_the_opcode() {
        // None, an empty tuple, seven bytes, text that is not ASCII, a call's result, and
        // tuples of these.
        for state in [
            &b"NQ."[..],
            b")Q.",
            b"C\x071234567Q.",
            b"X\x08\0\0\0abcdef\xc3\xa9Q.",
            b"c_codecs\nencode\nC\x0812345678\x85RQ.",
            b"N\x85Q.",
            b"C\x0812345678\x85N\x86Q.",
            b"P1234567\n.",
        ] {
            let error = read(state).unwrap_err();
            let opcode = if state[0] == b'P' { b'P' } else { b'Q' };
            let found =
                matches!(error, PickleError::NoOid { opcode: named, .. } if named == opcode);
            assert!(found, "{error} for {}", state.escape_ascii());
        }
    }

    #[test]
    fn a_memo_index_beyond_the_length_of_the_record_is_refused() {
        assert!(matches!(
            read(b"Nr\xff\xff\xff\xff."),
            Err(PickleError::BadMemo { .. })
        ));
    }

    #[test]
    fn a_record_is_two_pickles() {
        assert!(references(b"").is_err());
        assert!(references(b"N.").is_err());
        assert_eq!(references(b"N.N."), Ok(vec![]));
        assert_eq!(
            references(b"C\x0812345678q\x00.h\x00Q.and more"),
            Ok(vec![Oid::new(*b"12345678")])
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_neither_panic_nor_take_more_memory_than_their_length(
            record in prop::collection::vec(
                prop_oneof![any::<u8>(), prop::sample::select(&b"(.0QPhqjrtU2el]\x85\x94"[..])],
                0..300,
            ),
        ) {
            let mut reader = ReferenceReader::new();
            let mut oids = Vec::new();
            let _ = reader.read(&record, &mut oids);
            prop_assert!(reader.memo.len() <= record.len());
            prop_assert!(reader.stack.len() + reader.marks.len() <= record.len());
            prop_assert!(oids.len() <= record.len());
        }
    }
}
