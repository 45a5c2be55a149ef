//! A bounded queue of event batches from the reading task to the applying thread, and the work of
//! this thread.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel as std_channel};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::sending::Pending;
use super::status::SecondaryCounters;
use crate::proto::{ControlMessage, NodeName, PeerError, SecondaryEvent, SecondaryPeer};
use crate::replica::{Applier, ApplyError, Findings, GroupDecision, ReplicaStorage, log_messages};

/// Capacity of the queue, in units. A record larger than this is queued alone.
const UNITS: u32 = 4 << 10;
/// Size of a unit, in bytes.
const UNIT: usize = 1 << 10;

/// The events of one read.
struct Batch {
    events: Vec<SecondaryEvent>,
    /// A violation of the protocol after them.
    failure: Option<PeerError>,
    /// Their share of the capacity.
    _share: OwnedSemaphorePermit,
}

/// The reading task's end of the queue.
pub(super) struct EventSender {
    batches: Sender<Batch>,
    room: Arc<Semaphore>,
    closed: CancellationToken,
}

/// The applying thread's end of the queue.
pub(super) struct EventReceiver {
    batches: Receiver<Batch>,
    _closed: DropGuard,
}

/// Creates the queue of one connection.
pub(super) fn channel() -> (EventSender, EventReceiver) {
    let (sender, receiver) = std_channel();
    let closed = CancellationToken::new();
    let receiver = EventReceiver {
        batches: receiver,
        _closed: closed.clone().drop_guard(),
    };
    let sender = EventSender {
        batches: sender,
        room: Arc::new(Semaphore::new(UNITS as usize)),
        closed,
    };
    (sender, receiver)
}

impl EventSender {
    /// Waits until the receiver is dropped.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Queues all events of the peer. Returns `false` if no more can follow, because the peer has
    /// failed or the receiver is dropped.
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
        let has_failed = failure.is_some();
        let batch = Batch {
            events,
            failure,
            _share: share,
        };
        self.batches.send(batch).is_ok() && !has_failed
    }
}

fn length(event: &SecondaryEvent) -> usize {
    let data = match event {
        SecondaryEvent::Record(record) | SecondaryEvent::Blob(record, _) => {
            record.data.as_ref().map_or(0, bytes::Bytes::len)
        }
        SecondaryEvent::Block(block) => block.len(),
        SecondaryEvent::Begin(_)
        | SecondaryEvent::Commit(_)
        | SecondaryEvent::ControlMessage(_) => 0,
    };
    size_of::<SecondaryEvent>() + data
}

/// The histories have diverged. Logged already.
pub(super) struct Diverged;

/// The applying thread of a session.
pub(super) struct ApplyTask {
    pub(super) name: String,
    pub(super) check_checksums: bool,
    /// The name to report to a zrs primary.
    pub(super) node_name: Option<NodeName>,
    pub(super) receiver: EventReceiver,
    /// Set to discard events that are queued and not applied.
    pub(super) stop: Arc<AtomicBool>,
    pub(super) counters: Arc<SecondaryCounters>,
    pub(super) pending: watch::Sender<Pending>,
    pub(super) findings: Arc<Findings>,
}

