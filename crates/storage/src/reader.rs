//! Reads transaction records at given positions.
//!
//! A [`Reader`] reads ahead through a window of fixed size, which consecutive transactions share.
//! Unfinished transactions are never taken from the window, since their writer may cut them off
//! and write others in their place.

use bytes::Bytes;

use super::file::DataFile;
use super::window::Window;
use crate::error::StorageResult;
use crate::format::txn::STATUS_AT;
use crate::format::{
    Corruption, REDUNDANT_LENGTH_LEN, TRANSACTION_HEADER_LEN, TransactionHeader, TransactionStatus,
};
use zrs_ids::Tid;

/// The number of bytes that a reader reads ahead.
pub(crate) const READ_AHEAD: usize = 512 * 1024;

/// The head of a finished transaction.
#[derive(Clone)]
pub struct TransactionRecord {
    /// Where the record begins.
    pub position: u64,
    /// The record's length in its header, which excludes the length at its end.
    pub length: u64,
    /// The transaction's id.
    pub tid: Tid,
    /// Never [`TransactionStatus::Voted`].
    pub status: TransactionStatus,
    /// The user's name, as the application encoded it.
    pub user: Bytes,
    /// The description, as the application encoded it.
    pub description: Bytes,
    /// The pickle of the extension; empty for a transaction without an extension.
    pub extension: Bytes,
    file: DataFile,
}

impl TransactionRecord {
    /// Where the record ends and the next one begins.
    pub fn end(&self) -> u64 {
        self.data_end() + REDUNDANT_LENGTH_LEN as u64
    }

    /// The file that has the record.
    pub fn file(&self) -> &DataFile {
        &self.file
    }

    /// Where the data records begin.
    pub(super) fn data_start(&self) -> u64 {
        let strings = self.user.len() + self.description.len() + self.extension.len();
        self.position + TRANSACTION_HEADER_LEN as u64 + strings as u64
    }

    /// Where the data records end.
    pub(super) fn data_end(&self) -> u64 {
        self.position + self.length
    }
}

/// Reads transactions of one file, reading ahead.
pub struct Reader {
    pub(super) file: DataFile,
    pub(super) window: Window,
    pub(super) read_ahead: usize,
}

impl Reader {
    /// A reader of `file`. Does not read yet.
    pub fn new(file: DataFile) -> Self {
        Self::with_read_ahead(file, READ_AHEAD)
    }

    /// A reader that reads `read_ahead` bytes at once, or more for a larger structure.
    pub(crate) fn with_read_ahead(file: DataFile, read_ahead: usize) -> Self {
        let window = Window::new();
        Self {
            file,
            window,
            read_ahead,
        }
    }

    /// The file.
    pub fn file(&self) -> &DataFile {
        &self.file
    }

    /// Releases the window's memory until the next read.
    pub(super) fn release_memory(&mut self) {
        self.window = Window::new();
    }

    /// The finished transaction at `position`, or `None` if it does not exist yet.
    ///
    /// [`Corrupt`](crate::error::StorageError::Corrupt) if the bytes there can never become a
    /// transaction later than `previous`, the one before it.
    pub fn transaction(
        &mut self,
        position: u64,
        previous: Tid,
    ) -> StorageResult<Option<TransactionRecord>> {
        if self.window.get(position, TRANSACTION_HEADER_LEN).is_some() {
            if let Ok(Some(record)) = self.parse(position, previous) {
                return Ok(Some(record));
            }
        }
        // The window may be older than the file's current contents.
        self.window.clear();
        let record = self.parse(position, previous);
        if !matches!(record, Ok(Some(_))) {
            self.window.clear();
        }
        record
    }

