//! Where the present record of each object is.

use std::collections::BTreeMap;

use super::header::HEADER_LEN;
use super::record::Kind;
use super::scan::{Item, RecordAt};
use crate::ids::Oid;

/// Where an object's or stream's present record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The record's position.
    pub(super) position: u64,
    /// The transaction that wrote it.
    pub(super) serial: u64,
}

/// What the transactions up to some place leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectIndex {
    pub(super) objects: BTreeMap<Oid, Entry>,
    pub(super) streams: BTreeMap<Oid, Entry>,
    /// Objects whose present record may belong to a transaction that failed: its end is
    /// lost. They are not loaded.
    pub(super) unsure: BTreeMap<Oid, Entry>,
    pub(super) root: Option<Oid>,
    /// The next object id to give out.
    pub(super) next_oid: u64,
    /// The last transaction.
    pub(super) number: u64,
    /// Where that ends.
    pub(super) end: u64,
    /// Where its last record begins; 0 without a transaction.
    pub(super) last: u64,
}

impl ObjectIndex {
    /// The index of a file without transactions.
    pub(super) fn new() -> Self {
        Self {
            objects: BTreeMap::new(),
            streams: BTreeMap::new(),
            unsure: BTreeMap::new(),
            root: None,
            next_oid: 1,
            number: 0,
            end: HEADER_LEN as u64,
            last: 0,
        }
    }

    /// Whether there is such an object or stream, be it readable or not.
    pub(super) fn has(&self, oid: Oid) -> bool {
        self.objects.contains_key(&oid)
            || self.streams.contains_key(&oid)
            || self.unsure.contains_key(&oid)
    }

    /// Take in a transaction that ends at `end`; returns the objects that it wrote.
    pub(super) fn apply(&mut self, item: &Item, end: u64) -> Vec<Oid> {
        let number = item.number.unwrap_or(self.number.saturating_add(1));
        self.number = self.number.max(number);
        self.end = end;
        self.last = item.last;
        let mut written = Vec::new();
        let Some(finish) = &item.finish else {
            self.apply_endless(item, number, &mut written);
            return written;
        };
        self.next_oid = self.next_oid.max(finish.next_oid);
        if !finish.committed {
            return written;
        }
        self.root = finish.root.or(self.root);
        if !item.damage.is_empty() {
            // Some of these may be unreadable, which shows when they are asked for.
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

    /// A transaction of which nobody knows whether it was committed.
    fn apply_endless(&mut self, item: &Item, number: u64, written: &mut Vec<Oid>) {
        for RecordAt { position, head } in &item.records {
            if matches!(head.kind, Kind::Full | Kind::Change) {
                let entry = Entry {
                    position: *position,
                    serial: number,
                };
                self.unsure.insert(head.oid, entry);
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
        self.unsure.remove(&oid);
        written.push(oid);
    }

    pub(super) fn set_stream(&mut self, oid: Oid, position: u64, serial: u64) {
        self.streams.insert(oid, Entry { position, serial });
        // Where its record could not be read it was taken for an object.
        self.objects.remove(&oid);
    }
}
