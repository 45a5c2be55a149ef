use proptest::prelude::*;

use super::*;
use crate::index::MAX_POSITION;
use zrs_ids::Oid;

const ZODB6: &[u8] = include_bytes!("../../../../tests/data/zodb6.index");
const PYTHON2: &[u8] = include_bytes!("../../../../tests/data/python2.index");
/// The position in the index that `tests/data/make_index.py` writes.
const POSITION: u64 = 0x81_2345_6789;

/// The objects of `tests/data/make_index.py`.
fn sample() -> Index {
    let few = (256..300).map(|page: u64| (page << 16) | (page * 7919 % 65536));
    (0..5000)
        .chain((0x5_0000..0x6_0000).step_by(37))
        .chain(few)
        .chain([1 << 40, u64::MAX])
        .zip(0..)
        .map(|(oid, number)| (Oid::from_u64(oid), 4 + number * 150))
        .collect()
}

#[test]
fn a_file_of_zodb_is_read() {
    let (position, index) = read_index(ZODB6).unwrap();
    assert_eq!(position, POSITION);
    assert!(index == sample());
}

#[test]
fn a_file_of_python_2_is_read() {
    let (position, index) = read_index(PYTHON2).unwrap();
    assert_eq!(position, POSITION);
    assert!(index == sample());
}

/// The bytes are equal, so ZODB can read our index files.
#[test]
fn the_bytes_written_equal_those_of_zodb() {
    let ours = write_index(POSITION, &sample());
    assert!(ours == ZODB6, "{} and {} bytes", ours.len(), ZODB6.len());
}

/// The bytes that Python 3's pickle writes at protocol 3, at the borders of its opcodes.
#[test]
fn positions_are_pickled_as_python_does() {
    let cases: [(u64, &[u8]); 10] = [
        (4, b"K\x04"),
        (0xff, b"K\xff"),
        (0x100, b"M\x00\x01"),
        (0x1_0000, b"J\x00\x00\x01\x00"),
        (0x7fff_ffff, b"J\xff\xff\xff\x7f"),
        (0x8000_0000, b"\x8a\x05\x00\x00\x00\x80\x00"),
        (0xff_ffff_ffff, b"\x8a\x06\xff\xff\xff\xff\xff\x00"),
        (MAX_POSITION, b"\x8a\x07\xff\xff\xff\xff\xff\xff\x00"),
        (1 << 56, b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x01"),
        (u64::MAX, b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00"),
    ];
    for (position, pickle) in cases {
        let bytes = [b"\x80\x03", pickle, b".\x80\x03N."].concat();
        assert_eq!(write_index(position, &Index::new()), bytes);
        assert_eq!(read_index(&bytes[..]).unwrap(), (position, Index::new()));
    }
}

/// An index file may be incomplete after a power failure, or be another file.
#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let bytes = write_index(POSITION, &sample());
    let ends = (0..bytes.len())
        .step_by(251)
        .chain(bytes.len() - 300..bytes.len());
    for end in ends {
        let error = read_index(&bytes[..end]).unwrap_err();
        assert!(matches!(error, IndexFileError::Truncated), "{end}: {error}");
    }
}

#[test]
fn other_bytes_are_refused() {
    let page = |prefix: &[u8], objects: &[u8]| {
        let mut bytes = b"\x80\x03K\x04.\x80\x03".to_vec();
        put_bytes(&mut bytes, prefix);
        put_bytes(&mut bytes, objects);
        bytes.extend_from_slice(b"\x86.\x80\x03N.");
        bytes
    };
    let one = [0, 1, 0, 0, 0, 0, 0, 4];
    assert_eq!(read_index(&page(&[0; 6], &one)[..]).unwrap().1.len(), 1);
    let descending = [0, 2, 0, 1, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 8];
    let twice = [page(&[0; 6], &one), page(&[0; 6], &one)].concat();
    // Between the two, drop the `None` and the second position.
    let twice = [&twice[..29], &twice[38..]].concat();
    let cases: [(&str, Vec<u8>, &str); 13] = [
        ("of no page", page(&[0; 5], &one), "malformed"),
        ("of uneven length", page(&[0; 6], &one[1..]), "malformed"),
        ("descending", page(&[0; 6], &descending), "out of order"),
        ("twice the same page", twice, "out of order"),
        ("nothing", Vec::new(), "cut short"),
        (
            "an old index, a dictionary",
            b"}q\x01.".to_vec(),
            "opcode 0x7d",
        ),
        ("no position", b"\x80\x03N.".to_vec(), "position"),
        (
            "a negative position",
            b"\x80\x03J\xff\xff\xff\xff.".to_vec(),
            "position",
        ),
        (
            "an invalid decimal position",
            b"I1x\n.".to_vec(),
            "position",
        ),
        (
            "an endless one",
            [&b"I"[..], &[b'1'; 99]].concat(),
            "position",
        ),
        (
            "a huge position",
            b"\x8a\x0a0123456789.".to_vec(),
            "position",
        ),
        (
            "a page longer than can be",
            b"K\x04.C\x01aB\xff\xff\xff\xff".to_vec(),
            "malformed",
        ),
        (
            "endless marks",
            [b"K\x04.".to_vec(), vec![b'('; 9999]].concat(),
            "opcode 0x28",
        ),
    ];
    for (name, bytes, problem) in cases {
        let error = read_index(&bytes[..]).unwrap_err().to_string();
        assert!(error.contains(problem), "{name}: {error}");
    }
}

/// Pages that are long enough to become leaves without a copy.
#[test]
fn long_pages_out_of_order_are_refused() {
    let page = |page: u64, suffixes: &mut dyn Iterator<Item = u16>| {
        let suffixes: Vec<_> = suffixes.collect();
        let mut objects: Vec<_> = suffixes.iter().flat_map(|low| low.to_be_bytes()).collect();
        objects.extend(suffixes.iter().flat_map(|_| [0, 0, 0, 0, 1, 0]));
        let mut piece = PROTOCOL_3.to_vec();
        put_bytes(&mut piece, &page.to_be_bytes()[2..]);
        put_bytes(&mut piece, &objects);
        [piece, b"\x86.".to_vec()].concat()
    };
    let read =
        |pages: &[Vec<u8>]| read_index(&[b"K\x04.", &pages.concat()[..], b"N."].concat()[..]);
    let (low, high) = (page(1, &mut (0..9000)), page(2, &mut (0..9000)));
    assert_eq!(read(&[low.clone(), high.clone()]).unwrap().1.len(), 18_000);
    let once_more = 4095_u16;
    for pages in [
        [high, low.clone()],
        [low.clone(), low.clone()],
        [low.clone(), page(1, &mut (8999..9999))],
        [low.clone(), page(2, &mut (0..9000).rev())],
        [low.clone(), page(2, &mut (0..4096).chain(once_more..9000))],
        [low, page(2, &mut (0..700).chain([699]))],
    ] {
        assert!(matches!(read(&pages), Err(IndexFileError::Unsorted)));
    }
}

#[test]
fn an_error_of_the_file_is_passed_on() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(5))
        }
    }
    let error = read_index(Broken).unwrap_err();
    assert!(matches!(error, IndexFileError::Io(error) if error.raw_os_error() == Some(5)));
}

