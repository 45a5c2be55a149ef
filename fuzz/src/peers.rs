//! The protocol's state machines: events do not depend on the sizes of the pieces received, and
//! errors are permanent.

use zrs_ids::Tid;
use zrs_replication::proto::{PeerError, PrimaryEvent, PrimaryPeer, SecondaryPeer};

/// The input is a byte with the size of pieces, and the bytes of a secondary.
pub fn primary_peer(bytes: &[u8]) {
    let Some((&piece, sent)) = bytes.split_first() else {
        return;
    };
    for blobs in [false, true] {
        let receive = |piece| {
            let peer = &mut PrimaryPeer::new(blobs);
            events(
                peer,
                sent,
                piece,
                PrimaryPeer::receive_data,
                PrimaryPeer::next_event,
            )
        };
        let (in_pieces, at_once) = (receive(usize::from(piece)), receive(usize::MAX));
        // The number of pieces matters for a capability offer.
        if !has_capability_offer(&in_pieces.0) && !has_capability_offer(&at_once.0) {
            assert_eq!(in_pieces, at_once);
        }
    }
}

fn has_capability_offer(events: &[PrimaryEvent]) -> bool {
    let is_offer = |event: &PrimaryEvent| {
        matches!(
            event,
            PrimaryEvent::Start { offer: true, .. } | PrimaryEvent::CapabilityOffer
        )
    };
    events.iter().any(is_offer)
}

/// The input is a byte with the size of pieces, and the bytes of a primary.
pub fn secondary_peer(bytes: &[u8]) {
    let Some((&piece, sent)) = bytes.split_first() else {
        return;
    };
    for checksums in [false, true] {
        let receive = |piece| {
            let peer = SecondaryPeer::new(Tid::ZERO, checksums).with_blobs(true);
            let peer = &mut peer.with_record_limit(1 << 20);
            events(
                peer,
                sent,
                piece,
                SecondaryPeer::receive_data,
                SecondaryPeer::next_event,
            )
        };
        assert_eq!(receive(usize::from(piece)), receive(usize::MAX));
    }
}

fn events<Peer, Event>(
    peer: &mut Peer,
    sent: &[u8],
    piece: usize,
    receive: impl Fn(&mut Peer, &[u8]),
    next: impl Fn(&mut Peer) -> Result<Option<Event>, PeerError>,
) -> (Vec<Event>, Option<PeerError>) {
    let mut events = Vec::new();
    for part in sent.chunks(piece.max(1)) {
        receive(peer, part);
        loop {
            match next(peer) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => {
                    receive(peer, sent);
                    let again = next(peer).err();
                    assert_eq!(again.as_ref(), Some(&error), "it stays failed");
                    return (events, Some(error));
                }
            }
        }
    }
    (events, None)
}
