//! What a secondary has promised to others: no transaction that a power cut could remove.

use std::sync::Arc;

use zrs_ids::Tid;
use zrs_replication::proto::{ControlMessage, Parsed};
use zrs_replication::replica::{Feed, LocalTarget};

use super::{Machine, World, feed_of, open};

impl World {
    /// Records what the secondary acknowledges to its primary.
    pub(super) fn acknowledge(&mut self, message: &[u8]) {
        if let Parsed::Known(ControlMessage::At(tid)) = ControlMessage::read(&message[4..]) {
            self.acknowledged = self.acknowledged.max(tid);
        }
    }

    /// The last transaction that others rely on: the primary, and the secondary's own
    /// secondaries.
    pub(super) fn promised(&self) -> Tid {
        let published = self.cascade.as_ref().map(|feed| feed.published().tid);
        self.acknowledged.max(published.unwrap_or(Tid::ZERO))
    }

    /// A power cut at this moment leaves what the secondary has promised.
    pub(super) fn check_promises(&mut self) {
        let promised = self.promised();
        let visible = self.secondary.storage.last_finished();
        assert!(promised <= visible, "{promised} is promised, not visible");
        if let Some(connection) = &self.connection {
            let applied = connection.receiver.applied();
            assert!(applied <= visible, "{applied} is reported, not visible");
            let announced = connection.databases.last().max(connection.start);
            assert!(visible <= announced, "{visible} is visible, not announced");
        }
        if promised <= self.proven {
            return;
        }
        self.proven = promised;
        let vfs = &self.secondary.vfs;
        let chosen = self.random.below(8);
        let mut images = vfs.crash_images(vfs.operations());
        let first = images.next().unwrap();
        for image in [images.nth(chosen).unwrap_or_else(|| first.clone()), first] {
            let recovered = open(&image.open()).unwrap().last_finished();
            assert!(recovered >= promised, "{promised} is promised, not durable");
            self.counts.proofs += 1;
        }
    }

    /// The feed of a cascade has each durable transaction once, and no other.
    pub(super) fn check_feed(&self) {
        let Some(feed) = &self.cascade else { return };
        let published = feed.published();
        let (end, durable) = self.secondary.storage.durable();
        assert!(published.tid <= durable, "published before it is durable");
        // A pack of the secondary makes transactions durable that its applier publishes when
        // it is idle.
        if self.secondary.packed.records == Tid::ZERO {
            assert_eq!(published.tid, durable, "published and durable");
        }
        if self.is_unpacked() {
            assert_eq!(published.end, Some(end));
            let expected = self.committed.iter();
            let expected = expected.filter(|tid| **tid > self.cascade_start && **tid <= durable);
            assert_eq!(feed.commits(), expected.count() as u64);
        }
    }

    /// An idle secondary has made everything visible durable, and published it.
    pub(super) fn check_rest(&self) {
        let visible = self.secondary.storage.last_finished();
        assert_eq!(self.secondary.storage.durable().1, visible);
        if let Some(feed) = &self.cascade {
            assert_eq!(feed.published().tid, visible, "idle, and not published");
        }
    }

    /// The secondary's process starts: its feed begins with what is in the file.
    pub(super) fn begin_cascade(&mut self) {
        self.cascade_start = self.secondary.storage.last_finished();
        if self.cascade.is_some() {
            self.cascade = Some(feed_of(&self.secondary));
        }
        self.target = target_of(&self.secondary, self.cascade.as_ref());
    }
}

/// What connections of the secondary apply to; it has databases.
pub(super) fn target_of(machine: &Machine, feed: Option<&Arc<Feed>>) -> Arc<LocalTarget> {
    let target = LocalTarget::new(Arc::clone(&machine.storage), feed.cloned());
    target.register(|| ());
    Arc::new(target)
}
