//! Undoing transactions, with records that point back to the previous state.

use std::collections::HashMap;

use bytes::Bytes;

use super::state::Snapshot;
use super::{FileStorage, Transaction};
use crate::error::{StorageError, StorageResult, UndoFailure};
use crate::format::{BACKPOINTER_LEN, DataHeader, TransactionStatus};
use zrs_ids::{Oid, Tid};

/// The result of resolving a conflict.
pub enum Resolution {
    /// The object's new data.
    Resolved(Bytes),
    /// The conflict cannot be resolved.
    Unresolved,
    /// The resolver failed; the undo returns [`StorageError::Callback`].
    Failed,
}

/// Resolves conflicts between an undo and later changes.
pub trait UndoResolver {
    /// Undo the change that `undone` made to `oid`, whose data were `before`. Since then
    /// `committed` has written the data `current`.
    fn resolve(
        &mut self,
        oid: Oid,
        committed: Tid,
        undone: Tid,
        before: &[u8],
        current: &[u8],
    ) -> Resolution;
}

/// An object for which an undo wrote a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UndoneRecord {
    /// The object.
    pub oid: Oid,
    /// The record to which the new one points back, if it does.
    pub copied: Option<u64>,
}

/// The record to write in order to undo another one.
enum Change {
    /// A backpointer, zero if the undone transaction created the object.
    Back(u64),
    Data(Bytes),
}

impl FileStorage {
    /// Write the records that undo the transaction `tid`.
    ///
    /// # Errors
    /// [`StorageError::Undo`], [`StorageError::MultipleUndo`]; in both cases nothing was written.
    pub fn undo(
        &self,
        transaction: &mut Transaction,
        tid: Tid,
        resolver: &mut dyn UndoResolver,
    ) -> StorageResult<Vec<UndoneRecord>> {
        let snapshot = self.snapshot()?;
        let position = snapshot
            .find_transaction(tid, true)?
            .ok_or(StorageError::Undo(UndoFailure::NoTransaction))?;
        let written = transaction.spool.len();
        let undone = self.write_undo(&snapshot, transaction, position, resolver);
        if undone.is_err() {
            transaction.spool.truncate(written);
        }
        undone
    }

