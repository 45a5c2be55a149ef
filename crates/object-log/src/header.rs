//! The first bytes of a file.

use std::path::Path;

use super::error::{LogError, LogResult, io_error};
use zrs_vfs::VfsFile;

/// The first bytes of every file. The first one is not text, and the newline shows whether
/// line endings were translated.
const MAGIC: [u8; 8] = *b"\x89dobbin\n";
/// The version of the format.
const FORMAT_VERSION: u32 = 1;
/// The length of the header: magic, version, identity, checksum.
pub const HEADER_LEN: usize = 8 + 4 + 16 + 4;

/// A file's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Random bytes that distinguish this file from all others; an index file has those of its
    /// log.
    pub identity: [u8; 16],
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BadHeader {
    Magic,
    Version(u32),
    Checksum,
}

impl Header {
    /// The bytes of the header.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_be_bytes());
        bytes[12..28].copy_from_slice(&self.identity);
        let checksum = crc32fast::hash(&bytes[..28]);
        bytes[28..].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// Read the header of a file.
    pub(super) fn read(file: &dyn VfsFile, path: &Path) -> LogResult<Self> {
        let mut bytes = [0; HEADER_LEN];
        let count = file.read_full_at(&mut bytes, 0).map_err(io_error(path))?;
        let owned = || path.to_owned();
        match Header::parse(&bytes) {
            Ok(header) => Ok(header),
            Err(BadHeader::Version(version)) => Err(LogError::UnknownVersion {
                path: owned(),
                version,
            }),
            Err(BadHeader::Checksum) => Err(LogError::CorruptHeader { path: owned() }),
            Err(BadHeader::Magic) => Err(LogError::UnknownMagic {
                path: owned(),
                found: bytes[..count.min(8)].to_vec(),
            }),
        }
    }

    fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, BadHeader> {
        let (body, checksum) = bytes.split_at(28);
        let sound = checksum == crc32fast::hash(body).to_be_bytes();
        let (magic, body) = body.split_at(8);
        if magic != MAGIC {
            return Err(BadHeader::Magic);
        }
        if !sound {
            return Err(BadHeader::Checksum);
        }
        let (version, identity) = body.split_at(4);
        let mut four = [0; 4];
        four.copy_from_slice(version);
        match u32::from_be_bytes(four) {
            FORMAT_VERSION => {}
            version => return Err(BadHeader::Version(version)),
        }
        let mut header = Self { identity: [0; 16] };
        header.identity.copy_from_slice(identity);
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written_and_any_flipped_bit_is_found() {
        let header = Header {
            identity: *b"0123456789abcdef",
        };
        let bytes = header.to_bytes();
        assert_eq!(Header::parse(&bytes), Ok(header));
        for bit in 0..HEADER_LEN * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::parse(&flipped).is_err(), "bit {bit}");
        }
    }
}
