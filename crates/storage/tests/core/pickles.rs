//! Headers as real picklers write them, and pickles that must be refused.

use proptest::prelude::*;
use serde_pickle::{DeOptions, Value, value_from_slice};
use zrs_storage::pickle::{Field, Header, PickleError, Policy, scan};

const TID: &[u8] = b"\x03lk\x91\x00\x00\x00\x00";

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn load(pickle: &[u8]) -> Value {
    value_from_slice(pickle, DeOptions::new().keep_restore_state()).unwrap()
}

/// Every protocol, with and without memo: the fields are read, and the extracted extension keeps
/// its meaning.
#[test]
fn headers_of_every_protocol_are_read() {
    let headers = include_str!("../../../../tests/data/headers.txt");
    assert_eq!(headers.lines().count(), 72);
    for line in headers.lines() {
        let [name, message, extension] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let header =
            Header::read(&unhex(message)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(header.kind, b'T', "{name}");
        assert_eq!(
            header.fields,
            [
                Field::Bytes(TID.to_vec()),
                Field::Text(" ".to_owned()),
                Field::Bytes(Vec::new()),
                Field::Bytes(b"initial \xff".to_vec()),
            ],
            "{name}"
        );
        let cut = header.extension.unwrap();
        let expected = load(&unhex(extension));
        if cut.as_bytes().is_empty() {
            assert_eq!(
                expected,
                Value::Dict(std::collections::BTreeMap::default()),
                "{name}"
            );
        } else {
            assert_eq!(load(cut.as_bytes()), expected, "{name}");
            assert!(
                !name.starts_with("empty"),
                "{name}: an empty extension is no bytes"
            );
        }
    }
}

#[test]
fn an_extension_without_outside_references_keeps_its_bytes() {
    for pickle in [
        &b"\x80\x03}q\x00(X\x01\x00\x00\x00aq\x01C\x01\xe9q\x02u."[..],
        // The last opcode refers to the value.
        b"\x80\x03cbuiltins\ndict\nq\x00)Rq\x01.",
        b"}q\x00(K\x01K\x02up5\nr\x07\0\0\0.",
    ] {
        keeps_its_bytes(pickle);
    }
}

fn keeps_its_bytes(pickle: &[u8]) {
    let mut message = b"(U\x01T(U\x08\x03lk\x91\x00\x00\x00\x00U\x01 U\x00U\x00".to_vec();
    message.extend_from_slice(&pickle[..pickle.len() - 1]);
    message.extend_from_slice(b"tt.");
    let header = Header::read(&message).unwrap();
    assert_eq!(&header.extension.unwrap().as_bytes()[..], pickle);
}

fn refusal(message: &[u8]) -> PickleError {
    Header::read(message).unwrap_err()
}

#[test]
fn a_global_in_a_header_is_refused_by_name() {
    let message = b"(U\x01S(cposix\nsystem\n(U\x04truetRNNNtt.";
    let PickleError::Forbidden { detail, .. } = refusal(message) else {
        panic!()
    };
    assert_eq!(detail, "posix.system");
}

#[test]
fn any_global_may_be_in_an_extension_where_it_stays_bytes() {
    let message = b"(U\x01T(U\x08\x03lk\x91\x00\x00\x00\x00U\x01 U\x00U\x00cposix\nsystem\ntt.";
    let header = Header::read(message).unwrap();
    assert_eq!(
        &header.extension.unwrap().as_bytes()[..],
        b"cposix\nsystem\n."
    );
}

#[test]
fn nesting_neither_overflows_nor_grows() {
    for (open, close) in [(&b"("[..], &b"t"[..]), (b"]", b"a"), (b"N", b"\x85")] {
        let mut deep = b"(U\x01T(U\x08\x03lk\x91\x00\x00\x00\x00U\x01 U\x00U\x00".to_vec();
        for _ in 0..200_000 {
            deep.extend_from_slice(open);
        }
        for _ in 0..200_000 {
            deep.extend_from_slice(close);
        }
        deep.extend_from_slice(b"tt.");
        assert!(Header::read(&deep).is_err());
        assert!(Header::read(&[&b"(U\x01S"[..], &deep].concat()).is_err());
    }
}

/// `TUPLE1` nests without growing the stack; the decoder after the scan recurses.
#[test]
fn a_header_that_nests_where_a_field_should_be_is_refused() {
    let nested = [
        [&b"N"[..], &b"\x85".repeat(100_000)].concat(),
        [b"(".repeat(60_000), b"t".repeat(60_000)].concat(),
        b")\x85\x85".to_vec(),
    ];
    for field in nested {
        let fields = [b"(U\x01S(", &field[..], b"NNNtt."].concat();
        assert!(matches!(refusal(&fields), PickleError::TooDeep { .. }));
        let user = b"(U\x01T(U\x08\x03lk\x91\x00\x00\x00\x00U\x01 ";
        let user = [&user[..], &field, b"U\x00}tt."].concat();
        assert!(matches!(refusal(&user), PickleError::TooDeep { .. }));
        let pair = [b"(U\x01X", &field[..], b"t."].concat();
        assert!(Header::read(&pair).is_err());
    }
}

/// A long memoized field would be copied for each byte that refers to it.
#[test]
fn a_header_that_repeats_a_long_field_is_refused() {
    let long = [&b"T\x00\x00\x01\x00"[..], &b"x".repeat(1 << 16), b"q\x00"].concat();
    let message = [b"(U\x01S(", &long[..], &b"h\x00".repeat(10_000), b"tt."].concat();
    assert!(matches!(refusal(&message), PickleError::TooDeep { .. }));
}

/// Earlier values to which the extension refers would be written into it repeatedly.
#[test]
fn an_extension_that_names_more_than_a_file_holds_is_refused() {
    let user = [&b"T\x00\x80\x00\x00"[..], &b"x".repeat(1 << 15), b"q\x00"].concat();
    let head = [
        &b"(U\x01T(U\x08\x03lk\x91\x00\x00\x00\x00U\x01 "[..],
        &user,
        b"h\x00q\x01",
    ];
    let within = [&head.concat(), &b"}(h\x00Nu"[..], b"tt."].concat();
    let header = Header::read(&within).unwrap();
    assert!(header.extension.unwrap().as_bytes().len() > 1 << 15);
    let names: Vec<u8> = (2..=255).flat_map(|name| [b'q', name]).collect();
    let gets: Vec<u8> = (0..=255).flat_map(|name| [b'h', name, b'N']).collect();
    let beyond = [&head.concat(), &names, &b"}("[..], &gets, b"utt."].concat();
    assert!(Header::read(&beyond).is_err());
    let plain = [
        &head.concat(),
        &b"}U\x01aX\x00\x00\x01\x00"[..],
        &b"x".repeat(1 << 16),
        b"stt.",
    ];
    assert!(matches!(
        refusal(&plain.concat()),
        PickleError::NotAHeader(_)
    ));
}

/// Each level has the previous one twice, so the value has 2⁶⁰ parts.
#[test]
fn a_memo_bomb_in_a_header_is_refused() {
    let mut bomb = b"(U\x01S(U\x01xq\x00".to_vec();
    for level in 0..60_u8 {
        bomb.extend_from_slice(&[b'h', level, b'h', level, 0x86, b'q', level + 1]);
    }
    bomb.extend_from_slice(b"tt.");
    assert!(
        matches!(refusal(&bomb), PickleError::Forbidden { .. }),
        "{:?}",
        refusal(&bomb)
    );
}

#[test]
fn a_length_beyond_the_message_is_refused() {
    for message in [
        &b"(X\xff\xff\xff\x7fabc"[..],
        b"(T\xff\xff\xff\xff",
        b"(\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert!(matches!(refusal(message), PickleError::Truncated { .. }));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Header::read(&bytes);
        let _ = scan(&bytes, Policy::Opaque);
    }

    /// Bytes that are opcodes more often than by chance, to reach deeper states.
    #[test]
    fn arbitrary_opcodes_are_read_or_refused(
        body in prop::collection::vec(prop::sample::select(
            b"(()}]tNU\x01TX\x00qh\x00Rc\nab0122\x80\x94\x85\x86\x87\x95.".to_vec()), 0..120)
    ) {
        let message = [&b"(U\x01T(U\x08\x03lk\x91\x00\x00\x00\x00U\x01 U\x00U\x00"[..], &body, b"tt."].concat();
        let _ = Header::read(&message);
        let _ = Header::read(&body);
    }

    /// Any change of a byte in a real header is read or refused, and never panics.
    #[test]
    fn damaged_headers_are_read_or_refused(line in 0_usize..72, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let text = include_str!("../../../../tests/data/headers.txt").lines().nth(line).unwrap();
        let mut message = unhex(text.split(' ').nth(1).unwrap());
        let at = at.index(message.len());
        message[at] = byte;
        let _ = Header::read(&message);
    }
}
