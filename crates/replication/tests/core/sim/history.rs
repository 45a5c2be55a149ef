//! What was committed, and whether a storage has it.
//!
//! Objects refer to each other. A packed file need not have what cannot be reached, nor what
//! was not current at the pack time; all else is to be there, with the data that were
//! committed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zrs_ids::{Oid, Tid};
use zrs_storage::error::StorageError;
use zrs_storage::filestorage::FileStorage;

pub(super) const ROOT: Oid = Oid::ZERO;

/// An object's data; nobody here unpickles them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) references: Vec<Oid>,
    pub(super) is_blob: bool,
    /// How many bytes are only there to fill space.
    pub(super) filling: usize,
}

impl State {
    /// The bytes, which tell in which transaction they were written.
    pub(super) fn to_bytes(&self, tid: Tid) -> Bytes {
        let mut data = tid.as_bytes().to_vec();
        data.push(u8::from(self.is_blob));
        data.push(self.references.len() as u8);
        for oid in &self.references {
            data.extend_from_slice(oid.as_bytes());
        }
        data.extend(std::iter::repeat_n(0xfe, self.filling));
        data.into()
    }
}

/// What data refer to.
pub(super) fn references(data: &[u8]) -> impl Iterator<Item = Oid> + '_ {
    let oids = data[10..].chunks_exact(8).take(usize::from(data[9]));
    oids.map(|oid| Oid::from_u64(u64::from_be_bytes(oid.try_into().unwrap())))
}

/// In which transaction data were written first.
fn origin(data: Option<&Bytes>) -> Option<Tid> {
    let bytes = data?.first_chunk().copied();
    bytes.map(|bytes| Tid::from_u64(u64::from_be_bytes(bytes)))
}

pub(super) fn is_blob(data: &[u8]) -> bool {
    data[8] == 1
}

/// What a transaction has made of an object: `None` if its creation was undone.
type Revision = (Tid, Option<Bytes>);

/// Revisions of objects, by the transactions that wrote them.
pub(super) type Revisions = BTreeSet<(Oid, Tid)>;

/// All transactions of the primary.
#[derive(Default)]
pub(super) struct History {
    transactions: BTreeMap<Tid, BTreeMap<Oid, Option<Bytes>>>,
    objects: BTreeMap<Oid, Vec<Revision>>,
    /// The records of undos that the primary has as backpointers, and which transactions wrote
    /// the data.
    copies: BTreeMap<(Oid, Tid), Tid>,
}

/// What packs may have taken from a storage.
#[derive(Clone, Debug, Default)]
pub(super) struct Packed {
    /// Transactions up to this one may lack records, or be gone.
    pub(super) records: Tid,
    /// What can be reached from the root is there as soon as this one is.
    pub(super) whole_from: Tid,
    /// These may be gone.
    pub(super) dropped: Revisions,
    /// The files of these blobs are.
    pub(super) blobs: Revisions,
}

impl History {
    /// Notes that an undo was written as a backpointer to data of `origin`.
    pub(super) fn add_copy(&mut self, oid: Oid, tid: Tid, origin: Tid) {
        self.copies.insert((oid, tid), origin);
    }

    /// Notes a pack of the primary to `time`: undos later than `begun` have their data in full
    /// now if these are from before that time.
    pub(super) fn copies_packed(&mut self, time: Tid, begun: Tid) {
        self.copies
            .retain(|(_, tid), origin| *origin > time || *tid <= begun);
    }

    pub(super) fn add(&mut self, tid: Tid, written: BTreeMap<Oid, Option<Bytes>>) {
        for (oid, data) in &written {
            let revisions = self.objects.entry(*oid).or_default();
            revisions.push((tid, data.clone()));
        }
        self.transactions.insert(tid, written);
    }

    /// A transaction that was committed a number of transactions ago.
    pub(super) fn back(&self, number: usize) -> Option<Tid> {
        self.transactions.keys().rev().nth(number).copied()
    }

    pub(super) fn first(&self) -> Option<Tid> {
        self.transactions.keys().next().copied()
    }

    pub(super) fn written(&self, tid: Tid) -> &BTreeMap<Oid, Option<Bytes>> {
        &self.transactions[&tid]
    }

    /// The object's last revision of this time.
    pub(super) fn at(&self, oid: Oid, tid: Tid) -> Option<&Revision> {
        let revisions = self.objects.get(&oid)?;
        let count = revisions.partition_point(|(written, _)| *written <= tid);
        revisions[..count].last()
    }

    /// The object's data of this time, if it was there.
    pub(super) fn data(&self, oid: Oid, tid: Tid) -> Option<&Bytes> {
        self.at(oid, tid)?.1.as_ref()
    }

    /// What could be reached from the root after this transaction; also what was not there.
    pub(super) fn reachable(&self, tid: Tid) -> BTreeSet<Oid> {
        self.reached(vec![ROOT], tid, &Revisions::new())
    }

