//! A primary's view of one connection: the handshake, and silence after it.
//!
//! ```text
//! Protocol ──zrs2.0 | zrs2.1──> Start ──tid──> Streaming ──(empty: keep-alive)──┐
//!    │                            │               │   ^─────────────────────────┘
//!    └──────────── anything else ─┴───────────────┴──────> Failed, for ever
//! ```

use bytes::Bytes;

use super::sized::SizedReader;
use super::{CLIENT_MESSAGE_LIMIT, PeerError, ZRS_2_0, ZRS_2_1};
use crate::ids::Tid;

/// What a secondary did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrimaryEvent {
    /// It asks for all that follows this transaction.
    Start(Tid),
    /// It is still there.
    KeepAlive,
}

#[derive(Debug)]
enum State {
    Protocol,
    Start,
    Streaming,
    Failed(PeerError),
}

/// The machine.
#[derive(Debug)]
pub struct PrimaryPeer {
    reader: SizedReader,
    state: State,
    blobs: bool,
}

impl PrimaryPeer {
    /// A machine for one connection; with `blobs` the secondary must store them too.
    pub fn new(blobs: bool) -> Self {
        Self {
            reader: SizedReader::default(),
            state: State::Protocol,
            blobs,
        }
    }

    /// Takes in bytes from the secondary. A failed machine ignores them.
    pub fn receive_data(&mut self, data: &[u8]) {
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
        self.advance()
            .inspect_err(|error| self.state = State::Failed(error.clone()))
    }

    fn advance(&mut self) -> Result<Option<PrimaryEvent>, PeerError> {
        loop {
            let message = self.reader.next(CLIENT_MESSAGE_LIMIT);
            let Some(message) = message.map_err(PeerError::MessageTooLarge)? else {
                return Ok(None);
            };
            match &self.state {
                State::Failed(error) => return Err(error.clone()),
                State::Protocol if message[..] == ZRS_2_0[..] && self.blobs => {
                    return Err(PeerError::BlobsRequired(message.into()));
                }
                State::Protocol if message[..] == ZRS_2_0[..] || message[..] == ZRS_2_1[..] => {
                    self.state = State::Start;
                }
                State::Protocol => return Err(PeerError::InvalidProtocol(message.into())),
                State::Start => {
                    let Some(start) = Tid::from_slice(&message) else {
                        return Err(PeerError::InvalidTid(message.into()));
                    };
                    self.state = State::Streaming;
                    return Ok(Some(PrimaryEvent::Start(start)));
                }
                State::Streaming if message.is_empty() => {
                    return Ok(Some(PrimaryEvent::KeepAlive));
                }
                State::Streaming => return Err(PeerError::TooManyMessages),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::write_sized;
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
                    PrimaryEvent::Start(Tid::from_u64(7)),
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
}
