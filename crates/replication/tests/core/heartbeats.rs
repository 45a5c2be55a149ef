//! Heartbeats: how a primary reports its position. See docs/protocol.md "Heartbeats".

use std::fs;
use std::path::Path;
use std::sync::Arc;

use zrs_ids::{Oid, Tid};
use zrs_replication::proto::{ControlMessage, PrimaryPosition, SecondaryEvent, SecondaryPeer};
use zrs_replication::replica::{Feed, HEARTBEAT_INTERVAL, TransactionStream};
use zrs_storage::format::{DataHeader, MAGIC, TransactionHeader, TransactionStatus};
use zrs_storage::pickle::Dialect;
use zrs_vfs::os::OsVfs;

/// More than a stream returns at once.
const LARGE: usize = 35_000;

/// The bytes of a file whose transactions have the ids 1, 2, 3, ... and one record each.
pub(super) fn data_fs(sizes: &[usize]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for (tid, &size) in (1..).map(Tid::from_u64).zip(sizes) {
        let tloc = bytes.len() as u64;
        let data = DataHeader {
            oid: Oid::from_u64(1),
            tid,
            prev: 0,
            tloc,
            data_len: size as u64,
        };
        let header = TransactionHeader {
            tid,
            length: (23 + 42 + size) as u64,
            status: TransactionStatus::Complete,
            user_len: 0,
            description_len: 0,
            extension_len: 0,
        };
        bytes.extend_from_slice(&header.to_bytes());
        bytes.extend_from_slice(&data.to_bytes());
        bytes.resize(bytes.len() + size, b'd');
        bytes.extend_from_slice(&header.length.to_be_bytes());
    }
    bytes
}

/// A primary of a growing file, and the secondary that receives its stream.
struct Pair {
    feed: Arc<Feed>,
    stream: TransactionStream,
    peer: SecondaryPeer,
}

impl Pair {
    /// All transactions except the first are published after the feed was created.
    fn new(path: &Path, sizes: &[usize]) -> Self {
        let bytes = data_fs(sizes);
        fs::write(path, &bytes).unwrap();
        let feed = Feed::new(path.to_owned(), Tid::ZERO, Some(4));
        for tid in 1..=sizes.len() {
            let end = data_fs(&sizes[..tid]).len() as u64;
            feed.publish(Tid::from_u64(tid as u64), Some(end));
        }
        let feed = Arc::new(feed);
        let (vfs, name) = (Arc::new(OsVfs), String::new());
        let stream = TransactionStream::new(feed.clone(), vfs, name, Tid::ZERO, Dialect::Python3);
        Self {
            stream: stream.with_heartbeat(),
            feed,
            peer: SecondaryPeer::new(Tid::ZERO, true),
        }
    }

    /// The secondary's events for the next chunk: ids of transactions, and control messages.
    fn next(&mut self) -> (Vec<u64>, Vec<ControlMessage>) {
        let chunk = self.stream.next_chunk().unwrap().unwrap();
        self.peer.receive_data(&chunk);
        let (mut commits, mut control_messages) = (Vec::new(), Vec::new());
        while let Some(event) = self.peer.next_event().unwrap() {
            match event {
                SecondaryEvent::Commit(tid) => commits.push(tid.as_u64()),
                SecondaryEvent::ControlMessage(control_message) => {
                    control_messages.push(control_message);
                }
                _ => {}
            }
        }
        (commits, control_messages)
    }
}

fn heartbeat(last: u64, transactions: u64, bytes: u64) -> ControlMessage {
    ControlMessage::Heartbeat {
        position: PrimaryPosition {
            last: Tid::from_u64(last),
            bytes: Some(bytes),
            transactions: Some(transactions),
        },
        interval: HEARTBEAT_INTERVAL,
    }
}

#[test]
fn an_idle_primary_reports_its_position_at_each_heartbeat() {
    let directory = tempfile::tempdir().unwrap();
    let mut pair = Pair::new(&directory.path().join("Data.fs"), &[10, 10]);
    pair.stream.handle().capability_offered();
    let (commits, control_messages) = pair.next();
    assert_eq!(commits, [1, 2]);
    assert!(
        matches!(&control_messages[..], [ControlMessage::Hello { .. }]),
        "{control_messages:?}"
    );
    for _ in 0..3 {
        pair.feed.heartbeat();
        assert_eq!(pair.next(), (vec![], vec![heartbeat(2, 0, 0)]));
    }
}

#[test]
fn heartbeats_report_the_backlog() {
    let directory = tempfile::tempdir().unwrap();
    let sizes = [LARGE, LARGE, LARGE, 10];
    let mut pair = Pair::new(&directory.path().join("Data.fs"), &sizes);
    pair.stream.handle().capability_offered();
    let (commits, control_messages) = pair.next();
    assert!(commits.is_empty());
    let [
        ControlMessage::Hello {
            position,
            heartbeat_interval: interval,
            ..
        },
    ] = control_messages[..]
    else {
        panic!("{control_messages:?}");
    };
    assert_eq!(interval, Some(HEARTBEAT_INTERVAL));
    assert_eq!(position.and_then(|position| position.transactions), Some(4));
    // The first of two heartbeats is skipped, because everything may be sent soon.
    pair.feed.heartbeat();
    let (commits, control_messages) = pair.next();
    assert_eq!((commits, control_messages), (vec![1], vec![]));
    pair.feed.heartbeat();
    let (commits, control_messages) = pair.next();
    let to_come = (data_fs(&sizes).len() - data_fs(&sizes[..2]).len()) as u64;
    assert_eq!(
        (commits, control_messages),
        (vec![2], vec![heartbeat(4, 2, to_come)])
    );
    pair.feed.heartbeat();
    let (commits, control_messages) = pair.next();
    assert_eq!(
        (commits, control_messages),
        (vec![3, 4], vec![heartbeat(4, 0, 0)])
    );
}

/// Other secondaries would treat a control message as a damaged stream.
#[test]
fn a_secondary_without_a_capability_offer_gets_no_heartbeats() {
    let directory = tempfile::tempdir().unwrap();
    let mut pair = Pair::new(&directory.path().join("Data.fs"), &[10, 10]);
    assert_eq!(pair.next(), (vec![1, 2], vec![]));
    pair.feed.heartbeat();
    pair.feed.heartbeat();
    pair.feed.finish();
    assert!(pair.stream.next_chunk().unwrap().is_none());
}
