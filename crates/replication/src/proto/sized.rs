//! Sized messages: a four-byte big-endian length, then as many bytes.

use std::collections::VecDeque;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// The bytes of a message's length.
const LENGTH: usize = 4;
/// The most that is set aside for a message before its bytes arrive.
const RESERVE: usize = 1 << 16;

/// A message is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitExceeded {
    /// The longest that it may be, in bytes.
    pub limit: usize,
    /// The length that it announced.
    pub length: usize,
}

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {})", self.limit, self.length)
    }
}

/// The first four bytes of HTTP requests and responses, and of HTTP/2.
const HTTP: [&[u8; 4]; 11] = [
    b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"CONN", b"OPTI", b"TRAC", b"PATC", b"HTTP",
    b"PRI ",
];

impl LimitExceeded {
    /// What the peer probably speaks instead of the protocol, as the end of a sentence; empty
    /// if that is unknown.
    pub(super) fn hint(&self) -> &'static str {
        let begins = |text: &[u8; 4]| u32::from_be_bytes(*text) as usize == self.length;
        if HTTP.iter().any(|text| begins(text)) {
            "; this looks like HTTP"
        } else {
            ""
        }
    }
}

/// Cuts a stream of bytes into messages.
///
/// A message that arrived in one piece is a part of that piece and not copied. Memory
/// follows the bytes that have arrived, never a length that was only announced.
#[derive(Debug, Default)]
pub struct SizedReader {
    /// What arrived and is not looked at, in pieces none of which is empty.
    arrived: VecDeque<Bytes>,
    /// The length of the message that has begun, once all of it is there.
    length: Option<usize>,
    /// The beginning of a message, or of its length, that arrived in several pieces.
    begun: Vec<u8>,
    /// How much of `begun` has been seen.
    seen: usize,
}

impl SizedReader {
    /// Adds bytes that arrived.
    pub fn push(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.arrived.push_back(data);
        }
    }

    /// The next whole message, if it has arrived.
    ///
    /// # Errors
    /// [`LimitExceeded`] as soon as a message announces more than `limit` bytes.
    pub fn next(&mut self, limit: usize) -> Result<Option<Bytes>, LimitExceeded> {
        let length = match self.length {
            Some(length) => length,
            None => match self.take(LENGTH) {
                Some(head) => head
                    .iter()
                    .fold(0, |length, byte| (length << 8) | usize::from(*byte)),
                None => return Ok(None),
            },
        };
        if length > limit {
            return Err(LimitExceeded { limit, length });
        }
        self.length = Some(length);
        let message = self.take(length);
        if message.is_some() {
            self.length = None;
            self.seen = 0;
        }
        Ok(message)
    }

    /// What arrived, since this was asked last, of a message that is not whole; after
    /// [`Self::next`] returned `None`. The whole message comes from there all the same.
    pub fn unseen(&mut self) -> &[u8] {
        if self.length.is_none() {
            return &[];
        }
        let unseen = self.begun.get(self.seen..).unwrap_or_default();
        self.seen = self.begun.len();
        unseen
    }

    /// How many bytes of the message that is not whole were returned by [`Self::unseen`].
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// The next `length` bytes, if so many have arrived; otherwise all are gathered.
    fn take(&mut self, length: usize) -> Option<Bytes> {
        if self.begun.is_empty() {
            match self.arrived.front_mut() {
                _ if length == 0 => return Some(Bytes::new()),
                None => return None,
                Some(front) if front.len() == length => return self.arrived.pop_front(),
                Some(front) if front.len() > length => return Some(front.split_to(length)),
                Some(_) => {}
            }
        }
        while let Some(front) = self.arrived.front_mut() {
            let part = front.split_to(front.len().min(length - self.begun.len()));
            if front.is_empty() {
                self.arrived.pop_front();
            }
            // What is set aside is no more than what arrived, or a little.
            let room = RESERVE.max(self.begun.len()).max(part.len());
            let missing = length - self.begun.len();
            if self.begun.capacity() - self.begun.len() < part.len() {
                self.begun.reserve_exact(missing.min(room));
            }
            self.begun.extend_from_slice(&part);
            if self.begun.len() == length {
                return Some(std::mem::take(&mut self.begun).into());
            }
        }
        None
    }
}

