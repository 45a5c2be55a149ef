//! The state machines of primary and secondary with each other.

use bytes::Bytes;
use proptest::prelude::*;
use zrs_ids::{Oid, Tid};
use zrs_replication::proto::{
    CONTROL_MESSAGE_LIMIT, Checksum, ControlMessage, Outgoing, PeerError, PrimaryEvent,
    PrimaryPeer, Record, RecordHeader, SecondaryEvent, SecondaryPeer, TransactionBegin,
    write_sized,
};
use zrs_storage::pickle::{Dialect, Extension};

fn meta(tid: u64) -> TransactionBegin {
    TransactionBegin {
        tid: Tid::from_u64(tid),
        status: b' ',
        user: Bytes::new(),
        description: Bytes::new(),
        extension: Extension::default(),
    }
}

fn header(tid: u64) -> RecordHeader {
    RecordHeader {
        oid: Oid::ZERO,
        tid: Tid::from_u64(tid),
        data_txn: None,
    }
}

fn events(peer: &mut SecondaryPeer, data: &[u8]) -> Result<Vec<SecondaryEvent>, PeerError> {
    peer.receive_data(data);
    let mut events = Vec::new();
    while let Some(event) = peer.next_event()? {
        events.push(event);
    }
    Ok(events)
}

#[test]
fn a_secondarys_handshake_is_understood_by_a_primary() {
    let start = Tid::from_u64(42);
    let mut primary = PrimaryPeer::new(false);
    primary.receive_data(&SecondaryPeer::handshake(start, false, false));
    primary.receive_data(&SecondaryPeer::keep_alive());
    let started = PrimaryEvent::Start {
        tid: start,
        offer: false,
    };
    assert_eq!(primary.next_event(), Ok(Some(started)));
    assert_eq!(primary.next_event(), Ok(Some(PrimaryEvent::KeepAlive)));
    assert_eq!(primary.next_event(), Ok(None));
}

#[test]
fn a_control_message_within_a_transaction_is_refused() {
    let mut outgoing = Outgoing::new(Tid::ZERO, Dialect::Python3);
    outgoing.transaction(meta(1)).unwrap();
    outgoing.control_message(&ControlMessage::At(Tid::ZERO));
    let error = events(&mut SecondaryPeer::new(Tid::ZERO, true), &outgoing.take()).unwrap_err();
    assert!(matches!(error, PeerError::BadHeader(_)), "{error}");
}

#[test]
fn control_messages_have_a_limit() {
    let length = CONTROL_MESSAGE_LIMIT + 1;
    let mut said = bytes::BytesMut::new();
    write_sized(&[b"zrs:", &vec![b' '; length - 4][..]].concat(), &mut said).unwrap();
    let error = events(&mut SecondaryPeer::new(Tid::ZERO, true), &said).unwrap_err();
    assert_eq!(error.to_string(), "message too large: (1024, 1025)");
}

fn hello() -> ControlMessage {
    ControlMessage::Hello {
        start: Tid::ZERO,
        digest: None,
        checksum: Checksum::Xxh3,
        heartbeat_interval: None,
        position: None,
        dropped: None,
    }
}

/// A transaction before the hello, which changes the checksum, and one after it.
fn stream_with_a_hello() -> Bytes {
    let mut outgoing = Outgoing::new(Tid::ZERO, Dialect::Python3);
    for tid in [1, 2] {
        outgoing.transaction(meta(tid)).unwrap();
        outgoing.record(header(tid), Some(b"data")).unwrap();
        outgoing.commit().unwrap();
        outgoing.control_message(&hello());
    }
    outgoing.take()
}

#[test]
fn damage_around_a_change_of_the_checksum_is_noticed() {
    let whole = stream_with_a_hello();
    let is_commit = |event: &SecondaryEvent| matches!(event, SecondaryEvent::Commit(_));
    let commits = |stream: &[u8]| {
        let mut peer = SecondaryPeer::new(Tid::ZERO, true);
        peer.receive_data(stream);
        std::iter::from_fn(|| peer.next_event().ok().flatten())
            .filter(is_commit)
            .count()
    };
    assert_eq!(commits(&whole), 2);
    // The bytes that the last digest covers; the digest itself is covered by the next one.
    let last = whole.windows(2).rposition(|pair| pair == b"(X").unwrap();
    for at in 0..last {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 1;
        assert!(commits(&damaged) < 2, "a flip at {at}");
    }
}