    fn write_undo(
        &self,
        snapshot: &Snapshot,
        transaction: &mut Transaction,
        position: u64,
        resolver: &mut dyn UndoResolver,
    ) -> StorageResult<Vec<UndoneRecord>> {
        let header = snapshot.transaction_header(position)?;
        if header.status != TransactionStatus::Complete {
            return Err(StorageError::Undo(UndoFailure::NotUndoable));
        }
        let records = snapshot
            .data_headers(position)
            .map_err(|error| match error {
                StorageError::Corrupt { .. } => StorageError::Undo(UndoFailure::NotUndoable),
                error => error,
            })?;
        let mut failures: Vec<(Oid, UndoFailure)> = Vec::new();
        let mut undone: Vec<UndoneRecord> = Vec::new();
        let mut positions: HashMap<Oid, u64> = HashMap::new();
        for (position, header) in records {
            let oid = header.oid;
            // A later record of the object may still be undone.
            failures.retain(|(failed, _)| *failed != oid);
            let current = self.position_or_zero(oid)?;
            let undo = Undo {
                snapshot,
                transaction,
                current,
                position,
                header,
            };
            let change = match undo.change(resolver) {
                Ok(change) => change,
                Err(StorageError::Undo(failure)) => {
                    failures.push((oid, failure));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (here, copied) = append(transaction, oid, current, &change)?;
            positions.insert(oid, here);
            undone.retain(|record| record.oid != oid);
            undone.push(UndoneRecord { oid, copied });
        }
        if !failures.is_empty() {
            return Err(StorageError::MultipleUndo(failures));
        }
        transaction.positions.extend(positions);
        Ok(undone)
    }
}

fn append(
    transaction: &mut Transaction,
    oid: Oid,
    current: u64,
    change: &Change,
) -> StorageResult<(u64, Option<u64>)> {
    let tid = transaction.tid;
    match change {
        Change::Back(back) => {
            let here = transaction.append(oid, tid, current, 0, &back.to_be_bytes())?;
            Ok((here, Some(*back).filter(|back| *back != 0)))
        }
        Change::Data(data) => {
            let len = data.len() as u64;
            let here = transaction.append(oid, tid, current, len, data)?;
            Ok((here, None))
        }
    }
}

/// An undo of one record.
struct Undo<'undo> {
    snapshot: &'undo Snapshot,
    transaction: &'undo Transaction,
    /// The position of the object's current record, 0 if it has none.
    current: u64,
    /// The position of the record to be undone.
    position: u64,
    header: DataHeader,
}

impl Undo<'_> {
    fn change(&self, resolver: &mut dyn UndoResolver) -> StorageResult<Change> {
        let oid = self.header.oid;
        let own = self.transaction.positions.get(&oid).copied();
        let latest = own.unwrap_or(self.current);
        if latest == self.position {
            return Ok(Change::Back(self.header.prev));
        }
        if latest < self.position {
            return Err(StorageError::Undo(UndoFailure::NotUndoable));
        }
        let (committed, place, data) = match own {
            Some(position) => self.own_revision(position)?,
            None => self.committed_revision(self.current)?,
        };
        if place == self.position {
            return Ok(Change::Back(self.header.prev));
        }
        let undone = self.load_back(self.position)?;
        let current = match data {
            Some(data) => data,
            None => self.load_back(place)?,
        };
        if undone == current {
            return Ok(Change::Back(self.header.prev));
        }
        if self.header.prev == 0 {
            return Err(StorageError::Undo(UndoFailure::LaterThanAddition));
        }
        let before = self.load_back(self.header.prev)?;
        match resolver.resolve(oid, committed, self.header.tid, &before, &current) {
            Resolution::Resolved(data) if data.is_empty() => Err(StorageError::NoData(oid)),
            Resolution::Resolved(data) => Ok(Change::Data(data)),
            Resolution::Unresolved => Err(StorageError::Undo(UndoFailure::ModifiedLater)),
            Resolution::Failed => Err(StorageError::Callback),
        }
    }

    /// The transaction, the position of the data, and the data if the record itself has them.
    fn committed_revision(&self, position: u64) -> StorageResult<(Tid, u64, Option<Bytes>)> {
        let record = self.snapshot.record(self.header.oid, position)?;
        let tid = record.header.tid;
        if record.header.has_backpointer() {
            let back = self.snapshot.backpointer(&record)?.unwrap_or(0);
            return Ok((tid, back, None));
        }
        Ok((tid, position, Some(self.snapshot.data(&record)?)))
    }

    /// Like [`Self::committed_revision`], for a record of the undoing transaction.
    fn own_revision(&self, position: u64) -> StorageResult<(Tid, u64, Option<Bytes>)> {
        let record = self.transaction.own_record(position)?;
        let Some((header, content)) = record else {
            return Err(StorageError::Undo(UndoFailure::DataMissing));
        };
        if !header.has_backpointer() {
            return Ok((header.tid, position, Some(content)));
        }
        let back = content.first_chunk::<BACKPOINTER_LEN>();
        let back = back.map_or(0, |bytes| u64::from_be_bytes(*bytes));
        Ok((header.tid, back, None))
    }

    fn load_back(&self, position: u64) -> StorageResult<Bytes> {
        let missing = StorageError::Undo(UndoFailure::DataMissing);
        if position == 0 {
            return Err(missing);
        }
        let record = self.snapshot.record(self.header.oid, position)?;
        match self.snapshot.data(&record) {
            Err(StorageError::NoSuchObject { .. }) => Err(missing),
            data => data,
        }
    }
}
