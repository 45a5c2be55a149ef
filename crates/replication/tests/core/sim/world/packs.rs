//! Packs of either side, while the world goes on.
//!
//! It does where a pack asks what a record refers to, or whether it is a blob's, and does not
//! hold the commit lock. What ends the process ends its pack.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use zrs_ids::Tid;
use zrs_storage::error::StorageError;
use zrs_storage::filestorage::FileStorage;
use zrs_storage::pack::Options;

use super::{Machine, World};
use crate::sim::history::{Packed, Revisions, is_blob, references};

/// Of how many of the last transactions one is the pack time.
const PACK_TIMES: usize = 12;
/// How many steps there are beside a pack, at most.
const BESIDE: usize = 16;
/// How many chunks may come before a transaction on its way has to be whole.
const CHUNKS: usize = 20;

/// A side of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Primary,
    Secondary,
}

/// Why a pack ends.
#[derive(Debug)]
enum PackError {
    Storage(StorageError),
    /// Its process is gone.
    Died,
}

impl From<StorageError> for PackError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl World {
    pub(super) fn pack(&mut self, side: Side) {
        if self.packing.contains(&side) || !self.let_go_of_the_lock(side) {
            return;
        }
        let storage = Arc::clone(&self.machine(side).storage);
        let last = storage.last_finished();
        if last == Tid::ZERO {
            return;
        }
        let Some(time) = self.history.back(self.random.below(PACK_TIMES)) else {
            return;
        };
        let options = Options {
            time: Tid::from_u64(time.as_u64() + self.random.next() % 2),
            gc: !self.random.one_in(4),
        };
        let keep_old = self.random.one_in(2);
        // A pack fails where what can be reached at its time is missing, or at that of an
        // earlier pack to a later time.
        let packed = self.packed(side);
        let seen = [options.time, options.time.max(packed.records)];
        let gaps = seen
            .map(|time| last.min(time))
            .into_iter()
            .any(|time| time < packed.whole_from || self.history.has_gaps(time, &packed.dropped));
        self.packing.push(side);
        let beside = Cell::new(self.random.below(BESIDE));
        let world = RefCell::new(&mut *self);
        let packed = storage.pack::<PackError>(
            &options,
            keep_old,
            &mut |_, data, found| {
                world.borrow_mut().go_on_beside(side, &storage, &beside)?;
                found.extend(references(data));
                Ok(())
            },
            Some(&mut |data| {
                world.borrow_mut().go_on_beside(side, &storage, &beside)?;
                Ok(is_blob(data))
            }),
        );
        self.packing.retain(|packing| *packing != side);
        match packed {
            Ok(None) | Err(PackError::Died) => {}
            Ok(Some(dropped)) => {
                self.machine_mut(side).packed.blobs.extend(dropped.blobs);
                self.packed_to(side, options.time.min(last), options.gc);
                if side == Side::Primary {
                    // Without garbage collection that is so of all.
                    let begun = if options.gc { last } else { Tid::ZERO };
                    self.history.copies_packed(options.time, begun);
                }
                self.check(side);
            }
            Err(PackError::Storage(StorageError::NoSuchObject { oid })) => {
                assert!(
                    options.gc && gaps,
                    "{oid} is missing in a pack of the {side:?}"
                );
                self.counts.failed_packs += 1;
            }
            Err(PackError::Storage(error)) => {
                assert_eq!(side, Side::Secondary, "{error}");
                // Its file may be in place already.
                self.packed_to(side, options.time.min(last), options.gc);
                self.after_a_disk_failure();
            }
        }
    }

    fn packed_to(&mut self, side: Side, time: Tid, gc: bool) {
        let end = self.machine(side).storage.last_finished();
        let dropped = &self.machine(side).packed.dropped;
        let garbage = self
            .history
            .garbage(time, end, dropped, side == Side::Primary);
        let packed = &mut self.machine_mut(side).packed;
        packed.records = packed.records.max(time);
        if gc {
            packed.dropped.extend(garbage);
        }
        match side {
            Side::Primary => self.counts.primary_packs += 1,
            Side::Secondary => self.counts.secondary_packs += 1,
        }
    }

    /// Lets other things happen, now and then, while a side is packed.
    fn go_on_beside(
        &mut self,
        side: Side,
        storage: &Arc<FileStorage>,
        steps: &Cell<usize>,
    ) -> Result<(), PackError> {
        if storage.commit_lock().is_held() {
            return Ok(());
        }
        while steps.get() > 0 && self.random.one_in(3) {
            steps.set(steps.get() - 1);
            self.step();
            self.counts.steps_beside_packs += 1;
            let is_alive = Arc::ptr_eq(storage, &self.machine(side).storage);
            if !is_alive || !self.let_go_of_the_lock(side) {
                return Err(PackError::Died);
            }
        }
        Ok(())
    }

    /// The pack needs the commit lock in the end, and there is one thread: a transaction that
    /// is on its way is to be there, or to be given up. Returns whether the side is as it was.
    fn let_go_of_the_lock(&mut self, side: Side) -> bool {
        let storage = Arc::clone(&self.machine(side).storage);
        let is_held = || storage.commit_lock().is_held();
        for _ in 0..CHUNKS {
            if !is_held() {
                break;
            }
            self.work_of_the_primary();
            self.work_of_the_secondary();
            self.flush();
        }
        if is_held() {
            self.disconnect();
        }
        Arc::ptr_eq(&storage, &self.machine(side).storage)
    }

    pub(super) fn machine(&self, side: Side) -> &Machine {
        match side {
            Side::Primary => &self.primary,
            Side::Secondary => &self.secondary,
        }
    }

    fn machine_mut(&mut self, side: Side) -> &mut Machine {
        match side {
            Side::Primary => &mut self.primary,
            Side::Secondary => &mut self.secondary,
        }
    }

    /// What packs may have taken from a side's file. What the primary has dropped a secondary
    /// that was behind never gets; what a secondary has dropped the primary may bring back.
    fn packed(&self, side: Side) -> Packed {
        let primary = self.primary.packed.records;
        let packed = self.machine(side).packed.clone();
        match side {
            Side::Primary => Packed {
                dropped: Revisions::new(),
                ..packed
            },
            Side::Secondary => Packed {
                records: packed.records.max(primary),
                whole_from: primary,
                ..packed
            },
        }
    }

    /// A side has the first of the transactions, and all that can be reached.
    pub(super) fn check(&mut self, side: Side) {
        let packed = self.packed(side);
        let machine = self.machine(side);
        if machine.is_failing {
            return;
        }
        self.history.check(&machine.storage, &packed);
        self.counts.checks += 1;
    }

    /// Blobs that come once more have their files again.
    pub(super) fn restore_lost_blobs(&mut self) {
        let last = self.secondary.storage.last_finished();
        self.secondary.packed.blobs.retain(|(_, tid)| *tid <= last);
    }
}
