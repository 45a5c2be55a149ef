//! A primary's view of one connection: the handshake, and little after it.
//!
//! ```text
//! Protocol ──zrs2.0 | zrs2.1──> Start ──tid──> Streaming ──(empty: keep-alive)──┐
//!    │                            │               │   ^─(remark, after a knock)─┘
//!    └──────────── anything else ─┴───────────────┴──────> Failed, for ever
//! ```
//!
//! A knock is [`KNOCK`] empty messages right after the tid. They come in one piece, or in
//! very few if the network cut it: so many keep-alives of a peer that is not of our kind
//! arrive one by one.

use bytes::Bytes;

use super::control_message::{KNOCK, REMARK_LIMIT, Remark};
use super::sized::{LimitExceeded, SizedReader};
use super::{CLIENT_MESSAGE_LIMIT, PeerError, ZRS_2_0, ZRS_2_1};
use zrs_ids::Tid;

/// In how many pieces a knock may arrive after the tid has.
const KNOCK_PIECES: u8 = 3;

/// What a secondary did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrimaryEvent {
    /// It asks for all that follows a transaction.
    Start {
        /// The transaction.
        tid: Tid,
        /// Whether it has knocked, so that it may be answered with remarks.
        knocked: bool,
    },
    /// It has knocked, later than it started.
    Knocked,
    /// It is still there.
    KeepAlive,
    /// It has knocked before, and says something.
    Remark(Remark),
}

#[derive(Debug)]
enum State {
    Protocol,
    Start,
    Streaming(Knock),
    Failed(PeerError),
}

/// How much of a knock was heard.
#[derive(Clone, Copy, Debug)]
enum Knock {
    /// So many empty messages, and how many pieces may still come.
    Heard { empty: u8, pieces: u8 },
    /// All of it.
    Whole,
    /// The peer is not of our kind.
    Never,
}

/// The machine.
#[derive(Debug)]
pub struct PrimaryPeer {
    reader: SizedReader,
    state: State,
    blobs: bool,
    /// Empty messages that were taken for a knock and were none.
    keep_alives: u8,
    /// What was found behind them.
    held: Option<Result<Bytes, LimitExceeded>>,
}

impl PrimaryPeer {
    /// A machine for one connection; with `blobs` the secondary must store them too.
    pub fn new(blobs: bool) -> Self {
        Self {
            reader: SizedReader::default(),
            state: State::Protocol,
            blobs,
            keep_alives: 0,
            held: None,
        }
    }

    /// Takes in bytes from the secondary. A failed machine ignores them.
    pub fn receive_data(&mut self, data: &[u8]) {
        if let State::Streaming(Knock::Heard { pieces, .. }) = &mut self.state {
            match pieces.checked_sub(1) {
                Some(left) => *pieces = left,
                None => self.state = State::Streaming(Knock::Never),
            }
        }
        if !matches!(self.state, State::Failed(_)) {
            self.reader.push(Bytes::copy_from_slice(data));
        }
    }

