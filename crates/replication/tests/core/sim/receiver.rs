//! The receiving end of a simulated connection: the shipping applier on the shipping storage.
//!
//! One kind makes each delivery durable at once. The other decides groups with
//! `Applier::decide` and a simulated clock, as the thread of the tokio driver does.

use std::time::Duration;

use bytes::Bytes;
use zrs_ids::Tid;
use zrs_replication::proto::SecondaryPeer;
use zrs_replication::replica::{
    Applier, ApplyError, GroupDecision, LocalStorage, SecondarySession,
};
use zrs_storage::error::{StorageError, StorageResult};

use crate::databases::Databases;

/// More decisions than an idle applier makes.
const DECISIONS: usize = 8;

type Storage = LocalStorage<Databases>;
type Applied = Result<(), ApplyError<StorageError>>;

pub(super) enum Receiver {
    AtOnce(SecondarySession<Storage>),
    InGroups(Grouping),
}

/// An applier, and the times that its decisions depend on.
pub(super) struct Grouping {
    peer: SecondaryPeer,
    applier: Applier<Storage>,
    waiting_since: Duration,
    busy_until: Duration,
}

impl Receiver {
    /// A receiver that applies at once, and its handshake.
    pub(super) fn at_once(storage: Storage, offer: bool) -> StorageResult<(Self, Bytes)> {
        let (session, handshake) = SecondarySession::new(storage, true, offer)?;
        Ok((Self::AtOnce(session), handshake))
    }

    /// A receiver that applies in groups, and its handshake.
    pub(super) fn in_groups(
        storage: Storage,
        offer: bool,
        now: Duration,
    ) -> StorageResult<(Self, Bytes)> {
        let (applier, peer) = Applier::new(storage, true)?;
        let handshake = peer.greeting(offer);
        let grouping = Grouping {
            peer,
            applier,
            waiting_since: now,
            busy_until: now,
        };
        Ok((Self::InGroups(grouping), handshake))
    }

    pub(super) fn receive(&mut self, data: &[u8], now: Duration) -> Applied {
        match self {
            Self::AtOnce(session) => session.receive_data(data),
            Self::InGroups(grouping) => grouping.receive(data, now),
        }
    }

    /// What the driver does while no data arrives.
    pub(super) fn idle(&mut self, now: Duration) -> Applied {
        match self {
            Self::AtOnce(_) => Ok(()),
            Self::InGroups(grouping) => grouping.idle(now),
        }
    }

    pub(super) fn end(&mut self) {
        match self {
            Self::AtOnce(session) => session.end(),
            Self::InGroups(grouping) => grouping.applier.end(),
        }
    }

    pub(super) fn take_control_message(&mut self) -> Option<Bytes> {
        match self {
            Self::AtOnce(session) => session.take_control_message(),
            Self::InGroups(grouping) => grouping.applier.take_control_message(),
        }
    }

    pub(super) fn take_request(&mut self) -> Option<Bytes> {
        match self {
            Self::AtOnce(session) => session.take_request(),
            Self::InGroups(grouping) => grouping.applier.take_request(),
        }
    }

    /// The last transaction that the secondary reports as applied.
    pub(super) fn applied(&self) -> Tid {
        match self {
            Self::AtOnce(session) => session.applied().tid,
            Self::InGroups(grouping) => grouping.applier.applied().tid,
        }
    }
}

impl Grouping {
    fn receive(&mut self, data: &[u8], now: Duration) -> Applied {
        let had_pending = self.applier.has_pending();
        self.peer.receive_data(data);
        while let Some(event) = self.peer.next_event()? {
            self.applier.apply(event)?;
        }
        self.busy_until = now;
        if !had_pending {
            self.waiting_since = now;
        }
        let decision = self
            .applier
            .decide(now.saturating_sub(self.waiting_since), None);
        self.keep_up(decision)
    }

    fn idle(&mut self, now: Duration) -> Applied {
        let idle = Some(now.saturating_sub(self.busy_until));
        for _ in 0..DECISIONS {
            match self
                .applier
                .decide(now.saturating_sub(self.waiting_since), idle)
            {
                GroupDecision::Wait(_) => return Ok(()),
                decision => self.keep_up(decision)?,
            }
        }
        panic!("the applier does not come to rest");
    }

    fn keep_up(&mut self, decision: GroupDecision) -> Applied {
        let kept_up = match decision {
            GroupDecision::Flush => self.applier.flush(),
            GroupDecision::SyncStatus => self.applier.sync_status(),
            GroupDecision::Wait(_) => Ok(()),
        };
        kept_up.map_err(ApplyError::Storage)
    }
}
