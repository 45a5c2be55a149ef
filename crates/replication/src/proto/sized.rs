//! Sized messages: a four-byte big-endian length, then this many bytes.

use std::collections::VecDeque;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// Size of the length of a message, in bytes.
const LENGTH: usize = 4;
/// Maximum memory reserved for a message before its bytes arrive.
const RESERVE: usize = 1 << 16;

/// A message exceeds the maximum length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitExceeded {
    /// The maximum length, in bytes.
    pub limit: usize,
    /// The announced length, in bytes.
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
    /// The protocol that the peer probably uses, as the end of a sentence; empty if unknown.
    pub(super) fn hint(&self) -> &'static str {
        let begins = |text: &[u8; 4]| u32::from_be_bytes(*text) as usize == self.length;
        if HTTP.iter().any(|text| begins(text)) {
            "; this looks like HTTP"
        } else {
            ""
        }
    }
}

/// Splits a stream of bytes into messages.
///
/// A message that arrived in one piece is a slice of that piece and is not copied. Memory use
/// depends on the bytes received, never on an announced length.
#[derive(Debug, Default)]
pub(super) struct SizedReader {
    /// Received pieces that are not parsed yet. No piece is empty.
    arrived: VecDeque<Bytes>,
    /// The length of the current message, once all four bytes of it have arrived.
    length: Option<usize>,
    /// The beginning of the current message, or of its length, if it arrives in several pieces.
    begun: Vec<u8>,
    /// Number of bytes of `begun` that [`Self::unseen`] has returned.
    seen: usize,
}

impl SizedReader {
    /// Adds bytes that arrived.
    pub(super) fn push(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.arrived.push_back(data);
        }
    }

    /// The next message, if all of it has arrived.
    ///
    /// # Errors
    /// [`LimitExceeded`] as soon as a message announces more than `limit` bytes.
    pub(super) fn next(&mut self, limit: usize) -> Result<Option<Bytes>, LimitExceeded> {
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

    /// The bytes of an incomplete message that arrived since the last call. Valid after
    /// [`Self::next`] returned `None`; a later `next` still returns the whole message.
    pub(super) fn unseen(&mut self) -> &[u8] {
        if self.length.is_none() {
            return &[];
        }
        let unseen = self.begun.get(self.seen..).unwrap_or_default();
        self.seen = self.begun.len();
        unseen
    }

    /// Number of bytes of the incomplete message that [`Self::unseen`] has returned.
    pub(super) fn seen(&self) -> usize {
        self.seen
    }

    /// The next `length` bytes, if they have arrived. Otherwise collects all pieces in `begun`.
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
            // At most double the memory of what has arrived, or `RESERVE`.
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

/// The length of a message as a 32-bit number.
pub(super) fn sized_length(length: usize) -> Result<u32, LimitExceeded> {
    let limit = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
    match u32::try_from(length) {
        Ok(length) => Ok(length),
        Err(_) => Err(LimitExceeded { limit, length }),
    }
}

/// Appends the length of a message and the message. The protocol has no messages of 4 GiB or
/// more.
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
    fn messages_are_complete_regardless_of_chunk_size() {
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
    fn a_message_over_the_limit_is_refused_by_its_length() {
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
    fn an_announced_length_reserves_no_memory() {
        let mut reader = SizedReader::default();
        reader.push(Bytes::from_static(b"\x3f\xff\xff\xffx"));
        assert_eq!(reader.next(1 << 30), Ok(None));
        assert!(reader.begun.capacity() < 1 << 20);
    }

    #[test]
    fn memory_is_at_most_twice_the_bytes_received() {
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
    fn unseen_returns_each_byte_once() {
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