#[test]
fn the_checksum_after_a_hello_is_not_md5() {
    let with_hello = stream_with_a_hello();
    let mut md5_only = SecondaryPeer::new(Tid::ZERO, true);
    // A secondary that does not receive the hello continues with MD5, and does not agree.
    let mut outgoing = Outgoing::new(Tid::ZERO, Dialect::Python3);
    outgoing.transaction(meta(1)).unwrap();
    outgoing.record(header(1), Some(b"data")).unwrap();
    outgoing.commit().unwrap();
    let first = outgoing.take();
    let behind = first.len() + 4 + hello().write().len();
    assert_eq!(first, with_hello[..first.len()]);
    events(&mut md5_only, &first).unwrap();
    let error = events(&mut md5_only, &with_hello[behind..]).unwrap_err();
    assert!(matches!(error, PeerError::BadChecksum { .. }), "{error}");
}

#[test]
fn transactions_must_increase() {
    let mut outgoing = Outgoing::new(Tid::from_u64(5), Dialect::Python3);
    outgoing.transaction(meta(5)).unwrap();
    let mut peer = SecondaryPeer::new(Tid::from_u64(5), true);
    let error = events(&mut peer, &outgoing.take()).unwrap_err();
    assert_eq!(
        error,
        PeerError::TidNotIncreasing {
            tid: Tid::from_u64(5),
            last: Tid::from_u64(5)
        }
    );
}

#[test]
fn a_record_is_not_later_than_its_transaction() {
    let mut outgoing = Outgoing::new(Tid::ZERO, Dialect::Python3);
    outgoing.transaction(meta(1)).unwrap();
    outgoing.record(header(2), Some(b"x")).unwrap();
    let error = events(&mut SecondaryPeer::new(Tid::ZERO, true), &outgoing.take()).unwrap_err();
    assert!(matches!(error, PeerError::RecordTidTooHigh { .. }));
}

#[test]
fn messages_out_of_order_are_named() {
    let mut outgoing = Outgoing::new(Tid::ZERO, Dialect::Python3);
    outgoing.commit().unwrap();
    let error = events(&mut SecondaryPeer::new(Tid::ZERO, true), &outgoing.take()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unexpected C message between transactions"
    );

    outgoing = Outgoing::new(Tid::ZERO, Dialect::Python2);
    outgoing.transaction(meta(1)).unwrap();
    outgoing.transaction(meta(2)).unwrap();
    let error = events(&mut SecondaryPeer::new(Tid::ZERO, true), &outgoing.take()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unexpected T message within a transaction"
    );
}

/// A stream with another start position has another checksum.
#[test]
fn a_wrong_checksum_counts_only_where_checksums_are_checked() {
    let mut outgoing = Outgoing::new(Tid::from_u64(1), Dialect::Python3);
    outgoing.transaction(meta(2)).unwrap();
    outgoing.commit().unwrap();
    let stream = outgoing.take();
    let error = events(&mut SecondaryPeer::new(Tid::ZERO, true), &stream).unwrap_err();
    assert!(matches!(error, PeerError::BadChecksum { .. }));
    let unchecked = events(&mut SecondaryPeer::new(Tid::ZERO, false), &stream).unwrap();
    assert_eq!(
        unchecked.last(),
        Some(&SecondaryEvent::Commit(Tid::from_u64(2)))
    );
}

#[test]
fn a_record_over_the_limit_is_refused_before_it_arrives() {
    let mut outgoing = Outgoing::new(Tid::ZERO, Dialect::Python3);
    outgoing.transaction(meta(1)).unwrap();
    outgoing.record(header(1), Some(&[0; 100])).unwrap();
    let mut peer = SecondaryPeer::new(Tid::ZERO, true).with_record_limit(99);
    let stream = outgoing.take();
    let error = events(&mut peer, &stream[..stream.len() - 100]).unwrap_err();
    assert_eq!(error.to_string(), "message too large: (99, 100)");
    assert_eq!(
        events(&mut peer, b"").unwrap_err(),
        error,
        "it stays failed"
    );
}

fn any_bytes(limit: usize) -> impl Strategy<Value = Bytes> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..24).prop_map(Bytes::from),
        prop::collection::vec(any::<u8>(), 250..260).prop_map(Bytes::from),
        prop::collection::vec(any::<u8>(), 0..limit).prop_map(Bytes::from),
    ]
}

