//! Copies what is good in a damaged `Data.fs` to a new one, as ZODB's fsrecover does.
//!
//! A transaction is copied if its extent and all of its records can be made out, be it
//! with the help of the format's redundancy: a length, status, transaction id or position
//! that is wrong in one place and right in another is set right. What is lost is told,
//! and so is what was mended.

mod unsynced;

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use self::unsynced::Unsynced;
use super::check::outline::{self, Outline};
use super::check::records::{self, Content, Record};
use super::check::{Fault, Problem};
use super::file::{DataFile, io_error};
use super::filestorage::{FileStorage, FinishError, Options, Transaction, TransactionMeta};
use super::reader::Reader;
use crate::error::{StorageError, StorageResult};
use crate::format::{
    Corruption, FIRST_TRANSACTION, MAGIC, TRANSACTION_HEADER_LEN, TransactionStatus,
};
use zrs_ids::Tid;
use zrs_vfs::Vfs;

/// What became of a problem.
#[derive(Debug)]
pub struct Finding {
    /// What is wrong, and where.
    pub problem: Problem,
    /// What that means for the copy.
    pub outcome: Outcome,
}

/// What a problem means for the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// So many bytes of the file are not in it.
    Lost {
        /// How many.
        bytes: u64,
    },
    /// Nothing: what was wrong is known, and right in the copy.
    Mended,
}

/// How much was copied and lost, as far as the work has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Copied {
    /// Transactions in the copy.
    pub transactions: u64,
    /// Data records in the copy.
    pub records: u64,
    /// Bytes of the damaged file that are not in it.
    pub lost_bytes: u64,
}

/// The copying of one file.
pub struct Salvage {
    vfs: Arc<dyn Vfs>,
    reader: Reader,
    size: u64,
    /// Whether the good records of a transaction are kept when others are bad.
    partial: bool,
    position: u64,
    last_tid: Tid,
    target: FileStorage,
    findings: Vec<Finding>,
    copied: Copied,
}

/// Whether a transaction was copied whole.
enum Copy {
    Whole,
    /// Broken off at a position, where something is wrong.
    Broken(Problem),
}

