//! Follows a `Data.fs` that a storage is writing, across its packs.
//!
//! A pack of ZODB's `FileStorage` writes a new file, renames the old one and then gives the new
//! one its path. The old file, still open here, is a valid history that receives no more
//! transactions; once its end is reached, reading continues in the new one.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::dropped::{Answer, DroppedList, DroppedTids, Gap};
use super::file::{DataFile, io_error};
use super::open_file::OpenFile;
use super::reader::{Reader, TransactionRecord};
use super::records::{DataRecord, DataRecords, RecordCursor, RestOfData};
use super::seek::{self, Forward, transaction_before};
use super::seek_hints::SeekHints;
use crate::error::StorageResult;
use crate::format::{
    Corruption, FIRST_TRANSACTION, TRANSACTION_HEADER_LEN, TransactionHeader, TransactionStatus,
};
use zrs_ids::Tid;
use zrs_vfs::{Metadata, Vfs};

/// The number of bytes that a tail reads ahead. Each connection of a secondary has a tail, so
/// this is less than other readers use; more would not make streams faster.
pub(super) const READ_AHEAD: usize = 16 * 1024;

/// A position in the history of a `Data.fs`, between two transactions.
pub struct Tail {
    vfs: Arc<dyn Vfs>,
    path: Arc<Path>,
    reader: Reader,
    /// Whether the file's magic was read and is correct.
    has_magic: bool,
    /// Where the next transaction begins.
    position: u64,
    /// The last transaction returned, or the one to start after.
    last: Tid,
    known_end: Option<u64>,
    seek_hints: Option<SeekHints>,
    /// The file that the storage has open; the tail continues only in that one.
    open_file: Option<OpenFile>,
    stop: Arc<AtomicBool>,
    /// Whether the path had no file when it was last checked.
    file_missing: bool,
    /// How often the tail has continued in another file.
    replaced: u64,
}

/// Where in the file's history the transaction is after which a tail starts.
#[derive(Clone)]
pub enum StartPosition {
    /// No transaction: the tail starts with the first one.
    Beginning,
    /// The transaction is in the file.
    Here(TransactionRecord),
    /// It is not in the file, but it was: a pack has listed it as dropped.
    Packed,
    /// It is not in the file, and a pack that did not write a list may have dropped it: the
    /// transaction before or after its place is marked as packed.
    Unverified,
    /// It never was in the history; the transaction before its place has this id.
    Unknown(Tid),
}

/// What follows at a tail's position.
enum Next {
    Ready(TransactionRecord),
    BeyondLimit,
    NotYet,
}

