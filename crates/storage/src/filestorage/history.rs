//! Reading the history: revisions of an object, and transactions that can be undone.

use bytes::Bytes;

use super::FileStorage;
use super::state::Snapshot;
use crate::error::{StorageError, StorageResult, UndoFailure};
use crate::format::{
    FIRST_TRANSACTION, REDUNDANT_LENGTH_LEN, TRANSACTION_HEADER_LEN, TransactionHeader,
    TransactionStatus,
};
use crate::window::Window;
use zrs_ids::{Oid, Tid};

/// The number of bytes to read at once when walking back.
const READ_BEHIND: usize = 64 * 1024;
/// A transaction that ends at or before this offset cannot be undone; one that ends exactly here
/// is listed all the same.
const LEAST_END: u64 = 39;

/// A revision of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The transaction that wrote it.
    pub tid: Tid,
    /// The length of its data, 0 if it has a backpointer.
    pub data_len: u64,
    /// The transaction's user.
    pub user: Bytes,
    /// The transaction's description.
    pub description: Bytes,
    /// The transaction's extension.
    pub extension: Bytes,
}

/// A transaction in the list of those that can be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedTransaction {
    /// The transaction.
    pub tid: Tid,
    /// The length of its record without the length at its end.
    pub length: u64,
    /// Its user.
    pub user: Bytes,
    /// Its description.
    pub description: Bytes,
    /// Its extension.
    pub extension: Bytes,
}

impl FileStorage {
    /// At most `count` revisions of an object, going back from the position `from`, and the
    /// position at which to continue. Without `from`, begins with the current revision.
    pub fn history(
        &self,
        oid: Oid,
        from: Option<u64>,
        count: usize,
    ) -> StorageResult<(Vec<Revision>, Option<u64>)> {
        let (snapshot, current) = self.look_up(oid)?;
        let mut next = Some(from.unwrap_or(current));
        let mut revisions = Vec::new();
        while let Some(position) = next.filter(|_| revisions.len() < count) {
            let record = snapshot.record(oid, position)?;
            let header = snapshot.transaction_header(record.header.tloc)?;
            let (user, description, extension) = snapshot.strings(record.header.tloc, &header)?;
            revisions.push(Revision {
                tid: record.header.tid,
                data_len: record.header.data_len,
                user,
                description,
                extension,
            });
            next = snapshot.previous(&record)?.map(|record| record.position);
        }
        Ok((revisions, next))
    }

    /// At most `count` finished transactions that end at or before `from`, latest first, and the
    /// position at which to continue; `None` at the time of a pack or at the beginning of the
    /// file. Without `from`, begins with the last transaction.
    ///
    /// # Errors
    /// [`UndoFailure::Packing`] while a pack is running.
    pub fn undo_log(
        &self,
        from: Option<u64>,
        count: usize,
    ) -> StorageResult<(Vec<LoggedTransaction>, Option<u64>)> {
        if self.is_packing() {
            return Err(StorageError::Undo(UndoFailure::Packing));
        }
        let snapshot = self.snapshot()?;
        let mut walk = Walk::new(&snapshot, from.unwrap_or(snapshot.end));
        walk.least_end = LEAST_END - 1;
        let mut found = Vec::new();
        while found.len() < count {
            let Some((position, header)) = walk.step()? else {
                return Ok((found, None));
            };
            match header.status {
                TransactionStatus::Packed => return Ok((found, None)),
                TransactionStatus::Complete => {}
                TransactionStatus::Voted | TransactionStatus::Undone => continue,
            }
            let (user, description, extension) = walk.strings(position, &header)?;
            found.push(LoggedTransaction {
                tid: header.tid,
                length: header.length,
                user,
                description,
                extension,
            });
        }
        Ok((found, Some(walk.position)))
    }

    /// The last `count` transactions, oldest first, each with the objects that it wrote.
    pub fn last_invalidations(&self, count: usize) -> StorageResult<Vec<(Tid, Vec<Oid>)>> {
        let snapshot = self.snapshot()?;
        let mut walk = Walk::new(&snapshot, snapshot.end);
        walk.least_end = FIRST_TRANSACTION;
        let mut found = Vec::new();
        while found.len() < count {
            let Some((position, header)) = walk.step()? else {
                break;
            };
            let headers = snapshot.data_headers(position)?;
            let oids = headers.iter().map(|(_, header)| header.oid).collect();
            found.push((header.tid, oids));
        }
        found.reverse();
        Ok(found)
    }

