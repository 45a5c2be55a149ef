//! Reading a whole file, to say what is in it and what is wrong with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::changes::Changes;
use super::error::{Damage, LogError, LogResult, io_error};
use super::header::HEADER_LEN;
use super::log::{Log, Options};
use super::record::Kind;
use super::scan::{Item, RecordAt, Scanner};
use super::view::View;
use crate::ids::Oid;
use crate::vfs::{Vfs, VfsFile};

/// A record of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpedRecord {
    /// The object or stream.
    pub oid: Oid,
    /// What the record is.
    pub kind: Kind,
    /// Where it begins.
    pub position: u64,
    /// How many bytes it has, without its head.
    pub len: u32,
    /// The transaction that wrote it first.
    pub transaction: u64,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where the damaged record begins.
    pub position: u64,
    /// The transaction, if that can be told.
    pub transaction: Option<u64>,
    /// The objects that it may concern.
    pub oids: Vec<Oid>,
    /// What is wrong.
    pub damage: Damage,
}

/// A transaction, or what is left of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dumped {
    /// Where it begins.
    pub start: u64,
    /// Where it ends, unless nothing that follows is readable.
    pub end: Option<u64>,
    /// Its number, if that can be told.
    pub number: Option<u64>,
    /// When it was committed, in microseconds since 1970, if that can be told.
    pub time: Option<i64>,
    /// Whether it was committed, if that can be told; else it failed.
    pub committed: Option<bool>,
    /// The root object, if it says so.
    pub root: Option<Oid>,
    /// Its records but for the blocks of streams.
    pub records: Vec<DumpedRecord>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// Something that is referred to and is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DanglingReference {
    /// The object that refers to it; `None` for the root.
    pub oid: Option<Oid>,
    /// Where the present record of that object begins, 0 for the root.
    pub position: u64,
    /// What is not there.
    pub target: Oid,
}

/// Reads a file from its beginning to its end.
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
    /// Begin to read a file.
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

    /// Where the file is: an absolute path without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// That the file is shorter than its index says, if it is.
    pub fn shortened(&self) -> Option<&LogError> {
        self.shortened.as_ref()
    }

    /// What present objects refer to and is not there. Of objects that cannot be read nothing
    /// is said. To be called at the end; the file is read once more.
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
        let log = Log::of(Arc::clone(&self.vfs), &self.path, options, view);
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

    /// The next transaction, or what is left of one; `None` at the end.
    pub fn read_next(&mut self) -> LogResult<Option<Dumped>> {
        let item = self.scanner.item(self.at).map_err(io_error(&self.path))?;
        let Some(item) = item else {
            return Ok(None);
        };
        self.at = item.end.unwrap_or(self.len);
        if let (true, Some(begin)) = (item.is_whole(), item.begin) {
            self.durable = self.durable.max(begin.durable.min(item.start));
        }
        Ok(Some(dumped(&item)))
    }

    /// How far the file was read, and how long it is.
    pub fn progress(&self) -> (u64, u64) {
        (self.at, self.len)
    }

    /// Up to where the file is known to have been durable once: what is damaged before is
    /// no torn end.
    pub fn durable(&self) -> u64 {
        self.durable
    }
}

fn dumped(item: &Item) -> Dumped {
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

/// The objects whose records may be damaged, if something is at a position.
fn concerned(item: &Item, position: u64) -> Vec<Oid> {
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
