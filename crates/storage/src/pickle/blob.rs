//! Recognizes data records of blobs.
//!
//! A record begins with a pickle of its object's class. ZODB treats a record as a blob's if that
//! class is exactly `ZODB.blob.Blob`; so does this module, reading the opcodes.

use super::opcode::Effect;
use super::scan::step;

const MODULE: &[u8] = b"ZODB.blob";
const NAME: &[u8] = b"Blob";

/// Whether the record's class is `ZODB.blob.Blob`. `false` for a record that is not a pickle.
pub fn is_blob_record(record: &[u8]) -> bool {
    let mut position = 0;
    let mut names: [&[u8]; 2] = [b"", b""];
    loop {
        let Ok(at) = step(record, position) else {
            return false;
        };
        position = at.span.end;
        let argument = record.get(at.argument).unwrap_or_default();
        match at.effect {
            Effect::Global => {
                let mut lines = argument.split(|byte| *byte == b'\n');
                return lines.next() == Some(MODULE) && lines.next() == Some(NAME);
            }
            // STACK_GLOBAL takes the two strings before it.
            Effect::Combine(2) => return names == [MODULE, NAME],
            Effect::Scalar => names = [names[1], argument],
            Effect::Prefix | Effect::Mark | Effect::Put | Effect::Memoize => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_a_blob_is_recognized_in_every_protocol() {
        for record in [
            &b"cZODB.blob\nBlob\nq\x01.N."[..],
            b"\x80\x03cZODB.blob\nBlob\nq\x01.\x80\x03N.",
            b"(cZODB.blob\nBlob\nq\x01NtN.",
            b"\x80\x04\x95\x15\0\0\0\0\0\0\0\x8c\x09ZODB.blob\x94\x8c\x04Blob\x94\x93\x94.N.",
        ] {
            assert!(is_blob_record(record), "{record:?}");
        }
    }

    #[test]
    fn records_that_only_mention_blobs_are_not_blobs() {
        for record in [
            &b""[..],
            b"garbage",
            b"cZODB.blob\nBlobFile\n.N.",
            b"cpersistent.mapping\nPersistentMapping\n.cZODB.blob\nBlob\n.",
            b"U\x09ZODB.blob.",
            b"cZODB.blob\nBl",
        ] {
            assert!(!is_blob_record(record), "{record:?}");
        }
    }
}
