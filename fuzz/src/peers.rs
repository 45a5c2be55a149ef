//! The protocol's machines: what they hear does not depend on how it was cut to pieces, and
//! who has failed stays failed.

use zrs_ids::Tid;
use zrs_replication::proto::{PeerError, PrimaryEvent, PrimaryPeer, SecondaryPeer};

/// What a secondary says to a primary, after a byte that says in what pieces.
pub fn primary_peer(bytes: &[u8]) {
    let Some((&piece, said)) = bytes.split_first() else {
        return;
    };
    for blobs in [false, true] {
        let hear = |piece| {
            let peer = &mut PrimaryPeer::new(blobs);
            events(
                peer,
                said,
                piece,
                PrimaryPeer::receive_data,
                PrimaryPeer::next_event,
            )
        };
        let (in_pieces, at_once) = (hear(usize::from(piece)), hear(usize::MAX));
        // Of many empty messages it does, as it should: a knock comes in one piece or few.
        if !knocked(&in_pieces.0) && !knocked(&at_once.0) {
            assert_eq!(in_pieces, at_once);
        }
    }
}

fn knocked(events: &[PrimaryEvent]) -> bool {
    let is_knock = |event: &PrimaryEvent| {
        matches!(
            event,
            PrimaryEvent::Start { knocked: true, .. } | PrimaryEvent::Knocked
        )
    };
    events.iter().any(is_knock)
}

/// What a primary says to a secondary, after a byte that says in what pieces.
pub fn secondary_peer(bytes: &[u8]) {
    let Some((&piece, said)) = bytes.split_first() else {
        return;
    };
    for checksums in [false, true] {
        let hear = |piece| {
            let peer = SecondaryPeer::new(Tid::ZERO, checksums).with_blobs(true);
            let peer = &mut peer.with_record_limit(1 << 20);
            events(
                peer,
                said,
                piece,
                SecondaryPeer::receive_data,
                SecondaryPeer::next_event,
            )
        };
        assert_eq!(hear(usize::from(piece)), hear(usize::MAX));
    }
}

fn events<Peer, Event>(
    peer: &mut Peer,
    said: &[u8],
    piece: usize,
    receive: impl Fn(&mut Peer, &[u8]),
    next: impl Fn(&mut Peer) -> Result<Option<Event>, PeerError>,
) -> (Vec<Event>, Option<PeerError>) {
    let mut events = Vec::new();
    for part in said.chunks(piece.max(1)) {
        receive(peer, part);
        loop {
            match next(peer) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => {
                    receive(peer, said);
                    let again = next(peer).err();
                    assert_eq!(again.as_ref(), Some(&error), "it stays failed");
                    return (events, Some(error));
                }
            }
        }
    }
    (events, None)
}
