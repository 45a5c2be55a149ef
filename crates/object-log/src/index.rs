//! The position of the current record of each object and stream.

use std::collections::BTreeMap;

use super::header::HEADER_LEN;
use super::record::Kind;
use super::scan::{RecordAt, ScannedTransaction};
use zrs_ids::Oid;

/// The current record of an object or stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The record's position.
    pub(super) position: u64,
    /// The transaction that wrote it.
    pub(super) serial: u64,
}

/// The state of a log after the transactions up to a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectIndex {
    pub(super) objects: BTreeMap<Oid, Entry>,
    pub(super) streams: BTreeMap<Oid, Entry>,
    /// Objects whose last record may belong to a failed transaction, because its end is lost.
    /// They cannot be loaded.
    pub(super) uncertain: BTreeMap<Oid, Entry>,
    pub(super) root: Option<Oid>,
    /// The next object id to allocate.
    pub(super) next_oid: u64,
    /// The last transaction.
    pub(super) number: u64,
    /// The position at which it ends.
    pub(super) end: u64,
    /// The position of the record that ends it; 0 without a transaction.
    pub(super) last: u64,
}

impl ObjectIndex {
    /// The index of a file without transactions.
    pub(super) fn new() -> Self {
        Self {
            objects: BTreeMap::new(),
            streams: BTreeMap::new(),
            uncertain: BTreeMap::new(),
            root: None,
            next_oid: 1,
            number: 0,
            end: HEADER_LEN as u64,
            last: 0,
        }
    }

    /// Whether the object or stream exists, even if it cannot be read.
    pub(super) fn has(&self, oid: Oid) -> bool {
        self.objects.contains_key(&oid)
            || self.streams.contains_key(&oid)
            || self.uncertain.contains_key(&oid)
    }

    /// Apply a transaction that ends at `end`; returns the objects that it wrote.
    pub(super) fn apply(&mut self, item: &ScannedTransaction, end: u64) -> Vec<Oid> {
        let number = item.number.unwrap_or(self.number.saturating_add(1));
        self.number = self.number.max(number);
        self.end = end;
        self.last = item.last;
        let mut written = Vec::new();
        let Some(finish) = &item.finish else {
            self.apply_without_end(item, number, &mut written);
            return written;
        };
        self.next_oid = self.next_oid.max(finish.next_oid);
        if !finish.committed {
            return written;
        }
        self.root = finish.root.or(self.root);
        if !item.damage.is_empty() {
            // Some of these may be unreadable; loading them reports that.
            for &(oid, position) in &finish.entries {
                self.set_object(oid, position, number, &mut written);
            }
        }
        for record in &item.records {
            let (oid, position, serial) =
                (record.head.oid, record.position, record.head.transaction);
            match record.head.kind {
                Kind::Full | Kind::Change => {
                    self.set_object(oid, position, serial, &mut written);
                }
                Kind::Stream => self.set_stream(oid, position, serial),
                Kind::Begin | Kind::Block | Kind::End => {}
            }
        }
        written
    }

    /// Apply a transaction of which it is unknown whether it was committed.
    fn apply_without_end(
        &mut self,
        item: &ScannedTransaction,
        number: u64,
        written: &mut Vec<Oid>,
    ) {
        for RecordAt { position, head } in &item.records {
            if matches!(head.kind, Kind::Full | Kind::Change) {
                let entry = Entry {
                    position: *position,
                    serial: number,
                };
                self.uncertain.insert(head.oid, entry);
                written.push(head.oid);
            }
            self.next_oid = self.next_oid.max(head.oid.as_u64().saturating_add(1));
        }
    }

    pub(super) fn set_object(
        &mut self,
        oid: Oid,
        position: u64,
        serial: u64,
        written: &mut Vec<Oid>,
    ) {
        self.objects.insert(oid, Entry { position, serial });
        self.uncertain.remove(&oid);
        written.push(oid);
    }

    pub(super) fn set_stream(&mut self, oid: Oid, position: u64, serial: u64) {
        self.streams.insert(oid, Entry { position, serial });
        // While its record could not be read it counted as an object.
        self.objects.remove(&oid);
    }
}
