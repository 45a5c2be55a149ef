//! The class in an object's record, for messages.
//!
//! A record begins with a pickle of its class: the class itself, or a tuple of the class (or its
//! module and name) and arguments. ZODB has written all of these forms.

use super::opcode::Effect;
use super::scan::step;

/// The number of opcodes to read before giving up.
const MAX_STEPS: usize = 16;

/// The module and name of the class in the first pickle of `record`; `None` if it has no form
/// that ZODB has written.
pub fn class_name(record: &[u8]) -> Option<(String, String)> {
    let mut position = 0;
    let mut strings: [&[u8]; 2] = [b"", b""];
    for _ in 0..MAX_STEPS {
        let at = step(record, position).ok()?;
        position = at.span.end;
        let argument = record.get(at.argument).unwrap_or_default();
        match at.effect {
            Effect::Global => {
                let mut lines = argument.split(|byte| *byte == b'\n');
                return names(lines.next()?, lines.next()?);
            }
            // STACK_GLOBAL and a tuple of two take the strings before them.
            Effect::Combine(2) | Effect::Tuple(2) | Effect::TupleFromMark => {
                return names(strings[0], strings[1]);
            }
            Effect::Scalar => strings = [strings[1], argument],
            Effect::Prefix | Effect::Mark | Effect::Put | Effect::Memoize => {}
            _ => return None,
        }
    }
    None
}

fn names(module: &[u8], name: &[u8]) -> Option<(String, String)> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let (module, name) = (text(module)?, text(name)?);
    (!module.is_empty() && !name.is_empty()).then_some((module, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_class_is_recognized() {
        for record in [
            &b"capp.models\nPage\nq\x01.N."[..],
            b"\x80\x03capp.models\nPage\nq\x01.\x80\x03N.",
            b"(capp.models\nPage\nq\x01NtN.",
            b"((U\x0aapp.modelsq\x01U\x04Pageq\x02tq\x03Nt.",
            b"\x80\x04\x95\x15\0\0\0\0\0\0\0\x8c\x0aapp.models\x94\x8c\x04Page\x94\x93\x94.N.",
            b"\x80\x03X\x0a\0\0\0app.modelsX\x04\0\0\0Page\x86N\x86.",
        ] {
            let found = class_name(record);
            let expected = Some(("app.models".to_owned(), "Page".to_owned()));
            assert_eq!(found, expected, "{}", record.escape_ascii());
        }
    }

    #[test]
    fn records_without_a_class_give_none() {
        for record in [
            &b""[..],
            b"garbage",
            b"N.",
            b"capp",
            b"}.",
            b"capp.models\n\n.",
            b"((((((((((((((((((((((((((((",
        ] {
            assert_eq!(class_name(record), None, "{}", record.escape_ascii());
        }
    }
}