    /// What happened next, `None` until more arrives.
    ///
    /// # Errors
    /// [`PeerError`] when the secondary broke the protocol, and again on every later call.
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
                State::Streaming(Knock::Whole) => REMARK_LIMIT,
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
                    let knocked = self.listen_for_knock();
                    return Ok(Some(PrimaryEvent::Start { tid, knocked }));
                }
                State::Streaming(knock) => match self.said(knock, &message)? {
                    None => {}
                    event => return Ok(event),
                },
            }
        }
    }

    /// Takes the empty messages behind the tid; whether they are a whole knock.
    fn listen_for_knock(&mut self) -> bool {
        let mut empty = 0;
        while empty < KNOCK {
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
        let knocked = empty == KNOCK;
        let knock = if knocked {
            Knock::Whole
        } else {
            self.keep_alives = empty;
            let pieces = KNOCK_PIECES;
            Knock::Heard { empty, pieces }
        };
        self.state = State::Streaming(knock);
        knocked
    }

    /// What a message after the start means, if anything.
    fn said(&mut self, knock: Knock, message: &[u8]) -> Result<Option<PrimaryEvent>, PeerError> {
        if message.is_empty() {
            let mut event = PrimaryEvent::KeepAlive;
            if let Knock::Heard { empty, pieces } = knock {
                let empty = empty + 1;
                self.state = State::Streaming(if empty == KNOCK {
                    event = PrimaryEvent::Knocked;
                    Knock::Whole
                } else {
                    Knock::Heard { empty, pieces }
                });
            }
            return Ok(Some(event));
        }
        match Remark::read(message) {
            Some(remark) if matches!(knock, Knock::Whole) => Ok(remark.map(PrimaryEvent::Remark)),
            _ => Err(PeerError::TooManyMessages),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{SecondaryPeer, write_sized};
    use bytes::BytesMut;

    fn hears(messages: &[&[u8]]) -> Result<Vec<PrimaryEvent>, PeerError> {
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
    fn a_handshake_asks_for_a_stream_and_keep_alives_keep_it() {
        for protocol in [ZRS_2_0, ZRS_2_1] {
            let events = hears(&[protocol, b"\0\0\0\0\0\0\0\x07", b"", b""]).unwrap();
            assert_eq!(
                events,
                [
                    PrimaryEvent::Start {
                        tid: Tid::from_u64(7),
                        knocked: false
                    },
                    PrimaryEvent::KeepAlive,
                    PrimaryEvent::KeepAlive
                ]
            );
        }
    }

    #[test]
    fn whatever_else_comes_is_refused_in_the_words_of_zc_zrs() {
        let start = b"\0\0\0\0\0\0\0\0";
        for (messages, words) in [
            (&[&b"zrs9.9"[..]][..], "Invalid protocol b'zrs9.9'"),
            (&[b"zrs2.0xxxxxxx"], "message too large: (8, 13)"),
            (&[ZRS_2_0, b"abc"], "Invalid transaction id, b'abc'"),
            (&[ZRS_2_0, b"abcabcabcabc"], "message too large: (8, 12)"),
            (&[ZRS_2_0, start, b"abc"], "Too many messages"),
        ] {
            assert_eq!(hears(messages).unwrap_err().to_string(), words);
        }
    }

    #[test]
    fn http_is_named_as_what_it_is() {
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
    fn a_primary_with_blobs_wants_a_secondary_with_blobs() {
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
    fn a_failed_machine_stays_failed() {
        let mut peer = PrimaryPeer::new(false);
        peer.receive_data(b"\0\0\0\x01x");
        let error = peer.next_event().unwrap_err();
        peer.receive_data(b"\0\0\0\x06zrs2.0");
        assert_eq!(peer.next_event(), Err(error));
    }

    fn knock(pieces: &[usize]) -> Vec<PrimaryEvent> {
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

    fn start(knocked: bool) -> PrimaryEvent {
        let tid = Tid::from_u64(7);
        PrimaryEvent::Start { tid, knocked }
    }

    #[test]
    fn a_knock_is_heard_with_the_start() {
        assert_eq!(knock(&[]), [start(true)]);
        // However the tid arrives, what is behind it decides.
        assert_eq!(knock(&[3, 11, 17]), [start(true)]);
    }

    #[test]
    fn a_knock_in_few_pieces_is_heard_later() {
        for pieces in [&[22][..], &[23], &[40], &[64], &[22, 30, 50], &[85]] {
            let events = knock(pieces);
            assert_eq!(events[0], start(false), "{pieces:?}");
            assert_eq!(events.last(), Some(&PrimaryEvent::Knocked), "{pieces:?}");
            assert_eq!(events.len(), 1 + usize::from(KNOCK), "{pieces:?}");
        }
    }

    #[test]
    fn as_many_keep_alives_one_by_one_are_no_knock() {
        let each: Vec<_> = (0..16).map(|number| 22 + 4 * number).collect();
        let events = knock(&each);
        assert!(!events.contains(&PrimaryEvent::Knocked));
        assert_eq!(events.len(), 1 + usize::from(KNOCK));
    }

    #[test]
    fn whoever_has_knocked_may_make_remarks() {
        let at = Remark::At(Tid::from_u64(9));
        let mut peer = PrimaryPeer::new(false);
        peer.receive_data(&SecondaryPeer::handshake(Tid::ZERO, false, true));
        peer.receive_data(&SecondaryPeer::remark(&at));
        peer.receive_data(b"\0\0\0\x0bzrs:unknown");
        peer.receive_data(&SecondaryPeer::keep_alive());
        assert!(peer.next_event().unwrap().is_some());
        assert_eq!(peer.next_event(), Ok(Some(PrimaryEvent::Remark(at))));
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
    fn whoever_has_not_knocked_may_not() {
        let error = hears(&[ZRS_2_0, &[0; 8], b"zrs:at"]).unwrap_err();
        assert_eq!(error, PeerError::TooManyMessages);
    }
}
