//! Finds where the transactions after a given one begin.
//!
//! A `Data.fs` has no index of transactions. A search walks forward from the beginning of the
//! file, using the lengths in the headers, and backward from a known end, using the lengths at
//! the ends, in turns, so it costs about twice the distance to the nearer end. A walk ends at
//! damage; the search fails only if every other way fails too. If [`SeekHints`] are given and
//! both ends are far away, the search walks between two positions from the hints instead.

use super::file::DataFile;
use super::seek_hints::{Bounds, SeekHints};
use super::window::Window;
use crate::error::{StorageError, StorageResult};
use crate::format::txn::STATUS_AT;
use crate::format::{
    Corruption, FIRST_TRANSACTION, LEAST_TRANSACTION_LEN, REDUNDANT_LENGTH_LEN,
    TRANSACTION_HEADER_LEN, TransactionHeader, TransactionStatus,
};
use zrs_ids::Tid;

/// The number of transactions to walk in one direction before it is the other one's turn.
const BATCH: usize = 256;
/// The number of bytes to read at once while transactions are small.
const READ_AHEAD: usize = 128 * 1024;
/// After a transaction of at least this length, do not read ahead.
const LARGE: u64 = 32 * 1024;
/// The end of a transaction and the header of the next.
const SEAM: usize = REDUNDANT_LENGTH_LEN + TRANSACTION_HEADER_LEN;

/// The position of the first transaction after `start`, or of the end of the finished
/// transactions if `start` is the last one; `None` once `cancelled` returns true.
///
/// `known_end` is where a finished transaction is expected to end; it is ignored if none does.
///
/// # Errors
/// [`TidTooHigh`](StorageError::TidTooHigh) if `start` is later than the last finished
/// transaction, [`Corrupt`](StorageError::Corrupt) if the walk meets a damaged one.
pub(crate) fn position_after(
    file: &DataFile,
    start: Tid,
    known_end: Option<u64>,
    cancelled: &dyn Fn() -> bool,
) -> StorageResult<Option<u64>> {
    match find_after(file, start, known_end, None, cancelled)? {
        None => Ok(None),
        Some(Found {
            last: Some(last), ..
        }) if start > last => Err(StorageError::TidTooHigh { start, last }),
        Some(Found { position, .. }) => Ok(Some(position)),
    }
}

/// The result of a search.
pub(super) struct Found {
    /// Where the transactions after the requested one begin, or will begin.
    pub(super) position: u64,
    /// The last transaction, if it is known and not later than the requested one.
    pub(super) last: Option<Tid>,
}

/// Like [`position_after`], but leaves it to the caller to judge a start that is too high.
pub(super) fn find_after(
    file: &DataFile,
    start: Tid,
    known_end: Option<u64>,
    mut seek_hints: Option<&SeekHints>,
    cancelled: &dyn Fn() -> bool,
) -> StorageResult<Option<Found>> {
    if start == Tid::ZERO {
        return Ok(Some(Found::at(FIRST_TRANSACTION)));
    }
    let mut search = Search::new(file, start, FIRST_TRANSACTION, known_end)?;
    let mut bounded = false;
    while !cancelled() {
        if let Some(found) = search.walk_batches()? {
            return Ok(Some(found));
        }
        let between = seek_hints
            .take()
            .and_then(|known| known.around(file, start));
        if let Some(Bounds { lower, upper }) = between {
            let lower = lower.unwrap_or(FIRST_TRANSACTION);
            let failure = search.failure.take();
            search = Search::new(file, start, lower, upper.or(known_end))?;
            search.failure = failure;
            bounded = true;
        } else if search.is_over() && std::mem::take(&mut bounded) {
            // The hints may have been wrong.
            let failure = search.failure.take();
            search = Search::new(file, start, FIRST_TRANSACTION, known_end)?;
            search.failure = failure;
        } else if search.is_over() && !search.walk_from_file_end()? {
            return match search.failure {
                Some(error) => Err(error),
                None => Ok(None),
            };
        }
    }
    Ok(None)
}