/// A message's length as it is sent, if it can be.
pub(super) fn sized_length(length: usize) -> Result<u32, LimitExceeded> {
    let limit = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
    match u32::try_from(length) {
        Ok(length) => Ok(length),
        Err(_) => Err(LimitExceeded { limit, length }),
    }
}

/// Appends a message with its length. Messages come from files whose structures limit them
/// to less than four GiB; a longer one cannot be expressed and is refused.
///
/// # Errors
/// [`LimitExceeded`].
pub fn write_sized(message: &[u8], out: &mut BytesMut) -> Result<(), LimitExceeded> {
    let length = sized_length(message.len())?;
    out.reserve(LENGTH + message.len());
    out.put_u32(length);
    out.put_slice(message);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_however_they_arrive() {
        let mut stream = BytesMut::new();
        for message in [&b"zrs2.0"[..], b"", b"\0\0\0\0\0\0\0\0"] {
            write_sized(message, &mut stream).unwrap();
        }
        for chunk in 1..=stream.len() {
            let mut reader = SizedReader::default();
            let mut messages = Vec::new();
            for part in stream.chunks(chunk) {
                reader.push(Bytes::copy_from_slice(part));
                while let Some(message) = reader.next(8).unwrap() {
                    messages.push(message);
                }
            }
            assert_eq!(
                messages,
                [&b"zrs2.0"[..], b"", b"\0\0\0\0\0\0\0\0"],
                "chunks of {chunk}"
            );
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_on_its_length_alone() {
        let mut reader = SizedReader::default();
        reader.push(Bytes::from_static(b"\0\0\0\x09"));
        assert_eq!(
            reader.next(8),
            Err(LimitExceeded {
                limit: 8,
                length: 9
            })
        );
    }

    #[test]
    fn an_announced_length_takes_no_memory() {
        let mut reader = SizedReader::default();
        reader.push(Bytes::from_static(b"\x3f\xff\xff\xffx"));
        assert_eq!(reader.next(1 << 30), Ok(None));
        assert!(reader.begun.capacity() < 1 << 20);
    }

    #[test]
    fn a_long_message_takes_no_more_memory_than_twice_what_arrived() {
        let mut reader = SizedReader::default();
        let length = 50_u32 << 20;
        reader.push(Bytes::copy_from_slice(&length.to_be_bytes()));
        let piece = Bytes::from(vec![7; 1 << 20]);
        for arrived in 1..50 {
            reader.push(piece.clone());
            assert_eq!(reader.next(1 << 30), Ok(None));
            assert!(reader.begun.capacity() <= 2 * arrived * piece.len());
        }
        reader.push(piece);
        assert_eq!(reader.next(1 << 30).unwrap().unwrap().len(), 50 << 20);
    }

    #[test]
    fn a_message_is_seen_as_it_arrives() {
        let mut reader = SizedReader::default();
        reader.push(Bytes::from_static(b"\0\0"));
        assert_eq!(reader.next(8), Ok(None));
        assert_eq!(reader.unseen(), b"");
        reader.push(Bytes::from_static(b"\0\x05ab"));
        assert_eq!(reader.next(8), Ok(None));
        assert_eq!(reader.unseen(), b"ab");
        assert_eq!(reader.unseen(), b"");
        reader.push(Bytes::from_static(b"c"));
        assert_eq!(reader.next(8), Ok(None));
        assert_eq!(reader.unseen(), b"c");
        assert_eq!(reader.seen(), 3);
        reader.push(Bytes::from_static(b"de\0"));
        assert_eq!(reader.next(8), Ok(Some(Bytes::from_static(b"abcde"))));
        assert_eq!(reader.seen(), 0);
        assert_eq!(reader.next(8), Ok(None));
    }
}