impl ApplyTask {
    pub(super) fn run<S: ReplicaStorage>(
        self,
        storage: S,
        peer_sender: oneshot::Sender<SecondaryPeer>,
    ) -> Result<(), Diverged> {
        let (mut applier, peer) = match Applier::new(storage, self.check_checksums) {
            Ok(created) => created,
            Err(error) => {
                self.counters
                    .record_error("storage", &self.name, error.to_string());
                log_messages::apply_failed(&self.name, error);
                return Ok(());
            }
        };
        self.counters.applied(applier.applied(), true);
        if peer_sender.send(peer).is_err() {
            return Ok(());
        }
        let outcome = self.apply_all(&mut applier);
        let is_final = matches!(outcome, Err(ApplyError::Diverged(_)));
        self.send_pending(&mut applier, is_final);
        applier.end();
        self.counters.applied(applier.applied(), true);
        if let Some(reason) = applier.primary_failure() {
            let message = log_messages::primary_failed(&self.name, reason);
            self.counters.record_error("primary", &self.name, message);
        }
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => self.report(error),
        }
    }

    /// Queues control messages for the primary: acknowledgements, requests, and the report of a
    /// fork, which is final.
    fn send_pending<S: ReplicaStorage>(&self, applier: &mut Applier<S>, is_final: bool) {
        self.introduce(applier);
        let (request, message) = (applier.take_request(), applier.take_control_message());
        if request.is_some() || message.is_some() || is_final {
            self.pending.send_modify(|pending| {
                pending.request = request.unwrap_or_else(|| std::mem::take(&mut pending.request));
                if message.is_some() || is_final {
                    pending.latest = message.unwrap_or_default();
                }
                pending.is_final = is_final;
            });
        }
    }

    /// Queues this secondary's name, once the primary is known to accept control messages.
    fn introduce<S: ReplicaStorage>(&self, applier: &Applier<S>) {
        let Some(name) = &self.node_name else { return };
        if applier.primary_reads_messages() && self.pending.borrow().introduction.is_empty() {
            let introduction = SecondaryPeer::control_message(&ControlMessage::Named(name.clone()));
            self.pending
                .send_modify(|pending| pending.introduction = introduction);
        }
    }

    /// Records and logs an error, after the applier has aborted.
    fn report<E: Display>(&self, error: ApplyError<E>) -> Result<(), Diverged> {
        let kind = match &error {
            ApplyError::Peer(_) => "protocol",
            ApplyError::Storage(_) => "storage",
            ApplyError::Diverged(_) => "fork",
        };
        self.counters
            .record_error(kind, &self.name, error.to_string());
        if let ApplyError::Diverged(divergence) = error {
            log_messages::diverged(&self.findings, &self.name, divergence);
            return Err(Diverged);
        }
        log_messages::apply_failed(&self.name, error);
        Ok(())
    }

    /// Applies batches until the sender is dropped.
    fn apply_all<S: ReplicaStorage>(
        &self,
        applier: &mut Applier<S>,
    ) -> Result<(), ApplyError<S::Error>> {
        let mut pending_since = Instant::now();
        let mut busy_until = pending_since;
        loop {
            let had_pending = applier.has_pending();
            let batch = match self.receiver.batches.try_recv() {
                Ok(batch) => batch,
                Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => {
                    let now = Instant::now();
                    let idle = Some(now - busy_until);
                    let decision = applier.decide(now - pending_since, idle);
                    if let GroupDecision::Wait(limit) = decision {
                        self.counters.applied(applier.applied(), true);
                        match self.receive(limit) {
                            Ok(batch) => batch,
                            Err(RecvTimeoutError::Timeout) => continue,
                            Err(RecvTimeoutError::Disconnected) => return Ok(()),
                        }
                    } else {
                        self.flush(applier, decision)?;
                        continue;
                    }
                }
            };
            if self.stop.load(Ordering::Acquire) {
                return Ok(());
            }
            self.apply(applier, batch)?;
            busy_until = Instant::now();
            if !had_pending {
                pending_since = busy_until;
            }
            let decision = applier.decide(busy_until - pending_since, None);
            self.flush(applier, decision)?;
        }
    }

    /// Waits for a batch, at most this long if a limit is given.
    fn receive(&self, limit: Option<Duration>) -> Result<Batch, RecvTimeoutError> {
        match limit {
            Some(limit) => self.receiver.batches.recv_timeout(limit),
            None => Ok(self.receiver.batches.recv()?),
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
        self.send_pending(applier, false);
        self.counters.applied(applier.applied(), false);
        batch.failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Makes transactions visible or durable, if the decision is to do so.
    fn flush<S: ReplicaStorage>(
        &self,
        applier: &mut Applier<S>,
        decision: GroupDecision,
    ) -> Result<(), ApplyError<S::Error>> {
        let flushed = match decision {
            GroupDecision::Flush => applier.flush(),
            GroupDecision::SyncStatus => applier.sync_status(),
            GroupDecision::Wait(_) => return Ok(()),
        };
        self.send_pending(applier, false);
        self.counters.applied(applier.applied(), false);
        flushed.map_err(ApplyError::Storage)
    }
}