    /// Whether the transaction at `position` is in memory with all its records, so that reading
    /// it needs no system call.
    pub(super) fn holds_transaction(&self, position: u64) -> bool {
        let header = self.window.get_array::<TRANSACTION_HEADER_LEN>(position);
        let header = header.and_then(|bytes| TransactionHeader::parse(&bytes).ok());
        let end = header.and_then(|header| header.end(position).ok());
        let len = end.and_then(|end| usize::try_from(end - position).ok());
        // The end of the file may have another transaction by now.
        len.is_some_and(|len| self.window.get(position, len).is_some()) && !self.window.is_at_end()
    }

    fn parse(&mut self, position: u64, previous: Tid) -> StorageResult<Option<TransactionRecord>> {
        let Some(bytes) = self.array::<TRANSACTION_HEADER_LEN>(position)? else {
            return Ok(None);
        };
        if bytes[STATUS_AT] == TransactionStatus::Voted.as_byte() {
            return Ok(None);
        }
        let corrupt = |file: &DataFile, corruption| file.corrupt(position, corruption);
        let header = TransactionHeader::parse(&bytes).map_err(|e| corrupt(&self.file, e))?;
        let end = header.end(position).map_err(|e| corrupt(&self.file, e))?;
        let Some(redundant) = self.redundant_length(&bytes, position, end)? else {
            return Ok(None);
        };
        if header.tid <= previous {
            let found = header.tid;
            let corruption = Corruption::TidOrder { found, previous };
            return Err(corrupt(&self.file, corruption));
        }
        header
            .check_redundant_length(redundant)
            .map_err(|e| corrupt(&self.file, e))?;
        self.finished(position, &header).map(Some)
    }

    /// The length at the end of a transaction, or `None` if it is not written yet or the header
    /// has changed in the meantime.
    fn redundant_length(
        &mut self,
        header: &[u8; TRANSACTION_HEADER_LEN],
        position: u64,
        end: u64,
    ) -> StorageResult<Option<u64>> {
        let redundant_at = end - REDUNDANT_LENGTH_LEN as u64;
        let in_window = self.window.get_array(redundant_at);
        // If a transaction is cut off while another one is written and finished in its place, a
        // read may return the id of the first and the status of the second. This can only affect
        // the last transaction of the file: a finished header does not change.
        if (in_window.is_none() || self.window.is_at_end())
            && self.file.read_array(position)?.as_ref() != Some(header)
        {
            return Ok(None);
        }
        let bytes = match in_window {
            Some(bytes) => Some(bytes),
            None => self.file.read_array(redundant_at)?,
        };
        Ok(bytes.map(u64::from_be_bytes))
    }

    fn finished(
        &mut self,
        position: u64,
        header: &TransactionHeader,
    ) -> StorageResult<TransactionRecord> {
        let user = TRANSACTION_HEADER_LEN;
        let description = user + usize::from(header.user_len);
        let extension = description + usize::from(header.description_len);
        let end = extension + usize::from(header.extension_len);
        let Some(bytes) = self.bytes(position, end)? else {
            return Err(self.file.truncated(position)?);
        };
        let bytes = Bytes::copy_from_slice(bytes);
        Ok(TransactionRecord {
            position,
            length: header.length,
            tid: header.tid,
            status: header.status,
            user: bytes.slice(user..description),
            description: bytes.slice(description..extension),
            extension: bytes.slice(extension..end),
            file: self.file.clone(),
        })
    }

    /// The `len` bytes at `position`, through the window; `None` if the file ends before their
    /// end.
    pub(super) fn bytes(&mut self, position: u64, len: usize) -> StorageResult<Option<&[u8]>> {
        if self.window.get(position, len).is_none() {
            let len = self.read_ahead.max(len);
            self.window.fill(&self.file, position, len)?;
        }
        Ok(self.window.get(position, len))
    }

    /// The `N` bytes at `position`, through the window; `None` if the file ends before their end.
    pub(super) fn array<const N: usize>(
        &mut self,
        position: u64,
    ) -> StorageResult<Option<[u8; N]>> {
        let bytes = self.bytes(position, N)?;
        Ok(bytes.and_then(|bytes| bytes.try_into().ok()))
    }
}
