//! A group: finished transactions that are pending, and one that is being restored.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use bytes::Bytes;

use super::parts::Parts;
use crate::error::StorageResult;
use crate::file::DataFile;
use crate::filestorage::transaction::header_of;
use crate::filestorage::voted::{
    UNENDED_PADDING, drop_padding, padding, put_voted, spans_sectors, write_status,
    write_unended_head,
};
use crate::filestorage::{CommitGuard, FileStorage, Snapshot, TransactionMeta};
use crate::format::txn::STATUS_AT;
use crate::format::{
    DATA_HEADER_LEN, DataHeader, REDUNDANT_LENGTH_LEN, TRANSACTION_HEADER_LEN, TransactionHeader,
    TransactionStatus,
};
use zrs_ids::{Oid, Tid};

/// Data of at least this length are shared instead of copied.
const LARGE: usize = 64 * 1024;
/// The maximum number of records of an unfinished transaction whose positions are kept in
/// memory. If a transaction has more, they are read from the file once it is finished, so that
/// a transaction that never ends uses bounded memory.
const LISTED: usize = 1 << 17;
/// The number of bytes of a file to read at once when searching for records.
const WINDOW: usize = 1 << 16;

/// A group that holds the commit lock.
pub(super) struct Group {
    _guard: CommitGuard,
    file: DataFile,
    /// Where the first transaction begins: the storage's committed end.
    start: u64,
    parts: Parts,
    /// Whether the header at `start` is durable and has the status of an unfinished transaction.
    /// Then readers ignore everything after it.
    headed: bool,
    /// Whether the file may have bytes after `start`.
    touched: bool,
    /// Whether the last bytes written are padding.
    padded: bool,
    finished: Vec<Finished>,
    /// The records of all transactions, in order.
    records: Vec<(Oid, u64)>,
    /// The positions that the objects' last records in finished transactions will have.
    positions: HashMap<Oid, u64>,
    /// The highest object id in finished transactions.
    max_oid: Oid,
    current: Option<Current>,
}

struct Finished {
    tid: Tid,
    /// The final status byte.
    status: u8,
    end: u64,
    /// The end of its own records in `records`.
    records: usize,
}

struct Current {
    start: u64,
    header: TransactionHeader,
    status: u8,
    /// The beginning of its own records in `records`.
    records: usize,
    /// The position of its first record.
    first: u64,
    /// Whether it has more than [`LISTED`] records; then none of them is in `records`.
    unlisted: bool,
    /// The highest object id in its records.
    max_oid: Oid,
}

impl Group {
    /// An empty group after the committed end; `parts` must be empty.
    pub(super) fn new(guard: CommitGuard, snapshot: Snapshot, mut parts: Parts) -> Self {
        parts.begin(snapshot.end);
        Self {
            _guard: guard,
            file: snapshot.file,
            start: snapshot.end,
            parts,
            headed: false,
            touched: false,
            padded: false,
            finished: Vec::new(),
            records: Vec::new(),
            positions: HashMap::new(),
            max_oid: Oid::ZERO,
            current: None,
        }
    }

    /// End the group; returns its memory for reuse.
    pub(super) fn into_parts(self) -> Parts {
        self.parts
    }

    pub(super) fn file(&self) -> &DataFile {
        &self.file
    }

    pub(super) fn is_empty(&self) -> bool {
        self.finished.is_empty() && self.current.is_none()
    }

    /// The number of bytes of the finished transactions.
    pub(super) fn finished_len(&self) -> u64 {
        self.finished.last().map_or(0, |last| last.end - self.start)
    }

    /// The number of bytes in memory.
    pub(super) fn unwritten(&self) -> u64 {
        self.parts.len()
    }

    /// The position of the object's last record in a finished transaction.
    pub(super) fn position(&self, oid: Oid) -> Option<u64> {
        self.positions.get(&oid).copied()
    }

    /// The position of the transaction that is being restored.
    pub(super) fn transaction_start(&self) -> Option<u64> {
        self.current.as_ref().map(|current| current.start)
    }