    /// The position of the transaction `tid`; with `stop_at_pack`, only of one that no pack has
    /// copied.
    pub fn find_transaction(&self, tid: Tid, stop_at_pack: bool) -> StorageResult<Option<u64>> {
        self.snapshot()?.find_transaction(tid, stop_at_pack)
    }
}

impl Snapshot {
    /// Like [`FileStorage::find_transaction`].
    pub(super) fn find_transaction(
        &self,
        tid: Tid,
        stop_at_pack: bool,
    ) -> StorageResult<Option<u64>> {
        let mut walk = Walk::new(self, self.end);
        while let Some((position, header)) = walk.step()? {
            if header.tid == tid {
                return Ok(Some(position));
            }
            if header.tid < tid || (stop_at_pack && header.status == TransactionStatus::Packed) {
                break;
            }
        }
        Ok(None)
    }

    /// The user, description and extension of the transaction at `position`.
    fn strings(
        &self,
        position: u64,
        header: &TransactionHeader,
    ) -> StorageResult<(Bytes, Bytes, Bytes)> {
        let len = usize::try_from(header.full_len()).unwrap_or(usize::MAX);
        let start = position + TRANSACTION_HEADER_LEN as u64;
        let bytes = self
            .file
            .read_bytes(start, len.saturating_sub(TRANSACTION_HEADER_LEN))?;
        Ok(split(bytes, header))
    }
}

fn split(mut bytes: Bytes, header: &TransactionHeader) -> (Bytes, Bytes, Bytes) {
    let user = bytes.split_to(usize::from(header.user_len));
    let description = bytes.split_to(usize::from(header.description_len));
    (user, description, bytes)
}

/// Walks back over finished transactions.
struct Walk<'snapshot> {
    snapshot: &'snapshot Snapshot,
    window: Window,
    /// Where the next transaction of the walk ends.
    position: u64,
    least_end: u64,
}

impl<'snapshot> Walk<'snapshot> {
    fn new(snapshot: &'snapshot Snapshot, position: u64) -> Self {
        Self {
            snapshot,
            window: Window::new(),
            position: position.min(snapshot.end),
            least_end: LEAST_END,
        }
    }

    /// The next transaction: its position and header.
    fn step(&mut self) -> StorageResult<Option<(u64, TransactionHeader)>> {
        if self.position <= self.least_end {
            return Ok(None);
        }
        let redundant_at = self.position - REDUNDANT_LENGTH_LEN as u64;
        let length = u64::from_be_bytes(self.bytes(redundant_at)?);
        let Some(position) = redundant_at.checked_sub(length) else {
            return Err(self.nothing_ends(length));
        };
        if position < FIRST_TRANSACTION {
            return Err(self.nothing_ends(length));
        }
        let bytes = self.bytes::<TRANSACTION_HEADER_LEN>(position)?;
        let header = TransactionHeader::parse(&bytes)
            .map_err(|corruption| self.snapshot.file.corrupt(position, corruption))?;
        if header.length != length {
            return Err(self.nothing_ends(length));
        }
        self.position = position;
        Ok(Some((position, header)))
    }

    fn nothing_ends(&self, length: u64) -> StorageError {
        let corruption = crate::format::Corruption::NoTransactionEnds { length };
        self.snapshot.file.corrupt(self.position, corruption)
    }

    fn strings(
        &mut self,
        position: u64,
        header: &TransactionHeader,
    ) -> StorageResult<(Bytes, Bytes, Bytes)> {
        let len = usize::try_from(header.full_len()).unwrap_or(usize::MAX);
        match self.window.get(position, len) {
            Some(bytes) => {
                let bytes = Bytes::copy_from_slice(&bytes[TRANSACTION_HEADER_LEN..]);
                Ok(split(bytes, header))
            }
            None => self.snapshot.strings(position, header),
        }
    }

    /// The `N` bytes at `position`, read together with the bytes before them.
    fn bytes<const N: usize>(&mut self, position: u64) -> StorageResult<[u8; N]> {
        if let Some(bytes) = self.window.get_array(position) {
            return Ok(bytes);
        }
        let end = position + N as u64;
        let start = end.saturating_sub(READ_BEHIND as u64);
        let len = usize::try_from(end - start).unwrap_or(READ_BEHIND);
        self.window.fill(&self.snapshot.file, start, len)?;
        match self.window.get_array(position) {
            Some(bytes) => Ok(bytes),
            None => Err(self.snapshot.file.truncated(position)?),
        }
    }
}
