//! Reading a whole file, to say what is in it and what is wrong with it.

use std::path::{Path, PathBuf};

use super::error::{Damage, LogResult};
use super::header::HEADER_LEN;
use super::log::io_error;
use super::open::view_of;
use super::record::Kind;
use super::scan::{Item, RecordAt, Scanner};
use crate::ids::Oid;
use crate::vfs::Vfs;

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

/// Reads a file from its beginning to its end.
pub struct Dump {
    path: PathBuf,
    scanner: Scanner,
    at: u64,
    len: u64,
    durable: u64,
}

impl Dump {
    /// Begin to read a file.
    pub fn open(vfs: &dyn Vfs, path: &Path) -> LogResult<Self> {
        let view = view_of(vfs, path, true)?;
        let len = view.file.metadata().map_err(io_error(path))?.len;
        Ok(Self {
            path: path.to_owned(),
            scanner: Scanner::new(view.file, len),
            at: HEADER_LEN as u64,
            len,
            durable: view.durable,
        })
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