    pub(super) fn begin_transaction(&mut self, meta: &TransactionMeta) -> StorageResult<()> {
        let header = header_of(meta)?;
        let mut current = Current {
            start: self.parts.end(),
            header,
            status: meta.status,
            records: self.records.len(),
            first: 0,
            unlisted: false,
            max_oid: Oid::ZERO,
        };
        let bytes = current.head(self.finished.is_empty());
        let strings: [&[u8]; 3] = [&meta.user, &meta.description, &meta.extension];
        self.parts
            .append(&[&bytes, strings[0], strings[1], strings[2]]);
        current.first = self.parts.end();
        self.current = Some(current);
        Ok(())
    }

    /// Append a record to the current transaction; `same` is the position of equal data.
    pub(super) fn record(
        &mut self,
        oid: Oid,
        tid: Tid,
        prev: u64,
        data: Option<&Bytes>,
        same: Option<u64>,
    ) {
        let Some(current) = &mut self.current else {
            return;
        };
        current.max_oid = oid.max(current.max_oid);
        let here = self.parts.end();
        let data = data.filter(|data| same.is_none() && !data.is_empty());
        let header = DataHeader {
            oid,
            tid,
            prev,
            tloc: current.start,
            data_len: data.map_or(0, |data| data.len() as u64),
        };
        let header = header.to_bytes();
        match data {
            Some(data) if data.len() >= LARGE => {
                self.parts.append(&[&header]);
                self.parts.append_shared(data.clone());
            }
            Some(data) => self.parts.append(&[&header, data]),
            None => self
                .parts
                .append(&[&header, &same.unwrap_or(0).to_be_bytes()]),
        }
        if current.unlisted {
            return;
        }
        self.records.push((oid, here));
        if self.records.len() - current.records > LISTED {
            self.records.truncate(current.records);
            current.unlisted = true;
        }
    }