impl Found {
    const fn at(position: u64) -> Self {
        let last = None;
        Self { position, last }
    }
}

/// Two walks towards a position. If one meets damage, the other continues.
struct Search<'file> {
    file: &'file DataFile,
    start: Tid,
    forward: Option<Forward<'file>>,
    backward: Option<Backward<'file>>,
    known_end: Option<u64>,
    /// Whether a walk from the end of the file was tried instead of one from a known end.
    from_file_end: bool,
    /// The first damage found.
    failure: Option<StorageError>,
}

impl<'file> Search<'file> {
    fn new(
        file: &'file DataFile,
        start: Tid,
        first: u64,
        known_end: Option<u64>,
    ) -> StorageResult<Self> {
        let (forward, backward) = walks(file, start, first, known_end)?;
        Ok(Self {
            file,
            start,
            forward: Some(forward),
            backward,
            known_end,
            from_file_end: false,
            failure: None,
        })
    }

    fn is_over(&self) -> bool {
        self.forward.is_none() && self.backward.is_none()
    }

    /// Whether a transaction ends after `position`, according to the known ends.
    fn has_later(&self, position: u64) -> StorageResult<bool> {
        let len = self.file.metadata()?.len;
        for end in [self.known_end, Some(len)] {
            if Backward::verified_end(self.file, end)?.is_some_and(|(end, _)| end > position) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Begin a walk from the end of the file; returns false if none can begin there, or one was
    /// tried.
    fn walk_from_file_end(&mut self) -> StorageResult<bool> {
        if std::mem::replace(&mut self.from_file_end, true) {
            return Ok(false);
        }
        let len = self.file.metadata()?.len;
        self.backward = match Backward::verified_end(self.file, Some(len))? {
            Some((end, last)) if last > self.start => Some(Backward::new(self.file, end)),
            Some((position, last)) => {
                // The file has no later transaction.
                self.forward = Some(Forward::new(self.file, position, last));
                None
            }
            None => None,
        };
        Ok(!self.is_over())
    }

    fn walk_batches(&mut self) -> StorageResult<Option<Found>> {
        let start = self.start;
        let forward = self.forward.as_mut().map(|walk| walk.find(start));
        match self.unless_damaged(forward)? {
            Some(Walked::Found(found)) => {
                let ends_early = found.last.is_some_and(|last| last < start);
                if !ends_early || !self.has_later(found.position)? {
                    return Ok(Some(found));
                }
                // A damaged length or status can look like the end of the file.
                let truncated = self.file.truncated(found.position)?;
                self.failure.get_or_insert(truncated);
                self.forward = None;
            }
            Some(Walked::NotYet) => {}
            None => self.forward = None,
        }
        let backward = self.backward.as_mut().map(|walk| walk.find(start));
        match self.unless_damaged(backward)? {
            Some(Walked::Found(found)) => return Ok(Some(found)),
            Some(Walked::NotYet) => {}
            None => self.backward = None,
        }
        Ok(None)
    }

    /// Records damage, which is returned if no other way succeeds.
    fn unless_damaged(
        &mut self,
        walked: Option<StorageResult<Walked>>,
    ) -> StorageResult<Option<Walked>> {
        match walked.transpose() {
            Err(error) if error.is_damage() => {
                self.failure.get_or_insert(error);
                Ok(None)
            }
            walked => walked,
        }
    }
}

/// The result of walking over one batch.
enum Walked {
    Found(Found),
    NotYet,
}

/// The walks from a transaction that begins at `first`, which is not later than `start` unless it
/// is the first of the file, and from a known end.
fn walks(
    file: &DataFile,
    start: Tid,
    first: u64,
    known_end: Option<u64>,
) -> StorageResult<(Forward<'_>, Option<Backward<'_>>)> {
    Ok(match Backward::verified_end(file, known_end)? {
        Some((end, last)) if last > start => {
            let forward = Forward::new(file, first, Tid::ZERO);
            (forward, Some(Backward::new(file, end)))
        }
        // Transactions may have been finished after it.
        Some((end, last)) if end >= first => (Forward::new(file, end, last), None),
        _ => (Forward::new(file, first, Tid::ZERO), None),
    })
}

/// Where the transaction that ends at `position` begins; `None` at the beginning of the file.
///
/// # Errors
/// [`Corrupt`](StorageError::Corrupt) if no transaction ends there.
pub(super) fn position_before(file: &DataFile, position: u64) -> StorageResult<Option<u64>> {
    let mut backward = Backward::new(file, position);
    Ok(backward.step()?.map(|_| backward.position))
}

/// The header of the finished transaction that ends at `end`, if one does.
pub(super) fn transaction_before(
    file: &DataFile,
    end: u64,
) -> StorageResult<Option<TransactionHeader>> {
    let Some((end, _)) = Backward::verified_end(file, Some(end))? else {
        return Ok(None);
    };
    let Some(position) = position_before(file, end)? else {
        return Ok(None);
    };
    Forward::new(file, position, Tid::ZERO).header()
}

/// A walk over the headers of a file's finished transactions, in order.
pub(super) struct Forward<'file> {
    file: &'file DataFile,
    window: Window,
    /// Where the next transaction begins.
    position: u64,
    /// The transaction before it.
    last: Tid,
}

impl<'file> Forward<'file> {
    /// A walk from `position`, where a transaction later than `last` begins.
    pub(super) fn new(file: &'file DataFile, position: u64, last: Tid) -> Self {
        let window = Window::new();
        Self {
            file,
            window,
            position,
            last,
        }
    }

