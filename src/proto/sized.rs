//! Sized messages: a four-byte big-endian length, then as many bytes.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

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

/// Cuts a stream of bytes into messages.
///
/// Memory follows the bytes that have arrived, never a length that was only announced.
#[derive(Debug, Default)]
pub struct SizedReader {
    buffer: BytesMut,
}

impl SizedReader {
    /// Adds bytes that arrived.
    pub fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next whole message, if it has arrived.
    ///
    /// # Errors
    /// [`LimitExceeded`] as soon as a message announces more than `limit` bytes.
    pub fn next(&mut self, limit: usize) -> Result<Option<Bytes>, LimitExceeded> {
        let Some(head) = self.buffer.first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
        if length > limit {
            return Err(LimitExceeded { limit, length });
        }
        let missing = (LENGTH + length).saturating_sub(self.buffer.len());
        if missing > 0 {
            self.buffer.reserve(missing.min(RESERVE));
            return Ok(None);
        }
        self.buffer.advance(LENGTH);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// Appends a message with its length. Messages come from files whose structures limit them
/// to less than four GiB; a longer one cannot be expressed and is refused.
///
/// # Errors
/// [`LimitExceeded`].
pub fn write_sized(message: &[u8], out: &mut BytesMut) -> Result<(), LimitExceeded> {
    let limit = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
    let Ok(length) = u32::try_from(message.len()) else {
        return Err(LimitExceeded {
            limit,
            length: message.len(),
        });
    };
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
                reader.push(part);
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
        reader.push(b"\0\0\0\x09");
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
        reader.push(b"\x3f\xff\xff\xff");
        assert_eq!(reader.next(1 << 30), Ok(None));
        assert!(reader.buffer.capacity() < 1 << 20);
    }
}