    /// End the current transaction.
    pub(super) fn commit(&mut self, storage: &FileStorage) -> StorageResult<()> {
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.unlisted)
        {
            self.spill(storage)?;
            self.list_records()?;
        }
        let Some(mut current) = self.current.take() else {
            return Ok(());
        };
        current.header.length = self.parts.end() - current.start;
        let head = current.head(self.finished.is_empty());
        self.set_head(current.start, head)?;
        self.parts.append(&[&current.header.length.to_be_bytes()]);
        self.positions
            .extend(self.records[current.records..].iter().copied());
        self.max_oid = current.max_oid.max(self.max_oid);
        self.finished.push(Finished {
            tid: current.header.tid,
            status: current.status,
            end: current.start + current.header.length + REDUNDANT_LENGTH_LEN as u64,
            records: self.records.len(),
        });
        Ok(())
    }

    /// Read the records of the current transaction, which is completely written, from the file.
    fn list_records(&mut self) -> StorageResult<()> {
        let (Some(current), end) = (&self.current, self.parts.start()) else {
            return Ok(());
        };
        let mut window = Vec::new();
        let (mut position, mut window_start) = (current.first, 0);
        while position < end {
            let mut bytes = [0; DATA_HEADER_LEN];
            let mut at = usize::try_from(position - window_start).unwrap_or(usize::MAX);
            if window
                .get(at..)
                .is_none_or(|rest: &[u8]| rest.len() < DATA_HEADER_LEN)
            {
                let len = usize::try_from(end - position)
                    .unwrap_or(WINDOW)
                    .min(WINDOW);
                window = self.file.read_vec(position, len)?;
                (window_start, at) = (position, 0);
            }
            if let Some(found) = window.get(at..).and_then(|rest| rest.first_chunk()) {
                bytes = *found;
            }
            let header =
                DataHeader::parse(&bytes).map_err(|error| self.file.corrupt(position, error))?;
            self.records.push((header.oid, position));
            position = header
                .end(position, end)
                .map_err(|error| self.file.corrupt(position, error))?;
        }
        Ok(())
    }

    /// The highest object id in finished transactions.
    pub(super) fn max_oid(&self) -> Oid {
        self.max_oid
    }

    /// Discard the current transaction; returns where to cut the file, if part of it was written.
    pub(super) fn abort(&mut self) -> Option<u64> {
        let current = self.current.take()?;
        self.records.truncate(current.records);
        let written = current.start < self.parts.start();
        if written {
            self.parts.begin(current.start);
        } else {
            self.parts.truncate(current.start);
        }
        written.then_some(current.start)
    }

    /// Write the bytes in memory after the committed end, where readers ignore them.
    pub(super) fn spill(&mut self, storage: &FileStorage) -> StorageResult<()> {
        self.write_head(storage)?;
        self.parts
            .write(&self.file, &[])
            .map_err(|source| self.file.io_error(source))
    }

    /// Write everything. The transaction that is being restored becomes the first one of the next
    /// group.
    pub(super) fn write(&mut self, storage: &FileStorage) -> StorageResult<()> {
        if let Some(current) = &self.current {
            self.set_head(current.start, current.head(true))?;
        }
        if spans_sectors(self.start) {
            self.write_head(storage)?;
        }
        self.touched = true;
        if !self.headed {
            put_voted(&self.file, self.start)?;
        }
        self.padded = !self.headed;
        let behind_finished = padding(self.last().1);
        let padding = match self.current {
            _ if self.headed => &[][..],
            Some(_) => &UNENDED_PADDING,
            None => &behind_finished,
        };
        self.parts
            .write(&self.file, padding)
            .map_err(|source| self.file.io_error(source))
    }

    /// The number of finished transactions.
    pub(super) fn finished(&self) -> usize {
        self.finished.len()
    }

    /// The id of a finished transaction, and the objects that it changes, without repetitions.
    pub(super) fn changed(&self, number: usize) -> (Tid, Vec<Oid>) {
        let mut seen = HashSet::new();
        let oids = self.records(number..number + 1).iter().map(|(oid, _)| *oid);
        let oids = oids.filter(|oid| seen.insert(*oid)).collect();
        (self.end_of(number + 1).1, oids)
    }

    /// The records of a range of finished transactions.
    pub(super) fn records(&self, numbers: Range<usize>) -> &[(Oid, u64)] {
        let end = |count: usize| match count.checked_sub(1) {
            Some(last) => self.finished.get(last).map_or(0, |last| last.records),
            None => 0,
        };
        self.records
            .get(end(numbers.start)..end(numbers.end))
            .unwrap_or_default()
    }

    /// Where the first `count` finished transactions end, and the id of the last of them.
    pub(super) fn end_of(&self, count: usize) -> (u64, Tid) {
        let last = count
            .checked_sub(1)
            .and_then(|last| self.finished.get(last));
        last.map_or((self.start, Tid::ZERO), |last| (last.end, last.tid))
    }

    /// Discard all but the first `number` transactions; returns where these end.
    pub(super) fn keep(&mut self, number: usize) -> u64 {
        self.current = None;
        self.finished.truncate(number);
        let last = self.finished.last();
        self.records.truncate(last.map_or(0, |last| last.records));
        last.map_or(self.start, |last| last.end)
    }

    /// Write the final status of the first transaction, which finishes the whole group.
    pub(super) fn finish(&mut self) -> StorageResult<()> {
        let Some(first) = self.finished.first() else {
            return Ok(());
        };
        write_status(&self.file, self.start, first.status)?;
        if self.padded && self.current.is_none() {
            drop_padding(&self.file, self.last().0);
        }
        Ok(())
    }

    /// Where the last finished transaction ends, and its id.
    pub(super) fn last(&self) -> (u64, Tid) {
        self.end_of(self.finished.len())
    }

    /// Remove the published transactions; a new group begins.
    pub(super) fn clear_published(&mut self) {
        let published = self.records(0..self.finished.len()).len();
        self.start = self.last().0;
        self.records.drain(..published);
        self.finished.clear();
        self.positions.clear();
        if let Some(current) = &mut self.current {
            current.records = 0;
        }
        // Its header was written, and synced, with the group.
        self.headed = self.current.is_some();
        self.touched = self.headed;
        self.padded = false;
    }

    /// Where to cut the file to remove everything that is not published.
    pub(super) fn leftover(&self) -> Option<u64> {
        self.touched.then_some(self.start)
    }

    /// Make the unfinished status of the first transaction durable.
    fn write_head(&mut self, storage: &FileStorage) -> StorageResult<()> {
        if !self.headed && self.put_head()? {
            storage.sync(&self.file)?;
            self.headed = true;
        }
        Ok(())
    }

    /// Write the unfinished status of the first transaction; returns whether its header is still
    /// in memory.
    fn put_head(&mut self) -> StorageResult<bool> {
        // Its length does not matter yet, except for the writer of the following bytes.
        let mut head = [0; TRANSACTION_HEADER_LEN];
        if !self.parts.get(self.start, &mut head) {
            return Ok(false);
        }
        self.touched = true;
        put_voted(&self.file, self.start)?;
        write_unended_head(&self.file, self.start, head)?;
        Ok(true)
    }

    /// Replace a transaction's header, in memory or in the file.
    fn set_head(&mut self, position: u64, head: [u8; TRANSACTION_HEADER_LEN]) -> StorageResult<()> {
        if self.parts.set(position, &head) {
            return Ok(());
        }
        self.file
            .handle()
            .write_all_at(&head, position)
            .map_err(|source| self.file.io_error(source))
    }
}

