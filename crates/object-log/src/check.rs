//! Reading a whole file to list its contents and its damage.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::changes::Changes;
use super::error::{Damage, LogError, LogResult, io_error};
use super::header::HEADER_LEN;
use super::log::{Log, Options};
use super::record::Kind;
use super::scan::{RecordAt, ScannedTransaction, Scanner};
use super::view::View;
use zrs_ids::Oid;
use zrs_vfs::{Vfs, VfsFile};

/// A record of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpedRecord {
    /// The object or stream.
    pub oid: Oid,
    /// The kind of the record.
    pub kind: Kind,
    /// The position of the record.
    pub position: u64,
    /// The length of its payload.
    pub len: u32,
    /// The transaction that first wrote it.
    pub transaction: u64,
}

/// A damaged place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The position of the damaged record.
    pub position: u64,
    /// The transaction, if known.
    pub transaction: Option<u64>,
    /// The objects that may be affected.
    pub oids: Vec<Oid>,
    /// The kind of damage.
    pub damage: Damage,
}

/// A transaction, or the readable part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dumped {
    /// The position at which it begins.
    pub start: u64,
    /// The position at which it ends; `None` if nothing after it is readable.
    pub end: Option<u64>,
    /// Its number, if known.
    pub number: Option<u64>,
    /// The time of its commit in microseconds since 1970, if known.
    pub time: Option<i64>,
    /// Whether it was committed (it failed otherwise), if known.
    pub committed: Option<bool>,
    /// The root object, if it has one.
    pub root: Option<Oid>,
    /// Its records, without the blocks of streams.
    pub records: Vec<DumpedRecord>,
    /// Its damage.
    pub problems: Vec<Problem>,
}

/// A reference to an object or stream that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DanglingReference {
    /// The object that has the reference; `None` for the root.
    pub oid: Option<Oid>,
    /// The position of the current record of that object; 0 for the root.
    pub position: u64,
    /// The object or stream that does not exist.
    pub target: Oid,
}

/// Reads a file from beginning to end.
pub struct Dump {
    vfs: Arc<dyn Vfs>,
    file: Arc<dyn VfsFile>,
    identity: [u8; 16],
    shortened: Option<LogError>,
    path: PathBuf,
    scanner: Scanner,
    at: u64,
    len: u64,
    durable: u64,
}

impl Dump {
    /// Open a file for reading.
    pub fn open(vfs: Arc<dyn Vfs>, path: &Path) -> LogResult<Self> {
        let path = vfs.real_path(path).map_err(io_error(path))?;
        let (view, shortened) = View::open_shortened(&*vfs, &path, true)?;
        let len = view.file.metadata().map_err(io_error(&path))?.len;
        Ok(Self {
            vfs,
            file: Arc::clone(&view.file),
            identity: view.identity,
            shortened,
            path,
            scanner: Scanner::new(view.file, len),
            at: HEADER_LEN as u64,
            len,
            durable: view.durable,
        })
    }

    /// The path of the file: absolute, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The error if the file is shorter than its index shows it was.
    pub fn shortened(&self) -> Option<&LogError> {
        self.shortened.as_ref()
    }

    /// The references of current objects that lead nowhere. Objects that cannot be read are
    /// skipped. To be called at the end; this reads the file again.
    pub fn dangling(&self) -> LogResult<Vec<DanglingReference>> {
        let mut view = View::new(Arc::clone(&self.file), self.identity);
        view.durable = self.durable;
        let read = view.read_on(&mut Changes::default());
        read.map_err(io_error(&self.path))?;
        let index = view.index.clone();
        let options = Options {
            read_only: true,
            ..Options::default()
        };
        let log = Log::with_view(Arc::clone(&self.vfs), &self.path, options, view);
        let mut found = Vec::new();
        if let Some(target) = index.root.filter(|root| !index.has(*root)) {
            found.push(DanglingReference {
                oid: None,
                position: 0,
                target,
            });
        }
        for (oid, entry) in &index.objects {
            for target in log.references(&*self.file, *oid, *entry) {
                if !index.has(target) {
                    found.push(DanglingReference {
                        oid: Some(*oid),
                        position: entry.position,
                        target,
                    });
                }
            }
        }
        Ok(found)
    }

    /// The next transaction, or the readable part of one; `None` at the end.
    pub fn read_next(&mut self) -> LogResult<Option<Dumped>> {
        let item = self
            .scanner
            .transaction(self.at)
            .map_err(io_error(&self.path))?;
        let Some(item) = item else {
            return Ok(None);
        };
        self.at = item.end.unwrap_or(self.len);
        if let (true, Some(begin)) = (item.is_whole(), item.begin) {
            self.durable = self.durable.max(begin.durable.min(item.start));
        }
        Ok(Some(dumped(&item)))
    }

    /// The position up to which the file was read, and its length.
    pub fn progress(&self) -> (u64, u64) {
        (self.at, self.len)
    }

    /// The position up to which the file is known to have been durable. Damage before it is
    /// not an unfinished transaction.
    pub fn durable(&self) -> u64 {
        self.durable
    }
}

fn dumped(item: &ScannedTransaction) -> Dumped {
    let records = item.records.iter();
    let records = records.filter(|record| record.head.kind != Kind::Block);
    let records = records.map(|RecordAt { position, head }| DumpedRecord {
        oid: head.oid,
        kind: head.kind,
        position: *position,
        len: head.len,
        transaction: head.transaction,
    });
    let problems = item.damage.iter().map(|&(position, damage)| Problem {
        position,
        transaction: item.number,
        oids: concerned(item, position),
        damage,
    });
    Dumped {
        start: item.start,
        end: item.end,
        number: item.number,
        time: item.begin.map(|begin| begin.time),
        committed: item.finish.as_ref().map(|end| end.committed),
        root: item.finish.as_ref().and_then(|end| end.root),
        records: records.collect(),
        problems: problems.collect(),
    }
}

/// The objects whose records may be affected by damage at a position.
fn concerned(item: &ScannedTransaction, position: u64) -> Vec<Oid> {
    let at = item
        .records
        .iter()
        .find(|record| record.position == position);
    if let Some(record) = at {
        return vec![record.head.oid];
    }
    let listed = item.finish.iter().flat_map(|end| &end.entries);
    let lost = listed.filter(|(_, listed)| {
        let found = item.records.iter().any(|record| record.position == *listed);
        *listed >= position && !found
    });
    lost.map(|(oid, _)| *oid).collect()
}
