//! Finds damage in a `Data.fs` and its index: everything that ZODB's fstest and fsrefs check, and
//! every redundancy of the format.
//!
//! The caller runs a check in steps and can show progress between them. A check only reads. After
//! damage it continues at the next transaction. It ignores transactions that are added in the
//! meantime, and a transaction that is still being written.

mod index;
pub(super) mod outline;
mod problem;
pub(super) mod records;
mod references;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use self::index::SavedIndex;
use self::outline::Outline;
pub use self::problem::{Absence, Fault, Problem};
use self::records::Content;
use self::references::{Absent, References};
use super::blob::BlobDirectory;
use super::file::{DataFile, io_error};
use super::index::Index;
use super::reader::Reader;
use crate::error::{StorageError, StorageResult};
use crate::format::{
    Corruption, DataHeader, FIRST_TRANSACTION, TRANSACTION_HEADER_LEN, TransactionStatus,
};
use zrs_ids::{Oid, Tid};
use zrs_vfs::Vfs;

/// This many bytes of a record are enough to recognize a blob's: a record begins with its class.
const CLASS_LEN: u64 = 1024;

/// Reread apparent damage at the end of a file at most this many times, to detect a running
/// commit.
const REREADS: u32 = 10;
const REREAD_PAUSE: Duration = Duration::from_millis(30);

/// Returns whether a record is a blob's, given the beginning of its data.
pub type IsBlob = fn(&[u8]) -> bool;

/// What to check in addition to the structure of the file.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// Whether to compare the index file.
    pub index: bool,
    /// Whether to check the references of current records.
    pub references: bool,
    /// Whether the file may be in use by a writer: apparent damage at its end is then read again.
    pub live: bool,
}

/// Totals of the check so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Transactions.
    pub transactions: u64,
    /// Data records.
    pub records: u64,
    /// Objects that have a record.
    pub objects: u64,
    /// Current records that another storage layer has transformed, so that their references
    /// cannot be read here.
    pub transformed: u64,
}

/// The progress of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Scanning the file.
    Scanning {
        /// The position.
        position: u64,
        /// The file's length.
        size: u64,
    },
    /// Checking the references of current records.
    Following {
        /// The number of records read.
        done: u64,
        /// The total number of current records.
        total: u64,
    },
    /// The check is complete.
    Done,
}

/// A check of one file.
pub struct Check {
    vfs: Arc<dyn Vfs>,
    reader: Reader,
    size: u64,
    options: CheckOptions,
    blobs: Option<(BlobDirectory, IsBlob)>,
    position: u64,
    last_tid: Tid,
    index: Index,
    saved: SavedIndex,
    absent: Absent,
    references: Option<References>,
    /// The records of the current transaction, which later transactions can refer to.
    found: Vec<(Oid, u64)>,
    problems: Vec<Problem>,
    counts: Counts,
}

impl Check {
    /// Open the file at `path` for reading.
    ///
    /// # Errors
    /// [`StorageError::UnknownMagic`], also for an empty file, and those of the system.
    pub fn open(vfs: Arc<dyn Vfs>, path: &Path, options: CheckOptions) -> StorageResult<Self> {
        let file = DataFile::open(&*vfs, &path.into())?;
        // Read the index first: the file may grow, and the index may be saved, at any time.
        let saved = if options.index {
            SavedIndex::read(&*vfs, path)
        } else {
            SavedIndex::None
        };
        if !file.has_magic()? {
            return Err(StorageError::UnknownMagic {
                path: path.to_path_buf(),
                found: Vec::new(),
            });
        }
        Ok(Self {
            size: file.metadata()?.len,
            reader: Reader::new(file),
            options,
            blobs: None,
            vfs,
            position: FIRST_TRANSACTION,
            last_tid: Tid::ZERO,
            index: Index::new(),
            saved,
            absent: Absent::default(),
            references: None,
            found: Vec::new(),
            problems: Vec::new(),
            counts: Counts::default(),
        })
    }

    /// Also check that the file of each blob exists.
    #[must_use]
    pub fn with_blobs(self, directory: BlobDirectory, is_blob: IsBlob) -> Self {
        let blobs = Some((directory, is_blob));
        Self { blobs, ..self }
    }