impl Current {
    /// The header; the first one of a group has the status of an unfinished transaction.
    fn head(&self, first: bool) -> [u8; TRANSACTION_HEADER_LEN] {
        let mut bytes = self.header.to_bytes();
        bytes[STATUS_AT] = if first {
            TransactionStatus::Voted.as_byte()
        } else {
            self.status
        };
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::filestorage::{Options, Restorer};
    use zrs_vfs::sim::SimVfs;

    fn meta(tid: u64) -> TransactionMeta {
        TransactionMeta {
            tid: Tid::from_u64(tid),
            status: b' ',
            user: Bytes::from_static(b"user"),
            description: Bytes::new(),
            extension: Bytes::new(),
        }
    }

    #[test]
    fn a_transaction_of_any_number_of_records_takes_bounded_memory() {
        let vfs = Arc::new(SimVfs::new(0));
        let path = Path::new("Data.fs");
        let storage = FileStorage::open(vfs, path, Options::default()).unwrap();
        let storage = Arc::new(storage);
        let mut restorer = Restorer::new(Arc::clone(&storage));
        let count = 2 * LISTED as u64 + 5;
        let restore = |restorer: &mut Restorer, tid: u64, data: &Bytes, count: u64| {
            restorer.begin(&meta(tid)).unwrap();
            let listed = |restorer: &Restorer| restorer.group.as_ref().unwrap().records.len();
            let before = listed(restorer);
            for oid in 0..count {
                let (oid, tid) = (Oid::from_u64(oid), Tid::from_u64(tid));
                restorer.restore(oid, tid, Some(data), None).unwrap();
                assert!(listed(restorer) <= before + LISTED);
            }
        };
        let (old, new) = (Bytes::from_static(b"old"), Bytes::from_static(b"newer"));
        restore(&mut restorer, 1, &old, 3);
        restorer.commit().unwrap();
        restore(&mut restorer, 2, &new, count);
        restorer.abort();
        restore(&mut restorer, 3, &new, count);
        restorer.commit().unwrap();
        restore(&mut restorer, 4, &old, 1);
        restorer.commit().unwrap();
        restorer.flush::<std::convert::Infallible>(None).unwrap();
        drop(restorer);
        assert_eq!(storage.last_transaction().unwrap(), Tid::from_u64(4));
        assert_eq!(storage.max_oid(), Oid::from_u64(count - 1));
        for (oid, tid, data) in [(0, 4, &old), (1, 3, &new), (count - 1, 3, &new)] {
            let loaded = storage.load(Oid::from_u64(oid)).unwrap();
            assert_eq!((&loaded.0[..], loaded.1), (&data[..], Tid::from_u64(tid)));
        }
        // The revisions of an object are linked through all of them.
        let before = storage.load_before(Oid::ZERO, Tid::from_u64(4)).unwrap();
        assert_eq!(before.unwrap().tid, Tid::from_u64(3));
    }
}