impl Salvage {
    /// Open `source` for reading, and `target`, an empty file, for writing.
    ///
    /// With `partial`, the good records of a transaction up to its first bad one are
    /// copied; else a transaction is copied as a whole or not at all.
    ///
    /// # Errors
    /// [`StorageError::UnknownMagic`], and those of the system; one of kind
    /// [`io::ErrorKind::AlreadyExists`] if the target has a byte in it.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        source: &Path,
        target: &Path,
        partial: bool,
    ) -> StorageResult<Self> {
        let file = DataFile::open(&*vfs, &source.into())?;
        if !file.has_magic()? {
            return Err(StorageError::UnknownMagic {
                path: source.to_path_buf(),
                found: Vec::new(),
            });
        }
        let target_metadata = vfs.metadata(target).map_err(|e| io_error(target, e))?;
        if target_metadata.len > 0 {
            let error = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(io_error(target, error));
        }
        let unsynced = Arc::new(Unsynced(Arc::clone(&vfs)));
        Ok(Self {
            target: FileStorage::open(unsynced, target, Options::default())?,
            vfs,
            size: file.metadata()?.len,
            reader: Reader::new(file),
            partial,
            position: FIRST_TRANSACTION,
            last_tid: Tid::ZERO,
            findings: Vec::new(),
            copied: Copied::default(),
        })
    }

    /// Where in the damaged file it is.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The damaged file's length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How much was copied and lost.
    pub fn copied(&self) -> Copied {
        self.copied
    }

    /// What was found to be wrong since this was last called.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// Copy about so many bytes; false at the end of the file, when the copy is durable.
    pub fn step(&mut self, bytes: u64) -> StorageResult<bool> {
        let until = self.position.saturating_add(bytes);
        while self.position < until {
            if !self.next_transaction()? {
                self.finish()?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn next_transaction(&mut self) -> StorageResult<bool> {
        let position = self.position;
        match outline::look_at(&self.reader.file, position, self.size)? {
            outline::At::End => return Ok(false),
            outline::At::Damaged { fault, tid, next } => {
                self.position = next;
                self.lose(problem(position, tid, fault), next - position);
            }
            outline::At::Transaction(mut transaction) => {
                self.position = transaction.end();
                let fault = transaction.fault.take();
                match transaction.header.status {
                    // ZODB shows it to nobody.
                    TransactionStatus::Undone => {}
                    TransactionStatus::Voted => {
                        let tid = Some(transaction.header.tid);
                        let bytes = transaction.end() - position;
                        self.lose(problem(position, tid, Fault::Unfinished), bytes);
                    }
                    TransactionStatus::Complete | TransactionStatus::Packed => {
                        self.transaction(&transaction, fault)?;
                    }
                }
            }
        }
        Ok(true)
    }

    fn transaction(&mut self, transaction: &Outline, fault: Option<Fault>) -> StorageResult<()> {
        let (position, claimed) = (transaction.position, transaction.header.tid);
        let whole = transaction.end() - position;
        let (tid, tid_fault) = match transaction.tid(&self.reader.file, self.size, self.last_tid)? {
            Ok(found) if found <= self.last_tid => {
                let previous = self.last_tid;
                let fault = Corruption::TidOrder { found, previous };
                self.lose(problem(position, Some(found), fault.into()), whole);
                return Ok(());
            }
            Ok(tid) => (tid, None),
            Err(records) => {
                let found = claimed;
                (records, Some(Fault::TransactionTid { found, records }))
            }
        };
        let known = self.findings.len();
        let (mut target, records) = (self.begin(transaction, tid)?, self.copied.records);
        let broken = match self.copy_records(transaction, tid, &mut target)? {
            Copy::Whole => None,
            Copy::Broken(problem) => Some(problem),
        };
        if broken.is_some() && (!self.partial || self.copied.records == records) {
            drop(self.target.abort(target));
            self.copied.records = records;
            // Nothing of it is in the copy, mended or not.
            self.findings.truncate(known);
        } else {
            self.commit(target, tid)?;
            for fault in [fault, tid_fault].into_iter().flatten() {
                self.mend(problem(position, Some(tid), fault));
            }
        }
        if let Some(problem) = broken {
            let kept = self.last_tid == tid;
            let from = if kept { problem.position } else { position };
            self.lose(problem, transaction.end() - from);
        }
        Ok(())
    }

    /// Copy the records up to the first bad one.
    fn copy_records(
        &mut self,
        transaction: &Outline,
        tid: Tid,
        target: &mut Transaction,
    ) -> StorageResult<Copy> {
        let mut position = transaction.data_start();
        while position < transaction.data_end() {
            let record = match records::look_at(&mut self.reader, transaction, tid, position)? {
                records::At::Record(record) => record,
                records::At::Lost(fault) => {
                    return Ok(Copy::Broken(problem(position, Some(tid), fault)));
                }
            };
            if let Some(fault) = self.copy_record(tid, &record, target)? {
                let oid = Some(record.header.oid);
                let problem = problem(position, Some(tid), fault);
                return Ok(Copy::Broken(Problem { oid, ..problem }));
            }
            position = record.end;
            self.copied.records += 1;
            if let Some(fault) = record.fault {
                let oid = Some(record.header.oid);
                let problem = problem(record.position, Some(tid), fault);
                self.mend(Problem { oid, ..problem });
            }
        }
        Ok(Copy::Whole)
    }

    fn copy_record(
        &mut self,
        tid: Tid,
        record: &Record,
        target: &mut Transaction,
    ) -> StorageResult<Option<Fault>> {
        let content = records::content(&self.reader.file, record.position, &record.header)?;
        let (data, data_txn) = match content {
            Err(fault) => return Ok(Some(fault)),
            Ok(Content::Nothing { data_txn }) => (None, data_txn),
            Ok(Content::Data {
                position,
                len,
                data_txn,
            }) => {
                let Some(data) = self.reader.data_at(position, len)? else {
                    let length = self.size;
                    return Ok(Some(Corruption::Truncated { length }.into()));
                };
                (Some(data), data_txn)
            }
        };
        let oid = record.header.oid;
        self.target
            .restore(target, oid, tid, data.as_deref(), data_txn)?;
        Ok(None)
    }

    fn begin(&mut self, transaction: &Outline, tid: Tid) -> StorageResult<Transaction> {
        let header = &transaction.header;
        let user = TRANSACTION_HEADER_LEN;
        let description = user + usize::from(header.user_len);
        let extension = description + usize::from(header.description_len);
        let end = extension + usize::from(header.extension_len);
        let position = transaction.position;
        let strings = match self.reader.bytes(position, end)? {
            Some(strings) => Bytes::copy_from_slice(strings),
            None => return Err(self.reader.file.truncated(position)?),
        };
        let meta = TransactionMeta {
            tid,
            status: header.status.as_byte(),
            user: strings.slice(user..description),
            description: strings.slice(description..extension),
            extension: strings.slice(extension..),
        };
        let guard = self.target.commit_lock().acquire();
        self.target.begin(guard, &meta)
    }

    fn commit(&mut self, mut target: Transaction, tid: Tid) -> StorageResult<()> {
        self.target.vote(&mut target)?;
        let finished = self.target.finish(target, |_| Ok::<_, StorageError>(()));
        match finished {
            Ok(guard) => drop(guard),
            Err(FinishError::Storage(error) | FinishError::Callback(error)) => return Err(error),
        }
        self.last_tid = tid;
        self.copied.transactions += 1;
        Ok(())
    }

    fn lose(&mut self, mut problem: Problem, bytes: u64) {
        problem.skipped = bytes;
        self.copied.lost_bytes += bytes;
        let outcome = Outcome::Lost { bytes };
        self.findings.push(Finding { problem, outcome });
    }

    fn mend(&mut self, problem: Problem) {
        let outcome = Outcome::Mended;
        self.findings.push(Finding { problem, outcome });
    }

    /// Save the index, and make all durable.
    fn finish(&mut self) -> StorageResult<()> {
        self.target.close()?;
        let index = self.target.sibling(".index");
        // Records of Python 2 stay marked as such.
        let magic = self.reader.file.read_array::<{ MAGIC.len() }>(0)?;
        let magic = magic.unwrap_or(MAGIC);
        for (path, beginning) in [(&**self.target.path(), &magic[..]), (&*index, &[])] {
            let opened = self.vfs.open_write(path);
            let synced = opened.and_then(|file| {
                file.write_all_at(beginning, 0)?;
                file.sync_all()
            });
            synced.map_err(|error| io_error(path, error))?;
        }
        let directory = self.target.path().parent().unwrap_or(Path::new(""));
        let synced = self.vfs.sync_directory(directory);
        synced.map_err(|error| io_error(directory, error))
    }
}

fn problem(position: u64, tid: Option<Tid>, fault: Fault) -> Problem {
    Problem {
        position,
        tid,
        oid: None,
        skipped: 0,
        fault,
    }
}
