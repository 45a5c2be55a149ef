//! The primary's side of one connection: parses the handshake and later messages of the
//! secondary.
//!
//! ```text
//! Protocol ──zrs2.0 | zrs2.1──> Start ──tid──> Streaming ──(empty: keep-alive)───┐
//!    │                            │               │   ^─(control message, after  │
//!    │                            │               │      a capability offer)─────┘
//!    └──────────── anything else ─┴───────────────┴──────> Failed, permanently
//! ```
//!
//! A capability offer is [`OFFER_LENGTH`] empty messages right after the tid. They arrive in one
//! piece, or in a few pieces if the network splits it. The same number of keep-alives of a
//! zc.zrs secondary arrives one by one.

use bytes::Bytes;

use super::control_message::{CONTROL_MESSAGE_LIMIT, ControlMessage, OFFER_LENGTH, Parsed};
use super::sized::{LimitExceeded, SizedReader};
use super::{CLIENT_MESSAGE_LIMIT, PeerError, ZRS_2_0, ZRS_2_1};
use zrs_ids::Tid;

/// Maximum number of pieces in which a capability offer may arrive after the tid.
const OFFER_PIECES: u8 = 3;

/// An event of the secondary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrimaryEvent {
    /// It requests all transactions after this one.
    Start {
        /// The transaction.
        tid: Tid,
        /// Whether it has made a capability offer, so the primary may send control messages.
        offer: bool,
    },
    /// Its capability offer is complete, after [`Self::Start`].
    CapabilityOffer,
    /// A keep-alive message.
    KeepAlive,
    /// A control message, after a capability offer.
    ControlMessage(ControlMessage),
}

#[derive(Debug)]
enum State {
    Protocol,
    Start,
    Streaming(Offer),
    Failed(PeerError),
}

/// The state of a capability offer.
#[derive(Clone, Copy, Debug)]
enum Offer {
    /// Number of empty messages received, and of further pieces that may be part of the offer.
    Partial { empty: u8, pieces: u8 },
    /// The offer is complete.
    Complete,
    /// The peer makes no offer.
    Absent,
}

/// The state machine of a primary's connection.
#[derive(Debug)]
pub struct PrimaryPeer {
    reader: SizedReader,
    state: State,
    blobs: bool,
    /// Empty messages after the tid that are to be reported as keep-alives.
    keep_alives: u8,
    /// The message after them.
    held: Option<Result<Bytes, LimitExceeded>>,
}

impl PrimaryPeer {
    /// A state machine for one connection. With `blobs`, the secondary must store blobs too.
    pub fn new(blobs: bool) -> Self {
        Self {
            reader: SizedReader::default(),
            state: State::Protocol,
            blobs,
            keep_alives: 0,
            held: None,
        }
    }

    /// Adds bytes from the secondary. Ignores them after an error.
    pub fn receive_data(&mut self, data: &[u8]) {
        if let State::Streaming(Offer::Partial { pieces, .. }) = &mut self.state {
            match pieces.checked_sub(1) {
                Some(left) => *pieces = left,
                None => self.state = State::Streaming(Offer::Absent),
            }
        }
        if !matches!(self.state, State::Failed(_)) {
            self.reader.push(Bytes::copy_from_slice(data));
        }
    }

    /// The next event; `None` until more bytes arrive.
    ///
    /// # Errors
    /// [`PeerError`] after a violation of the protocol, and again on every later call.
    pub fn next_event(&mut self) -> Result<Option<PrimaryEvent>, PeerError> {
        if let State::Failed(error) = &self.state {
            return Err(error.clone());
        }
        if let Some(left) = self.keep_alives.checked_sub(1) {
            self.keep_alives = left;
            return Ok(Some(PrimaryEvent::KeepAlive));
        }
        self.advance()
            .inspect_err(|error| self.state = State::Failed(error.clone()))
    }

    fn advance(&mut self) -> Result<Option<PrimaryEvent>, PeerError> {
        loop {
            let limit = match self.state {
                State::Streaming(Offer::Complete) => CONTROL_MESSAGE_LIMIT,
                _ => CLIENT_MESSAGE_LIMIT,
            };
            let message = match self.held.take() {
                Some(held) => held.map(Some),
                None => self.reader.next(limit),
            };
            let Some(message) = message.map_err(PeerError::MessageTooLarge)? else {
                return Ok(None);
            };
            match self.state {
                State::Failed(ref error) => return Err(error.clone()),
                State::Protocol if message[..] == ZRS_2_0[..] && self.blobs => {
                    return Err(PeerError::BlobsRequired(message.into()));
                }
                State::Protocol if message[..] == ZRS_2_0[..] || message[..] == ZRS_2_1[..] => {
                    self.state = State::Start;
                }
                State::Protocol => return Err(PeerError::InvalidProtocol(message.into())),
                State::Start => {
                    let Some(tid) = Tid::from_slice(&message) else {
                        return Err(PeerError::InvalidTid(message.into()));
                    };
                    let offer = self.read_offer();
                    return Ok(Some(PrimaryEvent::Start { tid, offer }));
                }
                State::Streaming(offer) => match self.streaming(offer, &message)? {
                    None => {}
                    event => return Ok(event),
                },
            }
        }
    }

