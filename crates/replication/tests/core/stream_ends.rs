//! The ends of a primary's stream. Each is reached after a bounded number of calls, and the final
//! message is sent once.
//!
//! Once, a secondary that was refused after its probe received the refusal repeatedly until it
//! closed the connection: megabytes of traffic and log per second.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use zrs_ids::Tid;
use zrs_replication::proto::{
    ControlMessage, FailureReason, RefusalReason, SecondaryEvent, SecondaryPeer,
};
use zrs_replication::replica::{Feed, StreamError, TransactionStream};
use zrs_storage::pickle::Dialect;
use zrs_vfs::os::OsVfs;

use super::heartbeats::data_fs;

/// More calls than any of these streams requires.
const BOUND: usize = 10;

fn stream(path: &Path, count: usize, start: u64) -> (Arc<Feed>, TransactionStream) {
    let bytes = data_fs(&vec![10; count]);
    let feed = Arc::new(Feed::new(
        path.to_owned(),
        Tid::from_u64(count as u64),
        Some(bytes.len() as u64),
    ));
    fs::write(path, bytes).unwrap();
    let (vfs, start) = (Arc::new(OsVfs), Tid::from_u64(start));
    let stream = TransactionStream::new(
        Arc::clone(&feed),
        vfs,
        String::new(),
        start,
        Dialect::Python3,
    );
    (feed, stream.with_heartbeat())
}

/// Reads until the stream ends; returns the control messages that it sent, and its error.
fn drain(stream: &mut TransactionStream, start: u64) -> (Vec<ControlMessage>, Option<StreamError>) {
    let mut peer = SecondaryPeer::new(Tid::from_u64(start), true);
    let mut control_messages = Vec::new();
    for _ in 0..BOUND {
        let error = match stream.next_chunk() {
            Ok(Some(chunk)) => {
                peer.receive_data(&chunk);
                while let Some(event) = peer.next_event().unwrap() {
                    if let SecondaryEvent::ControlMessage(control_message) = event {
                        control_messages.push(control_message);
                    }
                }
                continue;
            }
            Ok(None) => None,
            Err(error) => Some(error),
        };
        for _ in 0..BOUND {
            assert!(
                matches!(stream.next_chunk(), Ok(None)),
                "it goes on behind its end"
            );
        }
        return (control_messages, error);
    }
    panic!("the stream does not end: {control_messages:?}");
}

#[test]
fn a_refusal_is_sent_once_to_a_secondary_that_can_hear_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    for offer in [true, false] {
        let (_feed, mut stream) = stream(&path, 3, 99);
        if offer {
            stream.handle().capability_offered();
        }
        let (control_messages, error) = drain(&mut stream, 99);
        assert!(error.is_none());
        let refused = ControlMessage::Refused {
            reason: RefusalReason::Ahead,
            start: Tid::from_u64(99),
            last: Tid::from_u64(3),
        };
        assert_eq!(
            control_messages,
            if offer { vec![refused] } else { Vec::new() }
        );
    }
}

#[test]
fn a_probe_behind_a_refusal_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (feed, mut stream) = stream(&directory.path().join("Data.fs"), 3, 99);
    assert!(matches!(stream.next_chunk(), Ok(None)));
    stream.handle().capability_offered();
    feed.heartbeat();
    assert_eq!(drain(&mut stream, 99).0, []);
}

#[test]
fn a_damaged_file_is_reported_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    for offer in [true, false] {
        let (feed, mut stream) = stream(&path, 3, 1);
        let mut bytes = fs::read(&path).unwrap();
        let second = data_fs(&[10]).len();
        bytes[second + 8] = 0xff;
        fs::write(&path, bytes).unwrap();
        if offer {
            stream.handle().capability_offered();
        }
        feed.heartbeat();
        let (control_messages, error) = drain(&mut stream, 1);
        assert!(matches!(error, Some(StreamError::Storage(_))), "{error:?}");
        let failures = control_messages
            .iter()
            .filter(|control_message| matches!(control_message, ControlMessage::Failed(_)));
        assert_eq!(failures.count(), usize::from(offer), "{control_messages:?}");
        if offer {
            let damaged = ControlMessage::Failed(FailureReason::Damaged);
            assert_eq!(control_messages.last(), Some(&damaged), "{error:?}");
        }
    }
}

/// Offsets of the length and the status in a transaction header.
const LENGTH_AT: usize = 8;
const STATUS_AT: usize = 16;

#[test]
fn a_published_transaction_that_looks_unfinished_is_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    let second = data_fs(&[10]).len();
    // A length beyond the end of the file, and the status of an unfinished transaction.
    for (at, value) in [(LENGTH_AT + 1, 0x10), (STATUS_AT, b'c')] {
        for damaged_before in [true, false] {
            let (feed, mut stream) = stream(&path, 3, 1);
            stream.handle().capability_offered();
            if !damaged_before {
                assert!(stream.next_chunk().unwrap().is_some());
            }
            let mut bytes = fs::read(&path).unwrap();
            let at = at + if damaged_before { second } else { bytes.len() };
            bytes.extend_from_slice(&data_fs(&[10])[4..]);
            bytes[at] = value;
            if !damaged_before {
                let tid = bytes.len() - data_fs(&[10]).len() + 4;
                bytes[tid + 7] = 4;
                feed.publish(Tid::from_u64(4), Some(bytes.len() as u64));
            }
            fs::write(&path, bytes).unwrap();
            feed.heartbeat();
            feed.finish();
            let (control_messages, error) = drain(&mut stream, 1);
            let damage = matches!(&error, Some(StreamError::Storage(error)) if error.is_damage());
            assert!(damage, "{error:?} {control_messages:?}");
            let damaged = ControlMessage::Failed(FailureReason::Damaged);
            assert_eq!(control_messages.last(), Some(&damaged), "{error:?}");
        }
    }
}

#[test]
fn a_transaction_that_is_being_written_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Data.fs");
    let (feed, mut stream) = stream(&path, 3, 1);
    stream.handle().capability_offered();
    // A pack has removed the third, and a later one is not complete.
    let mut bytes = data_fs(&[10, 10]);
    let at = bytes.len();
    bytes.extend_from_slice(&data_fs(&[10])[4..50]);
    bytes[at + 7] = 4;
    fs::write(&path, bytes).unwrap();
    feed.finish();
    let (control_messages, error) = drain(&mut stream, 1);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(control_messages.len(), 1, "the hello");
}

#[test]
fn a_finished_feed_ends_a_stream_however_often_it_pulses() {
    let directory = tempfile::tempdir().unwrap();
    let (feed, mut stream) = stream(&directory.path().join("Data.fs"), 3, 3);
    stream.handle().capability_offered();
    feed.heartbeat();
    feed.finish();
    let (control_messages, error) = drain(&mut stream, 3);
    assert!(error.is_none());
    assert_eq!(control_messages.len(), 1, "the hello");
}

#[test]
fn a_stopped_stream_sends_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (_feed, mut stream) = stream(&directory.path().join("Data.fs"), 3, 99);
    stream.handle().capability_offered();
    stream.handle().stop();
    assert_eq!(drain(&mut stream, 99).0, []);
}