    /// Walk over a batch towards the first transaction after `start`.
    fn find(&mut self, start: Tid) -> StorageResult<Walked> {
        for _ in 0..BATCH {
            let before = self.position;
            match self.step()? {
                None => {
                    let (position, last) = (self.position, Some(self.last));
                    return Ok(Walked::Found(Found { position, last }));
                }
                Some(tid) if tid > start => return Ok(Walked::Found(Found::at(before))),
                Some(_) => {}
            }
        }
        Ok(Walked::NotYet)
    }

    /// Where the next transaction begins.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Walk over one finished transaction and return its id, or `None` at the last.
    fn step(&mut self) -> StorageResult<Option<Tid>> {
        Ok(self.header()?.map(|header| header.tid))
    }

    /// Walk over one finished transaction and return its header, or `None` at the last.
    pub(super) fn header(&mut self) -> StorageResult<Option<TransactionHeader>> {
        let position = self.position;
        let corrupt = |corruption| self.file.corrupt(position, corruption);
        if self.window.get(position, TRANSACTION_HEADER_LEN).is_none() {
            self.window.fill(self.file, position, READ_AHEAD)?;
        }
        let Some(bytes) = self.window.get_array::<TRANSACTION_HEADER_LEN>(position) else {
            return Ok(None);
        };
        if bytes[STATUS_AT] == TransactionStatus::Voted.as_byte() {
            return Ok(None);
        }
        let header = TransactionHeader::parse(&bytes).map_err(corrupt)?;
        let end = header.end(position).map_err(corrupt)?;
        let redundant_at = end - REDUNDANT_LENGTH_LEN as u64;
        if self.window.get(redundant_at, SEAM).is_none() {
            let len = if header.length < LARGE {
                READ_AHEAD
            } else {
                SEAM
            };
            self.window.fill(self.file, redundant_at, len)?;
        }
        let Some(redundant) = self.window.get_array(redundant_at) else {
            return Ok(None);
        };
        if header.tid <= self.last {
            let (found, previous) = (header.tid, self.last);
            return Err(corrupt(Corruption::TidOrder { found, previous }));
        }
        header
            .check_redundant_length(u64::from_be_bytes(redundant))
            .map_err(corrupt)?;
        self.position = end;
        self.last = header.tid;
        Ok(Some(header))
    }
}

struct Backward<'file> {
    file: &'file DataFile,
    window: Window,
    /// Where the next transaction of the walk ends.
    position: u64,
    /// The transaction after it.
    next: Option<Tid>,
}