    /// Reads the empty messages after the tid. Returns whether they are a complete offer.
    fn read_offer(&mut self) -> bool {
        let mut empty = 0;
        while empty < OFFER_LENGTH {
            match self.reader.next(CLIENT_MESSAGE_LIMIT) {
                Ok(Some(message)) if message.is_empty() => empty += 1,
                Ok(None) => break,
                Ok(Some(message)) => {
                    self.held = Some(Ok(message));
                    break;
                }
                Err(error) => {
                    self.held = Some(Err(error));
                    break;
                }
            }
        }
        let is_complete = empty == OFFER_LENGTH;
        let offer = if is_complete {
            Offer::Complete
        } else {
            self.keep_alives = empty;
            let pieces = OFFER_PIECES;
            Offer::Partial { empty, pieces }
        };
        self.state = State::Streaming(offer);
        is_complete
    }

    /// The event of a message after the start, if it has one.
    fn streaming(
        &mut self,
        offer: Offer,
        message: &[u8],
    ) -> Result<Option<PrimaryEvent>, PeerError> {
        if message.is_empty() {
            let mut event = PrimaryEvent::KeepAlive;
            if let Offer::Partial { empty, pieces } = offer {
                let empty = empty + 1;
                self.state = State::Streaming(if empty == OFFER_LENGTH {
                    event = PrimaryEvent::CapabilityOffer;
                    Offer::Complete
                } else {
                    Offer::Partial { empty, pieces }
                });
            }
            return Ok(Some(event));
        }
        match ControlMessage::read(message) {
            Parsed::Known(message) if matches!(offer, Offer::Complete) => {
                Ok(Some(PrimaryEvent::ControlMessage(message)))
            }
            Parsed::Unknown if matches!(offer, Offer::Complete) => Ok(None),
            Parsed::NotControl | Parsed::Unknown | Parsed::Known(_) => {
                Err(PeerError::TooManyMessages)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{SecondaryPeer, write_sized};
    use bytes::BytesMut;

    fn receive(messages: &[&[u8]]) -> Result<Vec<PrimaryEvent>, PeerError> {
        let mut stream = BytesMut::new();
        for message in messages {
            write_sized(message, &mut stream).unwrap();
        }
        let mut peer = PrimaryPeer::new(false);
        peer.receive_data(&stream);
        let mut events = Vec::new();
        while let Some(event) = peer.next_event()? {
            events.push(event);
        }
        Ok(events)
    }

    #[test]
    fn a_handshake_starts_a_stream_and_keep_alives_follow() {
        for protocol in [ZRS_2_0, ZRS_2_1] {
            let events = receive(&[protocol, b"\0\0\0\0\0\0\0\x07", b"", b""]).unwrap();
            assert_eq!(
                events,
                [
                    PrimaryEvent::Start {
                        tid: Tid::from_u64(7),
                        offer: false
                    },
                    PrimaryEvent::KeepAlive,
                    PrimaryEvent::KeepAlive
                ]
            );
        }
    }

    #[test]
    fn other_messages_are_refused_with_the_messages_of_zc_zrs() {
        let start = b"\0\0\0\0\0\0\0\0";
        for (messages, words) in [
            (&[&b"zrs9.9"[..]][..], "Invalid protocol b'zrs9.9'"),
            (&[b"zrs2.0xxxxxxx"], "message too large: (8, 13)"),
            (&[ZRS_2_0, b"abc"], "Invalid transaction id, b'abc'"),
            (&[ZRS_2_0, b"abcabcabcabc"], "message too large: (8, 12)"),
            (&[ZRS_2_0, start, b"abc"], "Too many messages"),
        ] {
            assert_eq!(receive(messages).unwrap_err().to_string(), words);
        }
    }

    #[test]
    fn http_is_recognized() {
        for (bytes, words) in [
            (
                &b"GET / HTTP/1.1\r\n"[..],
                "message too large: (8, 1195725856); this looks like HTTP",
            ),
            (
                b"PRI * HTTP/2.0\r\n",
                "message too large: (8, 1347569952); this looks like HTTP",
            ),
            (b"abcdefgh", "message too large: (8, 1633837924)"),
        ] {
            let mut peer = PrimaryPeer::new(false);
            peer.receive_data(bytes);
            assert_eq!(peer.next_event().unwrap_err().to_string(), words);
        }
    }

    #[test]
    fn a_primary_with_blobs_requires_a_secondary_with_blobs() {
        let mut peer = PrimaryPeer::new(true);
        peer.receive_data(b"\0\0\0\x06zrs2.0");
        assert_eq!(
            peer.next_event().unwrap_err().to_string(),
            "Invalid protocol b'zrs2.0'. Require >= 2.1"
        );
        let mut peer = PrimaryPeer::new(true);
        peer.receive_data(b"\0\0\0\x06zrs2.1");
        assert_eq!(peer.next_event(), Ok(None));
    }

    #[test]
    fn errors_are_permanent() {
        let mut peer = PrimaryPeer::new(false);
        peer.receive_data(b"\0\0\0\x01x");
        let error = peer.next_event().unwrap_err();
        peer.receive_data(b"\0\0\0\x06zrs2.0");
        assert_eq!(peer.next_event(), Err(error));
    }

    fn offer(pieces: &[usize]) -> Vec<PrimaryEvent> {
        let mut peer = PrimaryPeer::new(false);
        let stream = SecondaryPeer::handshake(Tid::from_u64(7), false, true);
        let mut events = Vec::new();
        let mut from = 0;
        for to in pieces.iter().copied().chain([stream.len()]) {
            peer.receive_data(&stream[from..to]);
            from = to;
            while let Some(event) = peer.next_event().unwrap() {
                events.push(event);
            }
        }
        events
    }

    fn start(offer: bool) -> PrimaryEvent {
        let tid = Tid::from_u64(7);
        PrimaryEvent::Start { tid, offer }
    }

    #[test]
    fn an_offer_is_recognized_with_the_start() {
        assert_eq!(offer(&[]), [start(true)]);
        // The pieces of the tid do not matter, only those after it.
        assert_eq!(offer(&[3, 11, 17]), [start(true)]);
    }

    #[test]
    fn an_offer_in_few_pieces_is_recognized_later() {
        for pieces in [&[22][..], &[23], &[40], &[64], &[22, 30, 50], &[85]] {
            let events = offer(pieces);
            assert_eq!(events[0], start(false), "{pieces:?}");
            assert_eq!(
                events.last(),
                Some(&PrimaryEvent::CapabilityOffer),
                "{pieces:?}"
            );
            assert_eq!(events.len(), 1 + usize::from(OFFER_LENGTH), "{pieces:?}");
        }
    }

    #[test]
    fn single_keep_alives_are_not_an_offer() {
        let each: Vec<_> = (0..16).map(|number| 22 + 4 * number).collect();
        let events = offer(&each);
        assert!(!events.contains(&PrimaryEvent::CapabilityOffer));
        assert_eq!(events.len(), 1 + usize::from(OFFER_LENGTH));
    }

    #[test]
    fn control_messages_are_accepted_after_an_offer() {
        let at = ControlMessage::At(Tid::from_u64(9));
        let mut peer = PrimaryPeer::new(false);
        peer.receive_data(&SecondaryPeer::handshake(Tid::ZERO, false, true));
        peer.receive_data(&SecondaryPeer::control_message(&at));
        peer.receive_data(b"\0\0\0\x0bzrs:unknown");
        peer.receive_data(&SecondaryPeer::keep_alive());
        assert!(peer.next_event().unwrap().is_some());
        assert_eq!(
            peer.next_event(),
            Ok(Some(PrimaryEvent::ControlMessage(at)))
        );
        assert_eq!(peer.next_event(), Ok(Some(PrimaryEvent::KeepAlive)));
        peer.receive_data(b"\0\0\0\x07zrs2.1!");
        assert_eq!(peer.next_event(), Err(PeerError::TooManyMessages));

        let mut peer = PrimaryPeer::new(false);
        peer.receive_data(&SecondaryPeer::handshake(Tid::ZERO, false, true));
        assert!(peer.next_event().unwrap().is_some());
        peer.receive_data(b"\0\0\x04\x01zrs:");
        let error = peer.next_event().unwrap_err();
        assert_eq!(error.to_string(), "message too large: (1024, 1025)");
    }

    #[test]
    fn control_messages_are_refused_without_an_offer() {
        let error = receive(&[ZRS_2_0, &[0; 8], b"zrs:at"]).unwrap_err();
        assert_eq!(error, PeerError::TooManyMessages);
    }
}
