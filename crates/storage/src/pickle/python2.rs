//! Translates a pickle of any protocol to opcodes that Python 2 has.
//!
//! Bytes become Python 2's strings, text stays text, and two modules that Python 3 has renamed
//! get their old names.

use super::error::PickleError;
use super::opcode::{Effect, FRAME, LONG_BINPUT, MEMOIZE};
use super::scan::{Policy, Step, scan, step};

/// `PROTO`, with the protocol's number.
const PROTO: u8 = 0x80;
/// The highest protocol of Python 2.
const PYTHON2_PROTOCOL: u8 = 2;

/// The pickle, including its `STOP`, in a form that Python 2 can load.
///
/// # Errors
/// [`PickleError`] if it is not a pickle, or [`PickleError::Forbidden`] for a value that Python 2
/// has no opcode for, such as a set written by protocol 4.
pub(super) fn translate(pickle: &[u8]) -> Result<Vec<u8>, PickleError> {
    let found = scan(pickle, Policy::Opaque)?;
    let mut out = Vec::with_capacity(pickle.len());
    let mut position = 0;
    while position < pickle.len() {
        let at = step(pickle, position)?;
        position = at.span.end;
        let argument = pickle.get(at.argument.clone()).unwrap_or_default();
        match at.opcode {
            FRAME => {}
            PROTO
                if argument
                    .first()
                    .is_some_and(|number| *number > PYTHON2_PROTOCOL) => {}
            b'C' | b'B' | 0x8e => write_string(argument, &mut out),
            0x8c | 0x8d => {
                out.push(b'X');
                write_length(argument.len(), &mut out);
                out.extend_from_slice(argument);
            }
            MEMOIZE => {
                let index = found.memoized.get(&at.span.start).copied();
                out.push(LONG_BINPUT);
                write_length(index.unwrap_or_default(), &mut out);
            }
            b'c' => write_global(argument, &mut out),
            0x8f..=0x93 | 0x96..=0x98 => return Err(no_such_opcode(&at)),
            _ => out.extend_from_slice(pickle.get(at.span.clone()).unwrap_or_default()),
        }
        if at.effect == Effect::Stop {
            break;
        }
    }
    Ok(out)
}

fn no_such_opcode(at: &Step) -> PickleError {
    PickleError::Forbidden {
        opcode: at.opcode,
        detail: "Python 2 has no such opcode".to_owned(),
        position: at.span.start,
    }
}

fn write_string(bytes: &[u8], out: &mut Vec<u8>) {
    if let Ok(length) = u8::try_from(bytes.len()) {
        out.extend_from_slice(&[b'U', length]);
    } else {
        out.push(b'T');
        write_length(bytes.len(), out);
    }
    out.extend_from_slice(bytes);
}

fn write_global(names: &[u8], out: &mut Vec<u8>) {
    let mut parts = names.splitn(2, |byte| *byte == b'\n');
    let module: &[u8] = match parts.next().unwrap_or_default() {
        b"builtins" => b"__builtin__",
        b"copyreg" => b"copy_reg",
        other => other,
    };
    out.push(b'c');
    out.extend_from_slice(module);
    out.push(b'\n');
    out.extend_from_slice(parts.next().unwrap_or_default());
    out.push(b'\n');
}

/// Lengths and memo indexes do not exceed the pickle's length, which fits in a message.
#[expect(
    clippy::little_endian_bytes,
    reason = "numbers in pickles are little-endian"
)]
fn write_length(length: usize, out: &mut Vec<u8>) {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_3_pickles_become_python_2_pickles() {
        for (pickle, translated) in [
            (&b"\x80\x02}q\x00."[..], &b"\x80\x02}q\x00."[..]),
            (
                b"\x80\x03}q\x00X\x01\x00\x00\x00aq\x01C\x02\xe9\x00q\x02s.",
                b"}q\x00X\x01\x00\x00\x00aq\x01U\x02\xe9\x00q\x02s.",
            ),
            (
                b"\x80\x04\x95\x06\0\0\0\0\0\0\0}\x94\x8c\x01aK\x01s.",
                b"}r\0\0\0\0X\x01\0\0\0aK\x01s.",
            ),
            (b"cbuiltins\nlist\n)R.", b"c__builtin__\nlist\n)R."),
        ] {
            assert_eq!(translate(pickle).unwrap(), translated);
        }
        let long = [&b"\x80\x03B\x2c\x01\0\0"[..], &[b'x'; 300], b"."].concat();
        assert!(translate(&long).unwrap().starts_with(b"T\x2c\x01\0\0xxx"));
    }

    #[test]
    fn values_without_an_opcode_of_python_2_are_refused() {
        let refused = translate(b"\x80\x04\x8f.").unwrap_err();
        assert!(matches!(
            refused,
            PickleError::Forbidden { opcode: 0x8f, .. }
        ));
    }
}
