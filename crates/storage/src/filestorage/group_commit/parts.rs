//! Bytes to be written after the committed end, in pieces.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::file::DataFile;

/// Size at which a copied piece is closed.
const PIECE: usize = 1 << 20;
/// The number of pieces to keep, so that their memory need not be allocated again.
const SPARE: usize = 8;

/// Consecutive bytes of a file that are not written yet.
#[derive(Default)]
pub(super) struct Parts {
    /// The position of the first byte in the file.
    start: u64,
    len: u64,
    pieces: VecDeque<Part>,
    spare: Vec<Vec<u8>>,
}

enum Part {
    Own(Vec<u8>),
    Shared(Bytes),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Parts {
    /// Begin at another position; the parts must be empty.
    pub(super) fn begin(&mut self, start: u64) {
        self.truncate(self.start);
        self.start = start;
    }

    /// The position of the first byte.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The position of the next byte.
    pub(super) fn end(&self) -> u64 {
        self.start + self.len
    }

    /// The number of bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Append a copy of these bytes, in one piece.
    pub(super) fn append(&mut self, bytes: &[&[u8]]) {
        let open = matches!(self.pieces.back(), Some(Part::Own(own)) if own.len() < PIECE);
        if !open {
            let piece = self.spare.pop().unwrap_or_default();
            self.pieces.push_back(Part::Own(piece));
        }
        if let Some(Part::Own(piece)) = self.pieces.back_mut() {
            for bytes in bytes {
                piece.extend_from_slice(bytes);
                self.len += bytes.len() as u64;
            }
        }
    }

    /// Append these bytes without copying them.
    pub(super) fn append_shared(&mut self, bytes: Bytes) {
        self.len += bytes.len() as u64;
        self.pieces.push_back(Part::Shared(bytes));
    }

    /// Overwrite the bytes at `position`, which [`Self::append`] appended in one piece; `false`
    /// if they are no longer in memory.
    pub(super) fn set(&mut self, position: u64, bytes: &[u8]) -> bool {
        match self.own_at(position, bytes.len()) {
            Some(own) => {
                own.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    /// Fill `bytes` with those appended in one piece at `position`; `false` if they are no longer
    /// in memory.
    pub(super) fn get(&mut self, position: u64, bytes: &mut [u8]) -> bool {
        match self.own_at(position, bytes.len()) {
            Some(own) => {
                bytes.copy_from_slice(own);
                true
            }
            None => false,
        }
    }

    fn own_at(&mut self, position: u64, len: usize) -> Option<&mut [u8]> {
        let mut offset = position.checked_sub(self.start)?;
        for part in &mut self.pieces {
            let part_len = part.bytes().len() as u64;
            if offset >= part_len {
                offset -= part_len;
                continue;
            }
            let Part::Own(own) = part else {
                return None;
            };
            let at = usize::try_from(offset).ok()?;
            return own.get_mut(at..)?.get_mut(..len);
        }
        None
    }

    /// Discard the bytes from `position` on.
    pub(super) fn truncate(&mut self, position: u64) {
        let kept = position.saturating_sub(self.start);
        while self.len > kept {
            let Some(mut part) = self.pieces.pop_back() else {
                self.len = 0;
                return;
            };
            let len = part.bytes().len() as u64;
            if self.len - len >= kept {
                self.len -= len;
                self.keep(part);
                continue;
            }
            let left = usize::try_from(kept + len - self.len).unwrap_or(usize::MAX);
            match &mut part {
                Part::Own(own) => own.truncate(left),
                Part::Shared(bytes) => bytes.truncate(left),
            }
            self.len = kept;
            self.pieces.push_back(part);
        }
    }

    /// Write everything, followed by `padding`, and continue after the written bytes.
    ///
    /// The last piece is written first, so that the file has its full length from then on: parts
    /// that are missing because the disk is full or after a crash are zeros. After an error
    /// everything is still in memory.
    pub(super) fn write(&mut self, file: &DataFile, padding: &[u8]) -> std::io::Result<()> {
        if self.len == 0 {
            return Ok(());
        }
        let mut position = self.end();
        if !padding.is_empty() {
            file.handle().write_all_at(padding, position)?;
        }
        for part in self.pieces.iter().rev() {
            position -= part.bytes().len() as u64;
            file.handle().write_all_at(part.bytes(), position)?;
        }
        let end = self.end();
        while let Some(part) = self.pieces.pop_front() {
            self.keep(part);
        }
        (self.start, self.len) = (end, 0);
        Ok(())
    }

    fn keep(&mut self, part: Part) {
        if let Part::Own(mut own) = part {
            if self.spare.len() < SPARE {
                own.clear();
                self.spare.push(own);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use zrs_vfs::Vfs as _;
    use zrs_vfs::sim::{Change, SimVfs};

    const PATH: &str = "file";

    #[test]
    fn pieces_are_changed_cut_and_written_in_their_place() {
        let vfs = SimVfs::new(0);
        let path: Arc<Path> = Path::new(PATH).into();
        let file = DataFile::new(vfs.create(&path).unwrap(), &path);
        file.handle().write_all_at(b"0123", 0).unwrap();
        let mut parts = Parts::default();
        parts.begin(4);
        parts.append(&[b"he", b"ad"]);
        parts.append_shared(Bytes::from_static(b"shared"));
        parts.append(&[b"tail"]);
        assert_eq!((parts.start(), parts.end(), parts.len()), (4, 18, 14));
        assert!(parts.set(4, b"HE"));
        assert!(parts.set(15, b"AI"));
        assert!(!parts.set(9, b"x"), "shared bytes");
        assert!(!parts.set(2, b"x"), "before the start");
        parts.truncate(16);
        parts.write(&file, b"..").unwrap();
        assert_eq!(vfs.content(PATH).unwrap(), b"0123HEadsharedtA..");
        let writes = vfs.log().into_iter().filter_map(|change| match change {
            Change::Write { offset, .. } => Some(offset),
            _ => None,
        });
        assert_eq!(
            writes.collect::<Vec<_>>(),
            [0, 16, 14, 8, 4],
            "the last piece is written first"
        );
        assert_eq!((parts.start(), parts.len()), (16, 0));
        parts.append_shared(Bytes::from_static(b"more"));
        parts.truncate(18);
        parts.write(&file, b"-").unwrap();
        assert_eq!(vfs.content(PATH).unwrap(), b"0123HEadsharedtAmo-");
        parts.append(&[b"gone"]);
        parts.truncate(0);
        assert_eq!((parts.start(), parts.end()), (18, 18));
    }
}
