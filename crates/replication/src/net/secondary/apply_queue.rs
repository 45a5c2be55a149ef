//! From the task that reads to the thread that applies: events, in batches.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel as std_channel};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::sending::Remarks;
use super::status::SecondaryCounters;
use crate::proto::{NodeName, PeerError, Remark, SecondaryEvent, SecondaryPeer};
use crate::replica::{Applier, ApplyError, Findings, Pace, ReplicaStorage, log_messages};

/// So much may be on the way, in units; a longer record goes alone.
const UNITS: u32 = 4 << 10;
/// A unit, in bytes.
const UNIT: usize = 1 << 10;

/// What was read at once.
struct Batch {
    events: Vec<SecondaryEvent>,
    /// What the primary did wrong after them.
    failure: Option<PeerError>,
    /// Their share of what may be on the way.
    _share: OwnedSemaphorePermit,
}

/// The reading end.
pub(super) struct Outbox {
    batches: Sender<Batch>,
    room: Arc<Semaphore>,
    closed: CancellationToken,
}

/// The applying end.
pub(super) struct Inbox {
    batches: Receiver<Batch>,
    _closed: DropGuard,
}

/// A channel for one connection.
pub(super) fn channel() -> (Outbox, Inbox) {
    let (sender, receiver) = std_channel();
    let closed = CancellationToken::new();
    let inbox = Inbox {
        batches: receiver,
        _closed: closed.clone().drop_guard(),
    };
    let outbox = Outbox {
        batches: sender,
        room: Arc::new(Semaphore::new(UNITS as usize)),
        closed,
    };
    (outbox, inbox)
}

