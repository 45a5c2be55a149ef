//! Finds what is wrong with a `Data.fs` and its index: all that ZODB's fstest and fsrefs
//! look at, and every redundancy of the format.
//!
//! A check is pulled in steps by its caller, who shows progress between them. It only
//! reads, and goes on after damage where the next transaction begins. Transactions that
//! are added meanwhile are not looked at, nor is one that is just being written.

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

/// So much of a record tells whether it is a blob's: it names its class first.
const CLASS_LEN: u64 = 1024;

/// What looks damaged at the end of a file is looked at so often, for a change.
const LOOKS: u32 = 10;
const LOOK_PAUSE: Duration = Duration::from_millis(30);

/// Tells from the beginning of a record's data whether it is a blob's.
pub type IsBlob = fn(&[u8]) -> bool;

/// What to check besides the file's structure.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// Whether the index file is compared.
    pub index: bool,
    /// Whether the references of current records are followed.
    pub references: bool,
    /// Whether somebody may be writing: what looks damaged at the end is looked at again.
    pub live: bool,
}

/// How many of each there are, as far as the check has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Transactions.
    pub transactions: u64,
    /// Data records.
    pub records: u64,
    /// Objects that have a record.
    pub objects: u64,
    /// Current records that a layer above has transformed, so that their references are
    /// unknown here.
    pub transformed: u64,
}

/// How far a check has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// In the file, at a position of so many bytes.
    Scanning {
        /// The position.
        position: u64,
        /// The file's length.
        size: u64,
    },
    /// Among the current records.
    Following {
        /// How many were read.
        done: u64,
        /// How many there are.
        total: u64,
    },
    /// At the end.
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
    /// The records of the present transaction, which later ones see.
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
        // The index first: the file may grow, and the index be saved, at any moment.
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

    /// Look for the file of each blob, too.
    #[must_use]
    pub fn with_blobs(self, directory: BlobDirectory, is_blob: IsBlob) -> Self {
        let blobs = Some((directory, is_blob));
        Self { blobs, ..self }
    }

    /// How many transactions, records and objects were seen.
    pub fn counts(&self) -> Counts {
        Counts {
            objects: self.index.len() as u64,
            transformed: self.references.as_ref().map_or(0, References::transformed),
            ..self.counts
        }
    }

    /// The problems found since this was last called.
    pub fn take_problems(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.problems)
    }

    /// The data that the record at `position` stands for, if that is a record and has any:
    /// for telling more of a problem.
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

    /// Go on for a while: about `bytes` of the file, or so many hundreds of them in
    /// objects.
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

    /// Look at what is at the present position; false at the end.
    fn next_transaction(&mut self) -> StorageResult<bool> {
        self.saved
            .compare_at(self.position, &self.index, &mut self.problems);
        let at = outline::look_at(&self.reader.file, self.position, self.size)?;
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

    /// Whether this is what a transaction at the end of the file looks like while it is written.
    fn may_be_in_progress(&self, at: &outline::At) -> bool {
        match at {
            outline::At::End => false,
            outline::At::Damaged { next, .. } => *next == self.size,
            outline::At::Transaction(transaction) => {
                transaction.header.status == TransactionStatus::Voted
            }
        }
    }

    /// Whether somebody changes what is at the present position, or behind it.
    fn is_being_written(&self) -> StorageResult<bool> {
        let file = &self.reader.file;
        let header = || file.read_array::<TRANSACTION_HEADER_LEN>(self.position);
        let seen = header()?;
        for _ in 0..LOOKS {
            if file.metadata()?.len != self.size || header()? != seen {
                return Ok(true);
            }
            thread::sleep(LOOK_PAUSE);
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
                self.tell(position, found, None, fault.into());
                tid
            }
            Ok(tid) => tid,
            Err(records) => {
                let fault = Fault::TransactionTid { found, records };
                self.tell(position, found, None, fault);
                records
            }
        };
        self.last_tid = self.last_tid.max(tid);
        if let Some(fault) = transaction.fault.take() {
            self.tell(position, tid, None, fault);
        }
        match transaction.header.status {
            TransactionStatus::Undone => {}
            TransactionStatus::Voted => self.tell(position, tid, None, Fault::Unfinished),
            TransactionStatus::Complete | TransactionStatus::Packed => {
                self.counts.transactions += 1;
                self.records(&transaction, tid)?;
            }
        }
        Ok(())
    }

    fn records(&mut self, transaction: &Outline, tid: Tid) -> StorageResult<()> {
        if self.options.live && self.reader.window.is_at_end() {
            // What it holds may be older than the header, and not complete.
            self.reader.window.clear();
        }
        let mut position = transaction.data_start();
        while position < transaction.data_end() {
            match records::look_at(&mut self.reader, transaction, tid, position)? {
                records::At::Record(record) => {
                    position = record.end;
                    self.record(transaction, tid, record)?;
                }
                records::At::Lost(fault) => {
                    let skipped = transaction.data_end() - position;
                    self.tell(position, tid, None, fault);
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
            self.tell(position, tid, Some(oid), fault);
        }
        let (found, expected) = (record.header.prev, self.index.get(oid).unwrap_or(0));
        // A pack leaves no way from a record that it keeps to an earlier one.
        let packed = transaction.header.status == TransactionStatus::Packed;
        if found != expected && !(packed && found == 0) {
            self.tell(
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
                    self.tell(position, tid, Some(oid), fault);
                }
            }
        }
        self.found.push((oid, position));
        Ok(())
    }

    /// Look for the file of a record's blob, if it is one's. Its data are at `data`.
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
                self.tell(position, tid, Some(oid), Fault::MissingBlob { path });
            }
            Err(error) => return Err(io_error(&path, error)),
        }
        Ok(())
    }

    fn tell(&mut self, position: u64, tid: Tid, oid: Option<Oid>, fault: Fault) {
        self.problems.push(Problem {
            position,
            tid: Some(tid),
            oid,
            skipped: 0,
            fault,
        });
    }
}
