//! The header of a list: the file to which it belongs, and the range for which it is complete.

use std::io;

use md5::{Digest as _, Md5};

use super::super::file::DataFile;
use super::super::seek::transaction_before;
use super::tids::{TID_LEN, number};
use crate::error::StorageResult;
use crate::format::{FIRST_TRANSACTION, TransactionStatus};
use zrs_ids::Tid;
use zrs_vfs::VfsFile;

const MAGIC: [u8; 8] = *b"zrsdrop1";
const BINDING_LEN: usize = 4 * TID_LEN;
const CHECKED_LEN: usize = MAGIC.len() + 2 * BINDING_LEN + TID_LEN;
const DIGEST_LEN: usize = 16;
pub(super) const HEADER_LEN: usize = CHECKED_LEN + DIGEST_LEN;

/// Ties a list to one file, with the transaction after which it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    /// The kind of the transaction that ends at `end`.
    pub(super) kind: Kind,
    /// The position up to which the list is valid; 0 if none exists, and then no file matches.
    pub(super) end: u64,
    /// The transaction that ends there.
    pub(super) last: Tid,
    /// The list has each dropped transaction that is later than this one; all ones if no list
    /// existed.
    pub(super) complete_after: Tid,
}

/// The kind of the transaction at which a binding ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The last of the marked transactions at the beginning of the file: a pack wrote the list.
    Packed,
    /// Any transaction: a secondary has received the list up to it.
    Received,
}

impl Binding {
    pub(super) fn matches(&self, file: &DataFile) -> StorageResult<bool> {
        if self.end < FIRST_TRANSACTION {
            return Ok(false);
        }
        let found = transaction_before(file, self.end)?;
        Ok(found.is_some_and(|header| {
            let is_packed = header.status == TransactionStatus::Packed;
            header.tid == self.last && (is_packed || self.kind == Kind::Received)
        }))
    }

    /// The binding of an earlier file that does not exist.
    pub(super) const NONE: Self = Self {
        kind: Kind::Packed,
        end: 0,
        last: Tid::ZERO,
        complete_after: Tid::MAX,
    };

    fn to_bytes(self) -> [u8; BINDING_LEN] {
        let mut bytes = [0; BINDING_LEN];
        let kind: u64 = match self.kind {
            Kind::Packed => 1,
            Kind::Received => 2,
        };
        bytes[..8].copy_from_slice(&kind.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.end.to_be_bytes());
        bytes[16..24].copy_from_slice(self.last.as_bytes());
        bytes[24..].copy_from_slice(self.complete_after.as_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            kind: match number(bytes, 0) {
                2 => Kind::Received,
                _ => Kind::Packed,
            },
            end: number(bytes, 1),
            last: Tid::from_u64(number(bytes, 2)),
            complete_after: Tid::from_u64(number(bytes, 3)),
        }
    }
}

/// The bytes of a list before its tids.
pub(super) fn header(bindings: [Binding; 2], count: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for binding in bindings {
        bytes.extend_from_slice(&binding.to_bytes());
    }
    bytes.extend_from_slice(&count.to_be_bytes());
    let digest = Md5::digest(&bytes);
    bytes.extend_from_slice(&digest);
    bytes
}

/// The bindings, and the number of tids that follow.
pub(super) fn read_header(file: &dyn VfsFile) -> io::Result<([Binding; 2], u64)> {
    let damaged = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    let mut bytes = [0; HEADER_LEN];
    if file.read_full_at(&mut bytes, 0)? < HEADER_LEN || bytes[..MAGIC.len()] != MAGIC {
        return damaged("not a list of dropped transactions");
    }
    let (checked, digest) = bytes.split_at(CHECKED_LEN);
    if digest[..] != Md5::digest(checked)[..] {
        return damaged("the header of the list of dropped transactions is damaged");
    }
    let rest = &checked[MAGIC.len()..];
    let count = number(rest, 2 * BINDING_LEN / TID_LEN);
    let len = count
        .checked_mul(TID_LEN as u64)
        .and_then(|len| len.checked_add(HEADER_LEN as u64));
    if len != Some(file.metadata()?.len) {
        return damaged("the list of dropped transactions does not have the length in its header");
    }
    let bindings = [
        Binding::from_bytes(&rest[..BINDING_LEN]),
        Binding::from_bytes(&rest[BINDING_LEN..]),
    ];
    Ok((bindings, count))
}