impl Outbox {
    /// Waits until nobody applies any more.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Sends all events that the peer has; `false` if there will be no more, since it has
    /// failed or nobody applies them.
    pub(super) async fn send(&self, peer: &mut SecondaryPeer) -> bool {
        let mut events = Vec::new();
        let mut bytes = 0;
        let failure = loop {
            match peer.next_event() {
                Ok(Some(event)) => {
                    bytes += length(&event);
                    events.push(event);
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if events.is_empty() && failure.is_none() {
            return true;
        }
        let units = u32::try_from(bytes / UNIT + 1).unwrap_or(UNITS).min(UNITS);
        let room = Arc::clone(&self.room).acquire_many_owned(units);
        let share = tokio::select! {
            share = room => share,
            () = self.closed() => return false,
        };
        let Ok(share) = share else { return false };
        let goes_on = failure.is_none();
        let batch = Batch {
            events,
            failure,
            _share: share,
        };
        self.batches.send(batch).is_ok() && goes_on
    }
}

fn length(event: &SecondaryEvent) -> usize {
    let data = match event {
        SecondaryEvent::Record(record) | SecondaryEvent::Blob(record, _) => {
            record.data.as_ref().map_or(0, bytes::Bytes::len)
        }
        SecondaryEvent::Block(block) => block.len(),
        SecondaryEvent::Begin(_) | SecondaryEvent::Commit(_) | SecondaryEvent::Remark(_) => 0,
    };
    size_of::<SecondaryEvent>() + data
}

/// The primary's history is another, which was logged.
pub(super) struct Diverged;

/// The blocking side of a session.
pub(super) struct Work {
    pub(super) name: String,
    pub(super) check_checksums: bool,
    /// The name to give to a primary that takes remarks.
    pub(super) node_name: Option<NodeName>,
    pub(super) inbox: Inbox,
    /// What has come and is not applied is not to be applied either.
    pub(super) stop: Arc<AtomicBool>,
    pub(super) counters: Arc<SecondaryCounters>,
    pub(super) remarks: watch::Sender<Remarks>,
    pub(super) findings: Arc<Findings>,
}

impl Work {
    pub(super) fn run<S: ReplicaStorage>(
        self,
        storage: S,
        greeting: oneshot::Sender<SecondaryPeer>,
    ) -> Result<(), Diverged> {
        let (mut applier, peer) = match Applier::new(storage, self.check_checksums) {
            Ok(begun) => begun,
            Err(error) => {
                self.counters
                    .trouble("storage", &self.name, error.to_string());
                log_messages::apply_failed(&self.name, error);
                return Ok(());
            }
        };
        self.counters.applied(applier.applied(), true);
        if greeting.send(peer).is_err() {
            return Ok(());
        }
        let outcome = self.apply_all(&mut applier);
        let farewell = matches!(outcome, Err(ApplyError::Diverged(_)));
        self.say(&mut applier, farewell);
        applier.end();
        self.counters.applied(applier.applied(), true);
        if let Some(reason) = applier.primary_failure() {
            let message = log_messages::primary_failed(&self.name, reason);
            self.counters.trouble("primary", &self.name, message);
        }
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => self.give_up(error),
        }
    }

    /// Tells the primary how far the storage has got, or why this ends.
    fn say<S: ReplicaStorage>(&self, applier: &mut Applier<S>, farewell: bool) {
        self.introduce(applier);
        let (question, remark) = (applier.take_question(), applier.take_remark());
        if question.is_some() || remark.is_some() || farewell {
            self.remarks.send_modify(|remarks| {
                remarks.question =
                    question.unwrap_or_else(|| std::mem::take(&mut remarks.question));
                if remark.is_some() || farewell {
                    remarks.latest = remark.unwrap_or_default();
                }
                remarks.farewell = farewell;
            });
        }
    }

    /// Gives the primary this secondary's name, once it is known to take remarks.
    fn introduce<S: ReplicaStorage>(&self, applier: &Applier<S>) {
        let Some(name) = &self.node_name else { return };
        if applier.primary_listens() && self.remarks.borrow().introduction.is_empty() {
            let introduction = SecondaryPeer::remark(&Remark::Named(name.clone()));
            self.remarks
                .send_modify(|remarks| remarks.introduction = introduction);
        }
    }

    /// Says why, after the applier has aborted.
    fn give_up<E: Display>(&self, error: ApplyError<E>) -> Result<(), Diverged> {
        let kind = match &error {
            ApplyError::Peer(_) => "protocol",
            ApplyError::Storage(_) => "storage",
            ApplyError::Diverged(_) => "fork",
        };
        self.counters.trouble(kind, &self.name, error.to_string());
        if let ApplyError::Diverged(divergence) = error {
            log_messages::diverged(&self.findings, &self.name, divergence);
            return Err(Diverged);
        }
        log_messages::apply_failed(&self.name, error);
        Ok(())
    }

    /// Applies what comes, until there is no more.
    fn apply_all<S: ReplicaStorage>(
        &self,
        applier: &mut Applier<S>,
    ) -> Result<(), ApplyError<S::Error>> {
        let mut waiting_since = Instant::now();
        let mut busy_until = waiting_since;
        loop {
            let had_waiting = applier.has_waiting();
            let batch = match self.inbox.batches.try_recv() {
                Ok(batch) => batch,
                Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => {
                    let now = Instant::now();
                    let idle = Some(now - busy_until);
                    let pace = applier.pace(now - waiting_since, idle);
                    if let Pace::Wait(patience) = pace {
                        self.counters.applied(applier.applied(), true);
                        match self.wait(patience) {
                            Ok(batch) => batch,
                            Err(RecvTimeoutError::Timeout) => continue,
                            Err(RecvTimeoutError::Disconnected) => return Ok(()),
                        }
                    } else {
                        self.keep_up(applier, pace)?;
                        continue;
                    }
                }
            };
            if self.stop.load(Ordering::Acquire) {
                return Ok(());
            }
            self.apply(applier, batch)?;
            busy_until = Instant::now();
            if !had_waiting {
                waiting_since = busy_until;
            }
            let pace = applier.pace(busy_until - waiting_since, None);
            self.keep_up(applier, pace)?;
        }
    }

    fn wait(&self, patience: Option<Duration>) -> Result<Batch, RecvTimeoutError> {
        match patience {
            Some(patience) => self.inbox.batches.recv_timeout(patience),
            None => Ok(self.inbox.batches.recv()?),
        }
    }

    fn apply<S: ReplicaStorage>(
        &self,
        applier: &mut Applier<S>,
        batch: Batch,
    ) -> Result<(), ApplyError<S::Error>> {
        for event in batch.events {
            applier.apply(event)?;
        }
        self.say(applier, false);
        self.counters.applied(applier.applied(), false);
        batch.failure.map_or(Ok(()), |error| Err(error.into()))
    }

    fn keep_up<S: ReplicaStorage>(
        &self,
        applier: &mut Applier<S>,
        pace: Pace,
    ) -> Result<(), ApplyError<S::Error>> {
        let kept_up = match pace {
            Pace::Flush => applier.flush(),
            Pace::Settle => applier.settle(),
            Pace::Wait(_) => return Ok(()),
        };
        self.say(applier, false);
        self.counters.applied(applier.applied(), false);
        kept_up.map_err(ApplyError::Storage)
    }
}