    /// What these objects led to after this transaction, where some revisions were dropped.
    fn reached(&self, mut todo: Vec<Oid>, tid: Tid, dropped: &Revisions) -> BTreeSet<Oid> {
        let mut found: BTreeSet<Oid> = todo.iter().copied().collect();
        while let Some(oid) = todo.pop() {
            if let Some((written, Some(data))) = self.at(oid, tid) {
                let there = !dropped.contains(&(oid, *written));
                let new = references(data).filter(|oid| there && found.insert(*oid));
                todo.extend(new);
            }
        }
        found
    }

    /// Whether something could be reached after this transaction that was not there, or is
    /// among what was dropped.
    pub(super) fn has_gaps(&self, tid: Tid, dropped: &Revisions) -> bool {
        self.reachable(tid)
            .iter()
            .any(|oid| match self.at(*oid, tid) {
                Some((written, Some(_))) => dropped.contains(&(*oid, *written)),
                _ => true,
            })
    }

    /// What a pack to `time` that ends after the transaction `end` need not keep, since
    /// neither the root leads to it nor anything later. Earlier packs have dropped some.
    /// `has_copies` tells whether it has the backpointers of undos: where one leads to a
    /// revision of an object from before `time`, the object is kept.
    pub(super) fn garbage(
        &self,
        time: Tid,
        end: Tid,
        dropped: &Revisions,
        has_copies: bool,
    ) -> Revisions {
        let mut roots = vec![ROOT];
        let later = self.transactions.iter();
        for (tid, written) in later.filter(|(tid, _)| **tid > time && **tid <= end) {
            let origin = |oid| self.copies.get(&(oid, *tid)).filter(|_| has_copies);
            let oids = written.keys().copied();
            roots.extend(oids.filter(|oid| origin(*oid).is_some_and(|origin| *origin <= time)));
            let all = written.values().flatten();
            roots.extend(all.flat_map(|data| references(data)));
        }
        let kept = self.reached(roots, time, dropped);
        let oids = self.objects.keys().filter(|oid| !kept.contains(oid));
        oids.filter_map(|oid| Some((*oid, self.at(*oid, time)?.0)))
            .collect()
    }

    /// The storage has the first of these transactions, and all that can be reached.
    pub(super) fn check(&self, storage: &FileStorage, packed: &Packed) {
        let last = storage.last_finished();
        self.check_transactions(storage, packed.records);
        if last == Tid::ZERO || last < packed.whole_from {
            return;
        }
        for oid in self.reachable(last) {
            match (storage.load(oid), self.at(oid, last)) {
                (Ok((data, tid)), Some((written, Some(expected)))) => {
                    assert_eq!(tid, *written, "{oid} is another revision at {last}");
                    assert!(
                        data == *expected,
                        "{oid} has the data of {:?}",
                        origin(Some(&data))
                    );
                    let is_gone = is_blob(&data) && packed.blobs.contains(&(oid, tid));
                    assert!(!is_gone, "the file of the blob {oid} at {tid} is gone");
                }
                (Err(StorageError::NoSuchObject { .. }), None | Some((_, None))) => {}
                // That its creation was undone is in no packed file.
                (Ok(_), Some((undone, None))) if *undone <= packed.records => {}
                (Err(StorageError::NoSuchObject { .. }), Some((written, _)))
                    if packed.dropped.contains(&(oid, *written)) => {}
                (found, _) => panic!(
                    "{oid} can be reached at {last}: {:?}",
                    found.map(|(_, tid)| tid)
                ),
            }
        }
    }

    fn check_transactions(&self, storage: &FileStorage, packed: Tid) {
        let last = storage.last_finished();
        let mut expected = self.transactions.range(..=last).peekable();
        let mut transactions = storage.iterator(None, None).unwrap();
        while let Some((transaction, records)) = transactions.read_next().unwrap() {
            let tid = transaction.tid;
            while expected
                .next_if(|(next, _)| **next < tid)
                .is_some_and(|(next, _)| {
                    assert!(*next <= packed, "{next} is missing");
                    true
                })
            {}
            let (found, written) = expected.next().unwrap();
            assert_eq!(*found, tid, "not committed");
            let mut seen = BTreeSet::new();
            for record in records {
                let record = record.unwrap();
                let expected = &written[&record.oid];
                let (oid, found) = (record.oid, origin(record.data.as_ref()));
                let is_it = record.data == *expected;
                assert!(
                    is_it,
                    "{oid} in {tid} has {found:?}, not {:?}",
                    origin(expected.as_ref())
                );
                seen.insert(record.oid);
            }
            let is_whole = seen.len() == written.len();
            assert!(is_whole || tid <= packed, "{tid} lacks records");
        }
        let missing = expected.map(|(tid, _)| *tid).find(|tid| *tid > packed);
        assert_eq!(missing, None, "missing at the end");
    }
}
