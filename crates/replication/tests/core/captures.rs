//! Streams recorded from zc.zrs are parsed by the secondary's state machine and written again by
//! the primary's.

use std::path::PathBuf;
use std::sync::Arc;

use zrs_ids::Tid;
use zrs_replication::proto::{Outgoing, PeerError, SecondaryEvent, SecondaryPeer};
use zrs_replication::replica::{Blobs, Feed, MissingBlobs, TransactionStream};
use zrs_storage::pickle::Dialect;
use zrs_storage::{BlobDirectory, BlobLayout};
use zrs_vfs::OsVfs;

const CAPTURES: [(&str, Dialect); 5] = [
    ("py38-blob", Dialect::Python3),
    ("py27-plain", Dialect::Python2),
    ("py27-undo", Dialect::Python2),
    ("py38-plain", Dialect::Python3),
    ("py38-undo", Dialect::Python3),
];

/// The recorded files; prints the reason and returns `None` if they are missing.
fn captures() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden");
    let folder = std::env::var_os("ZRS_GOLDEN").map_or(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "no captures at {}",
        folder.display()
    );
    eprintln!(
        "skipped: no captures at {} (set ZRS_GOLDEN)",
        folder.display()
    );
    None
}

fn read(path: PathBuf) -> Vec<u8> {
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Parses a stream in chunks and writes the events again.
fn echo(wire: &[u8], start: Tid, chunk: usize, dialect: Dialect) -> Result<Vec<u8>, PeerError> {
    let mut peer = SecondaryPeer::new(start, true).with_blobs(true);
    let mut outgoing = Outgoing::new(start, dialect);
    for part in wire.chunks(chunk) {
        peer.receive_data(part);
        while let Some(event) = peer.next_event()? {
            match event {
                SecondaryEvent::Begin(meta) => outgoing.transaction(meta),
                SecondaryEvent::Record(record) => {
                    outgoing.record(record.header, record.data.as_deref())
                }
                SecondaryEvent::Blob(record, blocks) => {
                    let data = record.data.as_deref().unwrap_or_default();
                    outgoing.blob(record.header, data, blocks)
                }
                SecondaryEvent::Block(block) => outgoing.block(&block),
                SecondaryEvent::Commit(_) => outgoing.commit(),
                SecondaryEvent::ControlMessage(control_message) => {
                    panic!("{control_message} in a recorded stream")
                }
            }
            .unwrap();
        }
    }
    Ok(outgoing.take().to_vec())
}

#[test]
fn recorded_streams_are_read_and_written_again_byte_for_byte() {
    let Some(folder) = captures() else { return };
    for (name, dialect) in CAPTURES {
        let wire = read(folder.join(format!("{name}.wire")));
        for chunk in [1, 7, 4096, wire.len()] {
            let echoed = echo(&wire, Tid::ZERO, chunk, dialect).unwrap();
            assert_eq!(echoed, wire, "{name} in chunks of {chunk}");
        }
    }
}

#[test]
fn recorded_files_become_the_recorded_streams() {
    let Some(folder) = captures() else { return };
    for (name, dialect) in CAPTURES {
        let mut feed = Feed::new(folder.join(format!("{name}.fs")), Tid::MAX, None);
        let blobs = folder.join(format!("{name}.blobs"));
        if blobs.is_dir() {
            let directory = BlobDirectory::new(blobs, BlobLayout::Bushy);
            feed = feed.with_blobs(Blobs::new(directory, MissingBlobs::Stop));
        }
        let feed = Arc::new(feed);
        feed.finish();
        let mut stream =
            TransactionStream::new(feed, Arc::new(OsVfs), String::new(), Tid::ZERO, dialect);
        let mut sent = Vec::new();
        while let Some(chunk) = stream.next_chunk().unwrap() {
            sent.extend_from_slice(&chunk);
        }
        assert_eq!(sent, read(folder.join(format!("{name}.wire"))), "{name}");
    }
}

/// The checksum or the structure reveals any changed byte: no transaction that includes it is
/// committed. A commit message may have the same meaning with a changed byte; then the next one
/// does not agree.
#[test]
fn a_changed_byte_never_gets_past_the_next_commit() {
    let Some(folder) = captures() else { return };
    let wire = read(folder.join("py38-undo.wire"));
    let whole = commits(&wire);
    for at in 0..wire.len() {
        let mut damaged = wire.clone();
        damaged[at] ^= 0x20;
        let committed = commits(&damaged);
        // Number of transactions before it that were complete except for their commit messages.
        let before = whole
            .iter()
            .filter(|(_, commit)| commit.start <= at)
            .count();
        assert!(committed.len() <= before, "byte {at}");
        for (damaged, intact) in committed.iter().zip(&whole) {
            assert_eq!(damaged.0, intact.0, "byte {at}");
        }
    }
}

/// The committed transactions, and the positions of their commit messages.
fn commits(wire: &[u8]) -> Vec<(Tid, std::ops::Range<usize>)> {
    let mut peer = SecondaryPeer::new(Tid::ZERO, true);
    let (mut committed, mut message) = (Vec::new(), 0..0);
    while let Some(head) = wire.get(message.end..message.end + 4) {
        let length = u32::from_be_bytes(head.try_into().unwrap()) as usize;
        message = message.end..message.end + 4 + length;
        let Some(body) = wire.get(message.clone()) else {
            break;
        };
        peer.receive_data(body);
        loop {
            match peer.next_event() {
                Ok(Some(SecondaryEvent::Commit(tid))) => committed.push((tid, message.clone())),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return committed,
            }
        }
    }
    committed
}