type Txn = (Bytes, Bytes, bool, Vec<(u64, Option<Bytes>, Option<u64>)>);

fn any_transactions() -> impl Strategy<Value = Vec<Txn>> {
    let record = (
        any::<u64>(),
        prop::option::of(any_bytes(2000).prop_filter("None stands for no data", |d| !d.is_empty())),
        prop::option::of(any::<u64>()),
    );
    let transaction = (
        any_bytes(300),
        any_bytes(300),
        any::<bool>(),
        prop::collection::vec(record, 0..4),
    );
    prop::collection::vec(transaction, 0..5)
}

fn expected(transactions: Vec<Txn>) -> Vec<SecondaryEvent> {
    let mut events = Vec::new();
    for (tid, (user, description, packed, records)) in (1..).zip(transactions) {
        let status = if packed { b'p' } else { b' ' };
        events.push(SecondaryEvent::Begin(TransactionBegin {
            user,
            description,
            status,
            ..meta(tid)
        }));
        for (oid, data, data_txn) in records {
            let header = RecordHeader {
                oid: Oid::from_u64(oid),
                tid: Tid::from_u64(tid),
                data_txn: data_txn.map(Tid::from_u64),
            };
            events.push(SecondaryEvent::Record(Record { header, data }));
        }
        events.push(SecondaryEvent::Commit(Tid::from_u64(tid)));
        if packed {
            // The checksum covers it, whatever it contains.
            events.push(SecondaryEvent::ControlMessage(ControlMessage::At(
                Tid::from_u64(tid),
            )));
        } else if tid % 2 == 0 {
            events.push(SecondaryEvent::ControlMessage(hello()));
        }
    }
    events
}

proptest! {
    #[test]
    fn a_secondary_receives_what_a_primary_sends(
        transactions in any_transactions(), chunk in 1_usize..3000, python2 in any::<bool>()
    ) {
        let dialect = if python2 { Dialect::Python2 } else { Dialect::Python3 };
        let sent = expected(transactions);
        let mut outgoing = Outgoing::new(Tid::ZERO, dialect);
        for event in sent.clone() {
            match event {
                SecondaryEvent::Begin(meta) => outgoing.transaction(meta),
                SecondaryEvent::Record(record) => outgoing.record(record.header, record.data.as_deref()),
                SecondaryEvent::Blob(record, blocks) => {
                    let data = record.data.as_deref().unwrap_or_default();
                    outgoing.blob(record.header, data, blocks)
                }
                SecondaryEvent::Block(block) => outgoing.block(&block),
                SecondaryEvent::Commit(_) => outgoing.commit(),
                SecondaryEvent::ControlMessage(control_message) => {
                    outgoing.control_message(&control_message);
                    Ok(())
                }
            }.unwrap();
        }
        let mut peer = SecondaryPeer::new(Tid::ZERO, true);
        let mut heard = Vec::new();
        for part in outgoing.take().chunks(chunk) {
            heard.extend(events(&mut peer, part).unwrap());
        }
        prop_assert_eq!(heard, sent);
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = events(&mut SecondaryPeer::new(Tid::ZERO, true), &data);
        for greeting in [&b""[..], &SecondaryPeer::handshake(Tid::ZERO, true, true)] {
            let mut primary = PrimaryPeer::new(false);
            primary.receive_data(&[greeting, &data].concat());
            while let Ok(Some(_)) = primary.next_event() {}
        }
    }

    #[test]
    fn arbitrary_control_messages_harm_neither_side(
        text in "(hello|refused|at|diverged|[a-z]{0,9})( (tid|start|last|reason|digest)=\\PC{0,40}){0,5}"
    ) {
        let message = [b"zrs:", text.as_bytes()].concat();
        let mut said = bytes::BytesMut::new();
        write_sized(&message, &mut said).unwrap();
        if message.len() > CONTROL_MESSAGE_LIMIT {
            return Ok(());
        }
        prop_assert!(events(&mut SecondaryPeer::new(Tid::ZERO, true), &said).is_ok());
        let mut primary = PrimaryPeer::new(false);
        primary.receive_data(&SecondaryPeer::handshake(Tid::ZERO, false, true));
        primary.receive_data(&said);
        while primary.next_event().unwrap().is_some() {}
    }
}