impl<'file> Backward<'file> {
    fn new(file: &'file DataFile, position: u64) -> Self {
        let (window, next) = (Window::new(), None);
        Self {
            file,
            window,
            position,
            next,
        }
    }

    /// `known_end` and the transaction that ends there, if one does.
    fn verified_end(file: &DataFile, known_end: Option<u64>) -> StorageResult<Option<(u64, Tid)>> {
        let Some(end) = known_end else {
            return Ok(None);
        };
        match Backward::new(file, end).step() {
            Ok(tid) => Ok(tid.map(|tid| (end, tid))),
            Err(StorageError::Corrupt { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Walk back over a batch towards the last transaction that is not after `start`.
    fn find(&mut self, start: Tid) -> StorageResult<Walked> {
        for _ in 0..BATCH {
            let before = self.position;
            match self.step()? {
                Some(tid) if tid > start => {}
                _ => return Ok(Walked::Found(Found::at(before))),
            }
        }
        Ok(Walked::NotYet)
    }

    /// Walk back over one transaction and return its id, or `None` at the beginning.
    fn step(&mut self) -> StorageResult<Option<Tid>> {
        let end = self.position;
        if end == FIRST_TRANSACTION {
            return Ok(None);
        }
        let Some(redundant_at) = end.checked_sub(REDUNDANT_LENGTH_LEN as u64) else {
            return Err(self.nothing_ends(0));
        };
        let length = match self.read(redundant_at, READ_AHEAD)? {
            Some(bytes) => u64::from_be_bytes(bytes),
            None => return Err(self.file.truncated(redundant_at)?),
        };
        let position = redundant_at
            .checked_sub(length)
            .filter(|position| *position >= FIRST_TRANSACTION)
            .filter(|position| end - position >= LEAST_TRANSACTION_LEN as u64)
            .ok_or_else(|| self.nothing_ends(length))?;
        let read_behind = if length < LARGE { READ_AHEAD } else { SEAM };
        let Some(bytes) = self.read(position, read_behind)? else {
            return Err(self.file.truncated(position)?);
        };
        let header =
            TransactionHeader::parse(&bytes).map_err(|e| self.file.corrupt(position, e))?;
        if header.length != length || !header.status.is_finished() {
            return Err(self.nothing_ends(length));
        }
        if let Some(next) = self.next.filter(|next| header.tid >= *next) {
            let (found, previous) = (next, header.tid);
            let corruption = Corruption::TidOrder { found, previous };
            return Err(self.file.corrupt(end, corruption));
        }
        self.position = position;
        self.next = Some(header.tid);
        Ok(Some(header.tid))
    }

    /// The `N` bytes at `position`; reads ahead the `len` bytes that end with them. `None` if the
    /// file ends before.
    fn read<const N: usize>(
        &mut self,
        position: u64,
        len: usize,
    ) -> StorageResult<Option<[u8; N]>> {
        if self.window.get(position, N).is_none() {
            // usize to u64 widens; N and `len` are small.
            let end = position.saturating_add(N as u64);
            let start = end.saturating_sub(len as u64);
            let len = usize::try_from(end - start).unwrap_or(len);
            self.window.fill(self.file, start, len)?;
        }
        Ok(self.window.get_array(position))
    }

    fn nothing_ends(&self, length: u64) -> StorageError {
        let corruption = Corruption::NoTransactionEnds { length };
        self.file.corrupt(self.position, corruption)
    }
}

#[cfg(test)]
mod tests;