    /// The totals so far.
    pub fn counts(&self) -> Counts {
        Counts {
            objects: self.index.len() as u64,
            transformed: self.references.as_ref().map_or(0, References::transformed),
            ..self.counts
        }
    }

    /// The problems found since the last call.
    pub fn take_problems(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.problems)
    }

    /// The data of the record at `position`, or `None` if no record with data begins there; for
    /// details in messages about problems.
    pub fn data(&mut self, position: u64) -> StorageResult<Option<Bytes>> {
        let header = self.reader.array(position)?;
        let Some(header) = header.and_then(|bytes| DataHeader::parse(&bytes).ok()) else {
            return Ok(None);
        };
        match records::content(&self.reader.file, position, &header)? {
            Ok(Content::Data { position, len, .. }) => self.reader.data_at(position, len),
            Ok(Content::Nothing { .. }) | Err(_) => Ok(None),
        }
    }

    /// Continue with about `bytes` bytes of the file, or with one object for each hundred bytes.
    pub fn step(&mut self, bytes: u64) -> StorageResult<Progress> {
        if let Some(mut references) = self.references.take() {
            let progress = self.follow(&mut references, bytes / 256);
            self.references = Some(references);
            return progress;
        }
        let until = self.position.saturating_add(bytes);
        while self.position < until {
            if !self.next_transaction()? {
                self.problems.extend(self.saved.left_over());
                self.references = Some(if self.options.references {
                    References::new(&self.index)
                } else {
                    References::default()
                });
                break;
            }
        }
        Ok(Progress::Scanning {
            position: self.position,
            size: self.size,
        })
    }

    fn follow(&mut self, references: &mut References, objects: u64) -> StorageResult<Progress> {
        for _ in 0..objects.max(1) {
            let (reader, problems) = (&mut self.reader, &mut self.problems);
            if !references.step(reader, &self.index, &self.absent, problems)? {
                return Ok(Progress::Done);
            }
        }
        let total = self.index.len() as u64;
        Ok(Progress::Following {
            done: total.saturating_sub(references.left() as u64),
            total,
        })
    }

    /// Check the structure at the current position; returns false at the end.
    fn next_transaction(&mut self) -> StorageResult<bool> {
        self.saved
            .compare_at(self.position, &self.index, &mut self.problems);
        let at = outline::read_at(&self.reader.file, self.position, self.size)?;
        if self.options.live && self.may_be_in_progress(&at) && self.is_being_written()? {
            return Ok(false);
        }
        match at {
            outline::At::End => return Ok(false),
            outline::At::Damaged { fault, tid, next } => {
                self.problems.push(Problem {
                    position: self.position,
                    tid,
                    oid: None,
                    skipped: next - self.position,
                    fault,
                });
                self.position = next;
            }
            outline::At::Transaction(transaction) => {
                self.position = transaction.end();
                self.transaction(transaction)?;
            }
        }
        Ok(true)
    }

    /// Whether a transaction at the end of the file looks like this while it is being written.
    fn may_be_in_progress(&self, at: &outline::At) -> bool {
        match at {
            outline::At::End => false,
            outline::At::Damaged { next, .. } => *next == self.size,
            outline::At::Transaction(transaction) => {
                transaction.header.status == TransactionStatus::Voted
            }
        }
    }

    /// Whether the bytes at or after the current position change.
    fn is_being_written(&self) -> StorageResult<bool> {
        let file = &self.reader.file;
        let header = || file.read_array::<TRANSACTION_HEADER_LEN>(self.position);
        let seen = header()?;
        for _ in 0..REREADS {
            if file.metadata()?.len != self.size || header()? != seen {
                return Ok(true);
            }
            thread::sleep(REREAD_PAUSE);
        }
        Ok(false)
    }

    fn transaction(&mut self, mut transaction: Outline) -> StorageResult<()> {
        let (position, found) = (transaction.position, transaction.header.tid);
        let tid = transaction.tid(&self.reader.file, self.size, self.last_tid)?;
        let tid = match tid {
            Ok(tid) if tid <= self.last_tid => {
                let previous = self.last_tid;
                let fault = Corruption::TidOrder { found, previous };
                self.report(position, found, None, fault.into());
                tid
            }
            Ok(tid) => tid,
            Err(records) => {
                let fault = Fault::TransactionTid { found, records };
                self.report(position, found, None, fault);
                records
            }
        };
        self.last_tid = self.last_tid.max(tid);
        if let Some(fault) = transaction.fault.take() {
            self.report(position, tid, None, fault);
        }
        match transaction.header.status {
            TransactionStatus::Undone => {}
            TransactionStatus::Voted => self.report(position, tid, None, Fault::Unfinished),
            TransactionStatus::Complete | TransactionStatus::Packed => {
                self.counts.transactions += 1;
                self.records(&transaction, tid)?;
            }
        }
        Ok(())
    }

    fn records(&mut self, transaction: &Outline, tid: Tid) -> StorageResult<()> {
        if self.options.live && self.reader.window.is_at_end() {
            // The window's contents may be older than the header, and incomplete.
            self.reader.window.clear();
        }
        let mut position = transaction.data_start();
        while position < transaction.data_end() {
            match records::read_at(&mut self.reader, transaction, tid, position)? {
                records::At::Record(record) => {
                    position = record.end;
                    self.record(transaction, tid, record)?;
                }
                records::At::Damaged(fault) => {
                    let skipped = transaction.data_end() - position;
                    self.report(position, tid, None, fault);
                    if let Some(problem) = self.problems.last_mut() {
                        problem.skipped = skipped;
                    }
                    break;
                }
            }
        }
        for (oid, position) in self.found.drain(..) {
            self.index.insert(oid, position);
        }
        Ok(())
    }

    fn record(
        &mut self,
        transaction: &Outline,
        tid: Tid,
        record: records::Record,
    ) -> StorageResult<()> {
        let (position, oid) = (record.position, record.header.oid);
        self.counts.records += 1;
        if let Some(fault) = record.fault {
            self.report(position, tid, Some(oid), fault);
        }
        let (found, expected) = (record.header.prev, self.index.get(oid).unwrap_or(0));
        // A pack breaks the chain from a record that it keeps to earlier records.
        let packed = transaction.header.status == TransactionStatus::Packed;
        if found != expected && !(packed && found == 0) {
            self.report(
                position,
                tid,
                Some(oid),
                Fault::Previous { found, expected },
            );
        }
        self.absent.undone.remove(&oid);
        self.absent.broken.remove(&oid);
        if record.header.has_backpointer() || self.blobs.is_some() {
            match records::content(&self.reader.file, position, &record.header)? {
                Ok(Content::Data {
                    position: data,
                    len,
                    ..
                }) => self.blob((position, tid, oid), data, len)?,
                Ok(Content::Nothing { .. }) => {
                    self.absent.undone.insert(oid);
                }
                Err(fault) => {
                    self.absent.broken.insert(oid);
                    self.report(position, tid, Some(oid), fault);
                }
            }
        }
        self.found.push((oid, position));
        Ok(())
    }

    /// If the record with its data at `data` is a blob's, check that the blob's file exists.
    fn blob(
        &mut self,
        (position, tid, oid): (u64, Tid, Oid),
        data: u64,
        len: u64,
    ) -> StorageResult<()> {
        let Some((directory, is_blob)) = &self.blobs else {
            return Ok(());
        };
        let start = self.reader.data_at(data, len.min(CLASS_LEN))?;
        if !start.is_some_and(|start| is_blob(&start)) {
            return Ok(());
        }
        let path = directory.file(oid, tid);
        match self.vfs.metadata(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.report(position, tid, Some(oid), Fault::MissingBlob { path });
            }
            Err(error) => return Err(io_error(&path, error)),
        }
        Ok(())
    }

    fn report(&mut self, position: u64, tid: Tid, oid: Option<Oid>, fault: Fault) {
        self.problems.push(Problem {
            position,
            tid: Some(tid),
            oid,
            skipped: 0,
            fault,
        });
    }
}
