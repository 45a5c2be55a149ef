//! Logs of objects, and their indexes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zrs_ids::Oid;
use zrs_object_log::{Dump, HEADER_LEN, Head, Header, Kind, Log, LogResult, Options};
use zrs_vfs::sim::SimVfs;

const PATH: &str = "log";
const IDENTITY: [u8; 16] = *b"of a fuzzed file";

/// A byte that says whether checksums are set right, two that say how long an index is, the
/// index, and a log without its header.
pub fn object_log(bytes: &[u8]) {
    let Some(([mode, len @ ..], rest)) = bytes.split_first_chunk::<3>() else {
        return;
    };
    let len = usize::from(u16::from_be_bytes(*len)).min(rest.len());
    let (index, records) = rest.split_at(len);
    let header = Header { identity: IDENTITY };
    let mut log = [&header.to_bytes(), records].concat();
    let mut index = index.to_vec();
    if mode % 2 == 1 {
        seal(&mut log);
        seal_index(&mut index);
    }
    let files = [(PATH, log), ("log.index", index)];
    read_only(&SimVfs::with_files(0, files.clone()));
    let vfs = SimVfs::with_files(0, files);
    if let Ok((number, sound)) = write(&vfs) {
        let again = open(&vfs, true).unwrap();
        // A damaged head with its checksum set right may claim what was written later.
        assert!(!sound || again.number().unwrap() == number);
    }
}

/// A good log with its index, as bytes for [`object_log`].
pub fn sample_object_log() -> Vec<u8> {
    let vfs = SimVfs::new(0);
    let log = open(&vfs, false).unwrap();
    for number in 1..6 {
        assert!(log.lock(Duration::ZERO).unwrap());
        log.begin(number).unwrap();
        let oid = Oid::from_u64(1);
        if log.wants_full(oid).unwrap() {
            log.store_full(oid, &[oid], &[b'f'; 700]).unwrap();
            let stream = log.begin_stream().unwrap();
            log.write_stream(b"bytes of a stream").unwrap();
            log.end_stream().unwrap();
            log.set_root(oid).unwrap();
            assert!(stream > oid);
        } else {
            log.store_change(oid, &[], b"changed").unwrap();
        }
        log.vote().unwrap();
        if number == 4 {
            log.fail().unwrap();
        } else {
            log.finish().unwrap();
        }
        log.unlock().unwrap();
    }
    log.save_index().unwrap();
    let (index, log) = (
        vfs.content("log.index").unwrap(),
        vfs.content(PATH).unwrap(),
    );
    let len = u16::try_from(index.len()).unwrap().to_be_bytes();
    [&[1], &len[..], &index, &log[HEADER_LEN..]].concat()
}

fn open(vfs: &SimVfs, read_only: bool) -> LogResult<Log> {
    let options = Options {
        read_only,
        identity: IDENTITY,
        ..Options::default()
    };
    Log::open(Arc::new(vfs.clone()), Path::new(PATH), options)
}

/// Set all checksums right, so that what they protect is looked at.
fn seal(log: &mut [u8]) {
    let mut at = HEADER_LEN;
    while let Some(bytes) = log.get_mut(at..) {
        let Some((head, rest)) = bytes.split_first_chunk_mut::<48>() else {
            return;
        };
        let len = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let Some(payload) = rest.get(..len) else {
            return;
        };
        head[40..44].copy_from_slice(&crc32fast::hash(payload).to_be_bytes());
        let own = [&head[..44], &(at as u64).to_be_bytes()].concat();
        head[44..].copy_from_slice(&crc32fast::hash(&own).to_be_bytes());
        at += 48 + len;
    }
}

fn seal_index(index: &mut [u8]) {
    if let Some((body, checksum)) = index.split_last_chunk_mut::<4>() {
        *checksum = crc32fast::hash(body).to_be_bytes();
    }
}

fn read_only(vfs: &SimVfs) {
    if let Ok(log) = open(vfs, true) {
        read(&log);
    }
    assert_eq!(vfs.operations(), 0);
    if let Ok(mut dump) = Dump::open(Arc::new(vfs.clone()), Path::new(PATH)) {
        while let Ok(Some(transaction)) = dump.read_next() {
            assert!(transaction.end.is_none_or(|end| end > transaction.start));
        }
        let _ = dump.dangling();
    }
}

fn read(log: &Log) {
    let _ = log.damaged();
    for oid in (0..20).chain([u64::MAX]).map(Oid::from_u64) {
        let _ = log.serial(oid);
        let _ = log.load(oid);
        let mut offset = 0;
        while let Ok(bytes) = log.stream_bytes(oid, offset) {
            if bytes.is_empty() || offset > 1 << 20 {
                break;
            }
            offset += bytes.len() as u64;
        }
    }
}

/// Commit, copy and compact.
fn write(vfs: &SimVfs) -> LogResult<(u64, bool)> {
    let log = open(vfs, false)?;
    read(&log);
    assert!(log.lock(Duration::ZERO)?);
    let before = log.number()?;
    // Numbers that nobody could have reached are not counted on.
    if before > u64::MAX / 2 {
        return Ok((before, false));
    }
    log.begin(1)?;
    let oid = log.new_oid()?;
    log.store_full(oid, &[], b"pickle")?;
    log.vote()?;
    let number = log.finish()?;
    assert!(number > before);
    log.sync()?;
    assert_eq!(log.load(oid)?.pickles, [b"pickle"]);
    let sound = log.damaged()?.is_empty();
    if log.compact([1; 16], 0, true, None).is_ok() {
        assert_eq!(log.number()?, number);
    }
    log.unlock()?;
    read(&log);
    log.close()?;
    Ok((number, sound))
}

/// Heads at every place.
pub fn object_log_heads(bytes: &[u8]) {
    for at in 0..bytes.len() {
        let Some(head) = bytes[at..].first_chunk() else {
            continue;
        };
        if let Ok(parsed) = Head::parse(head, at as u64) {
            assert_eq!(parsed.to_bytes(at as u64), *head);
            assert_eq!(Kind::of(head[0]), Some(parsed.kind));
        }
    }
}
