//! A transaction that is being made, and its record as far as it is written.

use std::collections::HashMap;

use bytes::Bytes;

use super::spool::Spool;
use crate::error::{StorageError, StorageResult};
use crate::format::{
    DATA_HEADER_LEN, DataHeader, TRANSACTION_HEADER_LEN, TransactionHeader, TransactionStatus,
};
use zrs_ids::{Oid, Tid};
use zrs_vfs::CommitGuard;

/// What a transaction says about itself.
#[derive(Clone, Debug)]
pub struct TransactionMeta {
    /// Its id.
    pub tid: Tid,
    /// The status that it will have when it is finished, a blank but for copies.
    pub status: u8,
    /// The user's name, as the application encoded it.
    pub user: Bytes,
    /// The description, as the application encoded it.
    pub description: Bytes,
    /// The pickle of the extension, empty if there is none.
    pub extension: Bytes,
}

/// A transaction between its beginning and its end; dropping it aborts it.
///
/// It holds the commit lock.
pub struct Transaction {
    pub(super) guard: CommitGuard,
    pub(super) tid: Tid,
    /// The status byte once it is finished.
    pub(super) status: u8,
    /// The header as it will be in the file, but for its length.
    header: TransactionHeader,
    /// Where in the file the record will begin.
    pub(super) start: u64,
    /// The record, from its header on.
    pub(super) spool: Spool,
    /// Where in the file the objects' records will be.
    pub(super) positions: HashMap<Oid, u64>,
    /// Where in the file the record ends, once it is there.
    pub(super) voted_end: Option<u64>,
}

/// The header of a transaction that says this about itself, as it is until it is finished
/// and without its length.
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
    /// A transaction without records, which will be at `start`.
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

    /// Where in the file the next record will be.
    pub(super) fn here(&self) -> u64 {
        self.start + self.spool.len()
    }

    /// Append a data record; returns where in the file it will be.
    ///
    /// `content` is the data, or the backpointer where `data_len` is 0.
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

    /// The data record that will be at `position`: its header and what follows.
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

    /// The length of the record as its header gives it; written there.
    pub(super) fn seal(&mut self) -> StorageResult<u64> {
        let length = self.spool.len();
        self.header.length = length;
        let head = self.head();
        self.spool.set_head(&head)?;
        Ok(length)
    }

    /// The header as it is in the file after the vote, once the length is known.
    pub(super) fn head(&self) -> [u8; TRANSACTION_HEADER_LEN] {
        self.header.to_bytes()
    }
}