#[test]
fn an_index_that_was_read_is_small() {
    let index: Index = (0..200_000).map(|n| (Oid::from_u64(n), n)).collect();
    let (_, read) = read_index(&write_index(0, &index)[..]).unwrap();
    assert!(read == index);
    assert!(read.heap_bytes() < 9 * read.len());
}

fn objects() -> impl Strategy<Value = Index> {
    let run = (any::<u64>(), 0..64_u32, 0..9000_u64, 1..50_u64);
    let run = run.prop_map(|(base, shift, count, step)| {
        (0..count).map(move |n| Oid::from_u64((base >> shift).wrapping_add(n * step)))
    });
    let runs = prop::collection::vec(run, 0..5);
    (runs, 0..=MAX_POSITION).prop_map(|(runs, position)| {
        let oids = runs.into_iter().flatten();
        oids.zip(0..)
            .map(|(oid, n)| (oid, position.saturating_sub(n)))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn written_indexes_are_read(position in any::<u64>(), index in objects(), more in any::<u64>()) {
        let (read_position, mut read) = read_index(&write_index(position, &index)[..]).unwrap();
        prop_assert_eq!(read_position, position);
        prop_assert!(read == index);
        // The index continues to behave like one that was built by insertions.
        read.insert(Oid::from_u64(more), 1);
        prop_assert_eq!(read.get(Oid::from_u64(more)), Some(1));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_index(&bytes[..]);
    }

    #[test]
    fn a_changed_byte_is_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = write_index(7, &sample());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok((_, index)) = read_index(&bytes[..]) {
            prop_assert!(index.iter().is_sorted_by(|a, b| a.0 < b.0));
            prop_assert_eq!(index.iter().count(), index.len());
        }
    }
}

#[test]
fn samples_have_equal_distances_across_pages() {
    let mut index = Index::new();
    // Pages of 1, 2, ... objects.
    for page in 1..60_u64 {
        for low in 0..page {
            index.insert(Oid::from_u64((page << 16) | (low * 7)), page * 100 + low);
        }
    }
    let all: Vec<_> = index.iter().collect();
    let bytes = write_index(9, &index);
    for step in [1, 2, 3, 7, 50, 61, 400, 100_000] {
        let expected: Vec<_> = all.iter().copied().step_by(step).collect();
        assert_eq!(sample_index(&bytes[..], step).unwrap(), expected, "{step}");
    }
    assert!(sample_index(&bytes[..bytes.len() - 1], 2).is_err());
    assert!(sample_index(&b"N."[..], 2).is_err());
}
