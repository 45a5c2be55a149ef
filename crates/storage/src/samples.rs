//! Files for tests: a builder of `Data.fs` bytes that shares no code with the reader, captured
//! files in a folder next to the checkout, and a complete reading for comparison.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{DataFile, DataRecord, Tail};
use crate::error::StorageResult;
use crate::format::{DataHeader, MAGIC, TransactionHeader, TransactionStatus};
use crate::memory::{MemoryFile, MemoryVfs};
use zrs_ids::{Oid, Tid};
use zrs_vfs::Vfs;

pub(super) const PATH: &str = "/Data.fs";

/// The content of a data record.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Data(Vec<u8>),
    Backpointer(u64),
}

/// The bytes of a `Data.fs` that is being built.
#[derive(Clone)]
pub(super) struct FileBuilder {
    pub(super) bytes: Vec<u8>,
    /// The position of each data record.
    pub(super) records: Vec<u64>,
    /// The id and the position of each transaction.
    pub(super) transactions: Vec<(Tid, u64)>,
}

impl FileBuilder {
    pub(super) fn new() -> Self {
        Self {
            bytes: MAGIC.to_vec(),
            records: Vec::new(),
            transactions: Vec::new(),
        }
    }

    /// A file of `count` transactions with the ids 10, 20, 30, ... and one record of `size` bytes
    /// each.
    pub(super) fn uniform(count: u64, size: usize) -> Self {
        let mut file = Self::new();
        for number in 1..=count {
            file.add(number * 10, &[(number, Content::Data(vec![b'd'; size]))]);
        }
        file
    }

    pub(super) fn end(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(super) fn add(&mut self, tid: u64, records: &[(u64, Content)]) -> &mut Self {
        self.add_with(tid, TransactionStatus::Complete, records)
    }

    pub(super) fn add_with(
        &mut self,
        tid: u64,
        status: TransactionStatus,
        records: &[(u64, Content)],
    ) -> &mut Self {
        let tid = Tid::from_u64(tid);
        let (user, description, extension) = (b"user", b"description", b"}.");
        let position = self.end();
        let mut body = [&user[..], description, extension].concat();
        for (oid, content) in records {
            self.records.push(position + 23 + body.len() as u64);
            let data = match content {
                Content::Data(data) => data.clone(),
                Content::Backpointer(back) => back.to_be_bytes().to_vec(),
            };
            let data_len = match content {
                Content::Data(data) => data.len() as u64,
                Content::Backpointer(_) => 0,
            };
            let header = DataHeader {
                oid: Oid::from_u64(*oid),
                tid,
                prev: 0,
                tloc: position,
                data_len,
            };
            body.extend_from_slice(&header.to_bytes());
            body.extend_from_slice(&data);
        }
        let length = 23 + body.len() as u64;
        let header = TransactionHeader {
            tid,
            length,
            status,
            user_len: 4,
            description_len: 11,
            extension_len: 2,
        };
        self.bytes.extend_from_slice(&header.to_bytes());
        self.bytes.extend_from_slice(&body);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.transactions.push((tid, position));
        self
    }
}

/// A file system with one file.
pub(super) fn memory(bytes: &[u8]) -> (Arc<MemoryVfs>, Arc<MemoryFile>) {
    let vfs = Arc::new(MemoryVfs::default());
    let file = vfs.create(PATH, bytes);
    (vfs, file)
}

pub(super) fn data_file(vfs: &dyn Vfs, path: &Path) -> DataFile {
    DataFile::open(vfs, &path.into()).unwrap()
}

pub(super) fn tail(vfs: &Arc<MemoryVfs>, start: u64) -> Tail {
    let vfs = Arc::clone(vfs) as Arc<dyn Vfs>;
    Tail::open(vfs, Path::new(PATH), Tid::from_u64(start), None).unwrap()
}

/// The ids that a tail returns until it has no more.
pub(super) fn tids(tail: &mut Tail) -> StorageResult<Vec<u64>> {
    let mut tids = Vec::new();
    while let Some(transaction) = tail.next(None)? {
        tids.push(transaction.tid.as_u64());
    }
    Ok(tids)
}

/// The whole file, read through a tail.
pub(super) fn read_all(tail: &mut Tail) -> StorageResult<Vec<(Tid, Vec<DataRecord>)>> {
    let mut all = Vec::new();
    while let Some(transaction) = tail.next(None)? {
        let records = tail.records(&transaction).collect::<StorageResult<_>>()?;
        all.push((transaction.tid, records));
    }
    Ok(all)
}

/// The folder of captures next to the checkout; `None`, with the reason printed, if it does not
/// exist.
pub(super) fn golden() -> Option<PathBuf> {
    let next_to_checkout = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden");
    let folder = std::env::var_os("ZRS_GOLDEN").map_or_else(next_to_checkout, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "no captures at {}",
        folder.display()
    );
    #[expect(clippy::print_stderr, reason = "reports why a test is skipped")]
    {
        eprintln!(
            "not run: no captures at {}; set ZRS_GOLDEN",
            folder.display()
        );
    }
    None
}
