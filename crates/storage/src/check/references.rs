//! The references of all current records: each leads to an object that can be loaded.

use std::collections::HashSet;

use super::problem::{Absence, Fault, Problem};
use super::records::{Content, content};
use crate::error::StorageResult;
use crate::format::{DATA_HEADER_LEN, DataHeader};
use crate::index::Index;
use crate::pickle::refs::ReferenceReader;
use crate::reader::Reader;
use zrs_ids::Oid;

/// Prefix of data transformed by zc.zlibstorage and similar storages. A pickle that starts with
/// this opcode also ends with it.
const TRANSFORMED: u8 = b'.';

/// Objects that the file mentions but that cannot be loaded.
#[derive(Default)]
pub(super) struct Absent {
    pub(super) undone: HashSet<Oid>,
    pub(super) broken: HashSet<Oid>,
}

impl Absent {
    fn state(&self, index: &Index, oid: Oid) -> Option<Absence> {
        if index.get(oid).is_none() {
            return Some(Absence::Missing);
        }
        if self.undone.contains(&oid) {
            return Some(Absence::Undone);
        }
        self.broken.contains(&oid).then_some(Absence::Broken)
    }
}

/// Reads the current records of objects in file order; the default value has no objects.
#[derive(Default)]
pub(super) struct References {
    /// The positions to read, the next one last.
    positions: Vec<u64>,
    reader: ReferenceReader,
    transformed: u64,
    found: Vec<Oid>,
}

impl References {
    pub(super) fn new(index: &Index) -> Self {
        let mut positions: Vec<_> = index.iter().map(|(_, position)| position).collect();
        positions.sort_unstable_by(|one, other| other.cmp(one));
        Self {
            positions,
            ..Self::default()
        }
    }

    /// The number of objects left to read.
    pub(super) fn left(&self) -> usize {
        self.positions.len()
    }

    /// The number of records read so far that were transformed.
    pub(super) fn transformed(&self) -> u64 {
        self.transformed
    }

    /// Read the references of the next object; returns false if no objects are left.
    pub(super) fn step(
        &mut self,
        file: &mut Reader,
        index: &Index,
        absent: &Absent,
        out: &mut Vec<Problem>,
    ) -> StorageResult<bool> {
        let Some(position) = self.positions.pop() else {
            return Ok(false);
        };
        let header = file.array::<DATA_HEADER_LEN>(position)?;
        let Some(header) = header.and_then(|bytes| DataHeader::parse(&bytes).ok()) else {
            return Ok(true);
        };
        let oid = header.oid;
        if absent.undone.contains(&oid) || absent.broken.contains(&oid) {
            return Ok(true);
        }
        let Ok(Content::Data {
            position: start,
            len,
            ..
        }) = content(&file.file, position, &header)?
        else {
            return Ok(true);
        };
        let problem = |fault| Problem {
            position,
            tid: Some(header.tid),
            oid: Some(oid),
            skipped: 0,
            fault,
        };
        let Some(data) = file.data_at(start, len)? else {
            return Ok(true);
        };
        if data.first() == Some(&TRANSFORMED) {
            self.transformed += 1;
            return Ok(true);
        }
        self.found.clear();
        if let Err(error) = self.reader.read(&data, &mut self.found) {
            out.push(problem(error.into()));
            return Ok(true);
        }
        for to in self.found.drain(..) {
            if let Some(state) = absent.state(index, to) {
                out.push(problem(Fault::Dangling { to, state }));
            }
        }
        Ok(true)
    }
}