impl Tail {
    /// Open the file at `path`, to return the transactions after `start`.
    ///
    /// `known_end` is where a finished transaction is known to end; it shortens the search for a
    /// late `start`. It may be wrong, for example after a pack.
    ///
    /// # Errors
    /// Those of [`seek::position_after`], and
    /// [`UnknownMagic`](crate::error::StorageError::UnknownMagic). Between the two renames of a
    /// pack the file does not exist; a caller that knows that it should can try again.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        path: &Path,
        start: Tid,
        known_end: Option<u64>,
    ) -> StorageResult<Self> {
        let file = DataFile::open(&*vfs, &path.into())?;
        let has_magic = file.has_magic()?;
        let found = seek::position_after(&file, start, known_end, &|| false)?;
        let position = found.unwrap_or(FIRST_TRANSACTION);
        let stop = Arc::default();
        Ok(Self::at(vfs, file, has_magic, position, start, stop))
    }

    /// Like [`Self::open`], but leaves it to the caller to judge a start that is too high, for
    /// example with [`Self::start_position`]; setting `stop` ends long searches, now and after
    /// packs. `seek_hints` shorten searches in the middle of the file.
    ///
    /// Returns `None` if `stop` was set. A stopped tail returns nothing more after a pack.
    pub fn open_stoppable(
        vfs: Arc<dyn Vfs>,
        path: &Path,
        start: Tid,
        known_end: Option<u64>,
        seek_hints: Option<SeekHints>,
        stop: Arc<AtomicBool>,
    ) -> StorageResult<Option<Self>> {
        let file = DataFile::open(&*vfs, &path.into())?;
        let has_magic = file.has_magic()?;
        let stopped = || stop.load(Ordering::Relaxed);
        let known = seek_hints.as_ref();
        let found = seek::find_after(&file, start, known_end, known, &stopped)?;
        Ok(found.map(|found| Self {
            seek_hints,
            ..Self::at(vfs, file, has_magic, found.position, start, stop)
        }))
    }

    fn at(
        vfs: Arc<dyn Vfs>,
        file: DataFile,
        has_magic: bool,
        position: u64,
        last: Tid,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self {
            vfs,
            path: Arc::clone(file.path()),
            reader: Reader::with_read_ahead(file, READ_AHEAD),
            has_magic,
            position,
            last,
            known_end: None,
            seek_hints: None,
            open_file: None,
            stop,
            file_missing: false,
            replaced: 0,
        }
    }

    /// Continue only in the file that the storage has open. Returns whether this is it; `false`
    /// if a pack has just replaced it, so that it must be opened again.
    ///
    /// # Errors
    /// [`Displaced`](crate::error::StorageError::Displaced), here and later from [`Self::next`].
    pub fn keep_to(&mut self, open_file: OpenFile) -> StorageResult<bool> {
        let is_it = open_file.is(&*self.vfs, self.reader.file())?;
        self.open_file = Some(open_file);
        Ok(is_it)
    }

    /// Where in the file's history the transaction is after which this tail starts. Must be
    /// called before any transaction is returned.
    ///
    /// Packs list the transactions that they drop. If no list covers the transaction's place,
    /// marks decide: a pack marks each transaction up to its time that it keeps, so a gap that it
    /// made has at least one marked neighbour.
    ///
    /// # Errors
    /// [`Corrupt`](crate::error::StorageError::Corrupt) and
    /// [`Io`](crate::error::StorageError::Io).
    pub fn start_position(&mut self) -> StorageResult<StartPosition> {
        if self.last == Tid::ZERO {
            return Ok(StartPosition::Beginning);
        }
        let before = match seek::position_before(self.reader.file(), self.position)? {
            Some(position) => self.reader.transaction(position, Tid::ZERO)?,
            None => None,
        };
        let is_packed = |record: &TransactionRecord| record.status == TransactionStatus::Packed;
        let tid_before = before.as_ref().map_or(Tid::ZERO, |record| record.tid);
        let before_packed = before.as_ref().is_some_and(is_packed);
        if let Some(record) = before.filter(|record| record.tid == self.last) {
            return Ok(StartPosition::Here(record));
        }
        let after = self.reader.transaction(self.position, self.last)?;
        let after_packed = after.as_ref().is_some_and(is_packed);
        let dropped = DroppedList::of(&*self.vfs, &self.path, self.reader.file())?;
        let answer = match dropped {
            Some(dropped) => dropped.answer(self.last, self.position, after_packed)?,
            None => Answer::Uncovered,
        };
        Ok(match answer {
            Answer::Dropped => StartPosition::Packed,
            Answer::Uncovered if before_packed || after_packed => StartPosition::Unverified,
            Answer::Uncovered | Answer::Never => StartPosition::Unknown(tid_before),
        })
    }

    /// The next finished transaction, not later than `limit` if that is given, or `None` if it
    /// does not exist yet.
    ///
    /// `None` is also returned between the two renames of a pack; if `limit` promises a
    /// transaction, the caller tries again.
    /// # Errors
    /// [`Corrupt`](crate::error::StorageError::Corrupt) if the bytes can never become a
    /// transaction, if the file was cut off before the last transaction returned, or if a
    /// transaction that is not later than `limit` is not finished; another call returns the same
    /// error.
    pub fn next(&mut self, limit: Option<Tid>) -> StorageResult<Option<TransactionRecord>> {
        if limit.is_some_and(|limit| limit <= self.last) {
            return Ok(None);
        }
        match self.next_in_file(limit)? {
            Next::Ready(record) => return Ok(Some(record)),
            Next::BeyondLimit => return Ok(None),
            Next::NotYet => {}
        }
        let held = self.reader.file().metadata()?;
        let current = self.metadata_of_path()?;
        self.file_missing = current.is_none();
        match current {
            None => return Ok(None),
            Some(current) if current.identity == held.identity => {
                self.check_length(held)?;
                self.check_finished(held, limit)?;
                return Ok(None);
            }
            Some(_) => {}
        }
        // The path leads to another file, so this one is complete now; it may not have been
        // complete when it was read above.
        match self.next_in_file(limit)? {
            Next::Ready(record) => return Ok(Some(record)),
            Next::BeyondLimit => return Ok(None),
            Next::NotYet => {}
        }
        self.file_missing = !self.reopen()?;
        if self.file_missing {
            return Ok(None);
        }
        match self.next_in_file(limit)? {
            Next::Ready(record) => Ok(Some(record)),
            Next::BeyondLimit | Next::NotYet => Ok(None),
        }
    }

    /// The data records of a transaction that this tail returned, through its own window if the
    /// file is still the same.
    pub fn records(&mut self, transaction: &TransactionRecord) -> DataRecords<'_> {
        if transaction.file().is_same_handle(self.reader.file()) {
            DataRecords::shared(&mut self.reader, transaction)
        } else {
            transaction.records()
        }
    }

    /// The next record of the transaction returned last, after which the cursor moves on. At most
    /// `most` bytes of its data are read; [`Self::more_data`] returns the others. Call
    /// [`Self::next`] only after the last record, since it may continue in another file.
    ///
    /// # Errors
    /// [`Corrupt`](crate::error::StorageError::Corrupt) and
    /// [`Io`](crate::error::StorageError::Io).
    pub fn record(
        &mut self,
        cursor: &mut RecordCursor,
        most: usize,
    ) -> StorageResult<Option<(DataRecord, RestOfData)>> {
        self.reader.record_up_to(cursor, most)
    }

    /// The next bytes of the data of a record that [`Self::record`] has returned, at most `most`;
    /// `None` after the last.
    ///
    /// # Errors
    /// As for [`Self::record`].
    pub fn more_data(&self, rest: &mut RestOfData, most: usize) -> StorageResult<Option<Bytes>> {
        self.reader.more_data(rest, most)
    }

    /// Releases the memory for reading ahead until the next read.
    pub fn release_memory(&mut self) {
        self.reader.release_memory();
    }

    /// Whether the last `None` of [`Self::next`] was returned because the path had no file, as
    /// happens for a moment during a pack.
    pub fn is_file_missing(&self) -> bool {
        self.file_missing
    }

    /// Whether the file ends here. A transaction with a damaged length may otherwise look as if
    /// it were still being written.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn is_at_end(&self) -> StorageResult<bool> {
        let len = self.reader.file().metadata()?.len;
        Ok(len <= self.position)
    }

    /// The last transaction returned, or the one after which the tail started.
    pub fn last(&self) -> Tid {
        self.last
    }

    /// Where the next transaction begins, or will begin.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How often the tail has continued in another file that a pack has put in place.
    pub fn times_replaced(&self) -> u64 {
        self.replaced
    }

    /// The transactions later than `after` that packs have dropped from the current file.
    ///
    /// # Errors
    /// Those of reading the file and its list.
    pub fn dropped_after(&self, after: Tid) -> StorageResult<DroppedTids> {
        DroppedTids::of(&*self.vfs, &self.path, self.reader.file(), after)
    }

    /// Whether the transaction that ends at `position` of the current file is marked as packed.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn is_packed_before(&self, position: u64) -> StorageResult<bool> {
        let found = transaction_before(self.reader.file(), position)?;
        Ok(found.is_some_and(|header| header.status == TransactionStatus::Packed))
    }

    /// The position after the transaction `tid` in the current file, or where it would be, for
    /// [`Self::walk`]. `None` if the tail was stopped.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn place_after(&self, tid: Tid) -> StorageResult<Option<u64>> {
        let stopped = || self.stop.load(Ordering::Relaxed);
        let (file, known) = (self.reader.file(), self.seek_hints.as_ref());
        let found = seek::find_after(file, tid, self.known_end, known, &stopped)?;
        Ok(found.map(|found| found.position))
    }

    /// Walks over the transactions of the current file from `position` on: calls `visit` with
    /// their ids and the gaps before them until it returns false. Returns where the first
    /// transaction begins for which it was not called.
    ///
    /// # Errors
    /// Those of reading the file, and those of `visit`.
    pub fn walk(
        &self,
        position: u64,
        mut visit: impl FnMut(Tid, Gap) -> StorageResult<bool>,
    ) -> StorageResult<u64> {
        let mut walk = Forward::new(self.reader.file(), position, Tid::ZERO);
        let mut after_packed = self.is_packed_before(position)?;
        loop {
            let at = walk.position();
            let Some(header) = walk.header()? else {
                return Ok(at);
            };
            let before_packed = header.status == TransactionStatus::Packed;
            let gap = Gap {
                position: at,
                after_packed,
                before_packed,
            };
            if !visit(header.tid, gap)? {
                return Ok(at);
            }
            after_packed = before_packed;
        }
    }

    /// Set where a finished transaction ends now, to shorten the search after a pack.
    pub fn set_known_end(&mut self, end: u64) {
        self.known_end = Some(end);
    }

    fn next_in_file(&mut self, limit: Option<Tid>) -> StorageResult<Next> {
        if !self.has_magic {
            self.has_magic = self.reader.file().has_magic()?;
            if !self.has_magic {
                return Ok(Next::NotYet);
            }
        }
        let Some(record) = self.reader.transaction(self.position, self.last)? else {
            return Ok(Next::NotYet);
        };
        if limit.is_some_and(|limit| record.tid > limit) {
            return Ok(Next::BeyondLimit);
        }
        self.position = record.end();
        self.last = record.tid;
        Ok(Next::Ready(record))
    }

    /// The transactions up to `limit` are finished. If one of them looks as if it were being
    /// written, because its length leads beyond the end of the file, it is damaged.
    fn check_finished(&self, held: Metadata, limit: Option<Tid>) -> StorageResult<()> {
        let file = self.reader.file();
        let bytes = file.read_array::<TRANSACTION_HEADER_LEN>(self.position)?;
        let (Some(bytes), Some(limit)) = (bytes, limit) else {
            return Ok(());
        };
        let corrupt = |corruption| file.corrupt(self.position, corruption);
        let header = TransactionHeader::parse(&bytes).map_err(corrupt)?;
        if header.tid <= self.last || header.tid > limit {
            return Ok(());
        }
        if header.status == TransactionStatus::Voted {
            let found = header.status.as_byte();
            return Err(corrupt(Corruption::Status { found }));
        }
        let length = held.len;
        if header.end(self.position).map_err(corrupt)? > length {
            return Err(corrupt(Corruption::Truncated { length }));
        }
        Ok(())
    }

    /// Committed transactions are never cut off, only the bytes after them.
    fn check_length(&self, held: Metadata) -> StorageResult<()> {
        if self.position > FIRST_TRANSACTION && held.len < self.position {
            return Err(self.reader.file().truncated(self.position)?);
        }
        Ok(())
    }

    /// The metadata of the file at the path; `None` if it does not exist.
    fn metadata_of_path(&self) -> StorageResult<Option<Metadata>> {
        match self.vfs.metadata(&self.path) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error(&self.path, error)),
        }
    }

    /// Continue in the file that is at the path now; `false` if that is not possible yet.
    ///
    /// A pack may have dropped the last transaction returned, and even all that are later than
    /// some earlier one: then its place is where the next one will be.
    fn reopen(&mut self) -> StorageResult<bool> {
        let file = match self.vfs.open_read(&self.path) {
            Ok(file) => DataFile::new(file, &self.path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(io_error(&self.path, error)),
        };
        if let Some(open_file) = &self.open_file {
            if !open_file.is(&*self.vfs, &file)? {
                return Ok(false);
            }
        }
        if !file.has_magic()? {
            return Ok(false);
        }
        let stopped = || self.stop.load(Ordering::Relaxed);
        let known = self.seek_hints.as_ref();
        let found = seek::find_after(&file, self.last, self.known_end, known, &stopped)?;
        let Some(found) = found else {
            return Ok(false);
        };
        log::debug!(
            "{}: replaced; continuing at {} after {}",
            self.path.display(),
            found.position,
            self.last
        );
        self.reader = Reader::with_read_ahead(file, READ_AHEAD);
        self.position = found.position;
        self.replaced += 1;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
