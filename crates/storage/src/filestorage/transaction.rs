//! A transaction that is being written, with the part of its record that exists.

use std::collections::HashMap;

use bytes::Bytes;

use super::spool::Spool;
use crate::error::{StorageError, StorageResult};
use crate::format::{
    DATA_HEADER_LEN, DataHeader, TRANSACTION_HEADER_LEN, TransactionHeader, TransactionStatus,
};
use zrs_ids::{Oid, Tid};
use zrs_vfs::CommitGuard;

/// A transaction's metadata.
#[derive(Clone, Debug)]
pub struct TransactionMeta {
    /// Its id.
    pub tid: Tid,
    /// The status after it is finished: a blank, except for copies.
    pub status: u8,
    /// The user's name, as the application encoded it.
    pub user: Bytes,
    /// The description, as the application encoded it.
    pub description: Bytes,
    /// The pickle of the extension; empty if it has none.
    pub extension: Bytes,
}

/// A transaction that has begun and is not finished; dropping it aborts it.
///
/// It holds the commit lock.
pub struct Transaction {
    pub(super) guard: CommitGuard,
    pub(super) tid: Tid,
    /// The final status byte.
    pub(super) status: u8,
    /// The header as it will be in the file, except for its length.
    header: TransactionHeader,
    /// Where in the file the record will begin.
    pub(super) start: u64,
    /// The record, from its header on.
    pub(super) spool: Spool,
    /// The positions that the objects' records will have in the file.
    pub(super) positions: HashMap<Oid, u64>,
    /// The position in the file where the voted record ends.
    pub(super) voted_end: Option<u64>,
}

/// The header of a transaction with these metadata, with the status of a vote and without its
/// length.
///
/// # Errors
/// [`StorageError::FieldTooLong`].
pub(super) fn header_of(meta: &TransactionMeta) -> StorageResult<TransactionHeader> {
    let len = |field: &Bytes, complaint| {
        let len = u16::try_from(field.len()).ok();
        len.ok_or(StorageError::FieldTooLong(complaint))
    };
    Ok(TransactionHeader {
        tid: meta.tid,
        length: 0,
        status: TransactionStatus::Voted,
        user_len: len(&meta.user, "user name too long")?,
        description_len: len(&meta.description, "description too long")?,
        extension_len: len(&meta.extension, "too much extension data")?,
    })
}

impl Transaction {
    /// A transaction without records, which will begin at `start`.
    ///
    /// # Errors
    /// [`StorageError::FieldTooLong`].
    pub(super) fn new(
        guard: CommitGuard,
        meta: &TransactionMeta,
        start: u64,
        mut spool: Spool,
    ) -> StorageResult<Self> {
        let header = header_of(meta)?;
        spool.append(&[
            &header.to_bytes(),
            &meta.user,
            &meta.description,
            &meta.extension,
        ])?;
        Ok(Self {
            guard,
            tid: meta.tid,
            status: meta.status,
            header,
            start,
            spool,
            positions: HashMap::new(),
            voted_end: None,
        })
    }

    /// The transaction's id.
    pub fn tid(&self) -> Tid {
        self.tid
    }

    /// The position that the next record will have in the file.
    pub(super) fn here(&self) -> u64 {
        self.start + self.spool.len()
    }

    /// Append a data record; returns the position that it will have in the file.
    ///
    /// `content` is the data, or the backpointer if `data_len` is 0.
    pub(super) fn append(
        &mut self,
        oid: Oid,
        tid: Tid,
        prev: u64,
        data_len: u64,
        content: &[u8],
    ) -> StorageResult<u64> {
        let here = self.here();
        let tloc = self.start;
        let header = DataHeader {
            oid,
            tid,
            prev,
            tloc,
            data_len,
        };
        self.spool.append(&[&header.to_bytes(), content])?;
        Ok(here)
    }

    /// The data record that will be at `position`: its header and the bytes after it.
    pub(super) fn own_record(&self, position: u64) -> StorageResult<Option<(DataHeader, Bytes)>> {
        let Some(offset) = position.checked_sub(self.start) else {
            return Ok(None);
        };
        let mut head = [0; DATA_HEADER_LEN];
        if self.spool.read_at_most(&mut head, offset)? < head.len() {
            return Ok(None);
        }
        let Ok(header) = DataHeader::parse(&head) else {
            return Ok(None);
        };
        let Ok(end) = header.end(offset, self.spool.len()) else {
            return Ok(None);
        };
        let content = offset + DATA_HEADER_LEN as u64;
        let mut bytes = vec![0; usize::try_from(end - content).unwrap_or_default()];
        self.spool.read_at_most(&mut bytes, content)?;
        Ok(Some((header, bytes.into())))
    }

    /// Write the length of the record into its header; returns the length.
    pub(super) fn seal(&mut self) -> StorageResult<u64> {
        let length = self.spool.len();
        self.header.length = length;
        let head = self.head();
        self.spool.set_head(&head)?;
        Ok(length)
    }

    /// The header as it is in the file after the vote, with its length.
    pub(super) fn head(&self) -> [u8; TRANSACTION_HEADER_LEN] {
        self.header.to_bytes()
    }
}
