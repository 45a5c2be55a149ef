//! Copies the intact transactions of a damaged `Data.fs` to a new file, as ZODB's fsrecover does.
//!
//! A transaction is copied if its extent and all its records can be determined, if necessary from
//! the redundancy of the format: a length, status, transaction id or position that is wrong in
//! one place and correct in another is repaired. Losses and repairs are both reported.

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

/// The outcome of a problem.
#[derive(Debug)]
pub struct Finding {
    /// The problem and its position.
    pub problem: Problem,
    /// What the problem means for the copy.
    pub outcome: Outcome,
}

/// What a problem means for the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Bytes of the file are missing from the copy.
    Lost {
        /// The number of bytes that are missing from the copy.
        bytes: u64,
    },
    /// The damage was repaired in the copy.
    Repaired,
}

/// What was copied and lost so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Copied {
    /// Transactions in the copy.
    pub transactions: u64,
    /// Data records in the copy.
    pub records: u64,
    /// Bytes of the damaged file that are missing from the copy.
    pub lost_bytes: u64,
}

/// A salvage of one file.
pub struct Salvage {
    vfs: Arc<dyn Vfs>,
    reader: Reader,
    size: u64,
    /// Whether to keep the intact records of a transaction that also has damaged ones.
    partial: bool,
    position: u64,
    last_tid: Tid,
    target: FileStorage,
    findings: Vec<Finding>,
    copied: Copied,
}

/// How much of a transaction was copied.
enum Copy {
    Whole,
    /// The copy ended at damage at this position.
    Broken(Problem),
}

impl Salvage {
    /// Open `source` for reading, and the empty file `target` for writing.
    ///
    /// With `partial`, the intact records before the first damaged one of a transaction are
    /// copied; otherwise a transaction is copied completely or not at all.
    ///
    /// # Errors
    /// [`StorageError::UnknownMagic`]; errors of the system; an error of kind
    /// [`io::ErrorKind::AlreadyExists`] if the target is not empty.
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

    /// The current position in the damaged file.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The damaged file's length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What was copied and lost so far.
    pub fn copied(&self) -> Copied {
        self.copied
    }

    /// The findings since the last call.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// Copy about `bytes` bytes; returns false at the end of the file, when the copy is durable.
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
        match outline::read_at(&self.reader.file, position, self.size)? {
            outline::At::End => return Ok(false),
            outline::At::Damaged { fault, tid, next } => {
                self.position = next;
                self.record_loss(problem(position, tid, fault), next - position);
            }
            outline::At::Transaction(mut transaction) => {
                self.position = transaction.end();
                let fault = transaction.fault.take();
                match transaction.header.status {
                    // ZODB never returns such a transaction.
                    TransactionStatus::Undone => {}
                    TransactionStatus::Voted => {
                        let tid = Some(transaction.header.tid);
                        let bytes = transaction.end() - position;
                        self.record_loss(problem(position, tid, Fault::Unfinished), bytes);
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
                self.record_loss(problem(position, Some(found), fault.into()), whole);
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
            // Repaired or not, it is not in the copy.
            self.findings.truncate(known);
        } else {
            self.commit(target, tid)?;
            for fault in [fault, tid_fault].into_iter().flatten() {
                self.record_repair(problem(position, Some(tid), fault));
            }
        }
        if let Some(problem) = broken {
            let kept = self.last_tid == tid;
            let from = if kept { problem.position } else { position };
            self.record_loss(problem, transaction.end() - from);
        }
        Ok(())
    }

    /// Copy the records before the first damaged one.
    fn copy_records(
        &mut self,
        transaction: &Outline,
        tid: Tid,
        target: &mut Transaction,
    ) -> StorageResult<Copy> {
        let mut position = transaction.data_start();
        while position < transaction.data_end() {
            let record = match records::read_at(&mut self.reader, transaction, tid, position)? {
                records::At::Record(record) => record,
                records::At::Damaged(fault) => {
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
                self.record_repair(Problem { oid, ..problem });
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

    fn record_loss(&mut self, mut problem: Problem, bytes: u64) {
        problem.skipped = bytes;
        self.copied.lost_bytes += bytes;
        let outcome = Outcome::Lost { bytes };
        self.findings.push(Finding { problem, outcome });
    }

    fn record_repair(&mut self, problem: Problem) {
        let outcome = Outcome::Repaired;
        self.findings.push(Finding { problem, outcome });
    }

    /// Save the index, and make everything durable.
    fn finish(&mut self) -> StorageResult<()> {
        self.target.close()?;
        let index = self.target.sibling(".index");
        // Keep the marker for records of Python 2.
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
