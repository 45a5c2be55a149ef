//! What there is, and what may happen to it.

mod commits;
mod packs;
mod promises;

use std::ops::AddAssign;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use zrs_ids::{Oid, Tid};
use zrs_replication::proto::{ControlMessage, PrimaryEvent, PrimaryPeer, SecondaryPeer};
use zrs_replication::replica::{ApplyError, Feed, LocalStorage, LocalTarget, TransactionStream};
use zrs_storage::error::{StorageError, StorageResult};
use zrs_storage::filestorage::{FileStorage, Options};
use zrs_storage::pickle::Dialect;
use zrs_vfs::sim::{Extent, Fault, SimVfs};

use self::packs::Side;
use self::promises::target_of;
use super::history::{History, Packed};
use super::random::Random;
use super::receiver::Receiver;
use crate::databases::Databases;

const PATH: &str = "Data.fs";

/// Two objects that every transaction changes alike, and that the root refers to.
const TWINS: [Oid; 2] = [Oid::from_u64(1), Oid::from_u64(2)];
/// The other objects, beside the root.
const FIRST_OBJECT: u64 = 3;
const OBJECTS: u64 = 12;
/// Bytes that the network holds at most before a primary waits.
const WINDOW: usize = 4000;
const EIO: i32 = 5;

/// How often things happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    commits: usize,
    undos: usize,
    refused_undos: usize,
    aborts: usize,
    primary_packs: usize,
    secondary_packs: usize,
    failed_packs: usize,
    steps_beside_packs: usize,
    connections: usize,
    lost: usize,
    damaged: usize,
    refused: usize,
    primary_crashes: usize,
    secondary_crashes: usize,
    secondary_kills: usize,
    disk_failures: usize,
    control_messages: usize,
    requests: usize,
    proofs: usize,
    cascades: usize,
    replicated: usize,
    checks: usize,
}

impl Counts {
    fn all(&mut self) -> [&mut usize; 22] {
        [
            &mut self.commits,
            &mut self.undos,
            &mut self.refused_undos,
            &mut self.aborts,
            &mut self.primary_packs,
            &mut self.secondary_packs,
            &mut self.failed_packs,
            &mut self.steps_beside_packs,
            &mut self.connections,
            &mut self.lost,
            &mut self.damaged,
            &mut self.refused,
            &mut self.primary_crashes,
            &mut self.secondary_crashes,
            &mut self.secondary_kills,
            &mut self.disk_failures,
            &mut self.control_messages,
            &mut self.requests,
            &mut self.proofs,
            &mut self.cascades,
            &mut self.replicated,
            &mut self.checks,
        ]
    }

    pub(super) fn are_all_positive(mut self) -> bool {
        self.all().iter().all(|count| **count > 0)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, mut other: Self) {
        for (count, more) in self.all().into_iter().zip(other.all()) {
            *count += *more;
        }
    }
}

/// A machine with a disk and a storage.
struct Machine {
    vfs: SimVfs,
    storage: Arc<FileStorage>,
    packed: Packed,
    /// Whether a call of the disk, perhaps the next one, fails.
    is_failing: bool,
}

impl Machine {
    fn new(vfs: SimVfs) -> Self {
        let storage = Arc::new(open(&vfs).unwrap());
        Self {
            vfs,
            storage,
            packed: Packed::default(),
            is_failing: false,
        }
    }

    /// The power goes, now or a little earlier than the last operations, and comes again.
    fn crash(&mut self, random: &mut Random) {
        let operations = self.vfs.operations();
        let chosen = random.below(8);
        let mut images = self.vfs.crash_images(operations);
        let first = images.next().unwrap();
        let image = images.nth(chosen).unwrap_or(first);
        self.vfs = image.open().with_samples(4);
        self.storage = Arc::new(open(&self.vfs).unwrap());
        self.is_failing = false;
    }

    /// Somebody mends the disk.
    fn mend(&mut self) {
        self.vfs.clear_faults();
        self.is_failing = false;
    }

    /// What is in the file up to the end of the last transaction.
    fn shown(&self) -> Vec<u8> {
        let mut content = self.vfs.content(PATH).unwrap();
        content.truncate(self.storage.size() as usize);
        content
    }
}

/// A connection: both ends, and what is under way between them.
struct Connection {
    peer: PrimaryPeer,
    stream: Option<TransactionStream>,
    to_primary: BytesMut,
    to_secondary: BytesMut,
    receiver: Receiver,
    databases: Databases,
    /// The secondary's last transaction when the connection began.
    start: Tid,
    damaged: bool,
}

pub(super) struct World {
    random: Random,
    counts: Counts,
    primary: Machine,
    feed: Arc<Feed>,
    last: Tid,
    history: History,
    secondary: Machine,
    target: Arc<LocalTarget>,
    /// The feed of the secondary's own secondaries, if it is a cascade.
    cascade: Option<Arc<Feed>>,
    /// The last transaction before those that this feed counts.
    cascade_start: Tid,
    /// The last transaction that the secondary has acknowledged to its primary.
    acknowledged: Tid,
    /// The last promised transaction that was found after a power cut.
    proven: Tid,
    committed: Vec<Tid>,
    now: Duration,
    /// The sides that are being packed.
    packing: Vec<Side>,
    connection: Option<Connection>,
    /// What ran in processes that died. It does nothing any more, not even what it would do
    /// when it is dropped, for as long as anybody looks.
    dead: Vec<Connection>,
}

impl World {
    pub(super) fn new(mut random: Random) -> Self {
        let mut machine = || Machine::new(SimVfs::new(random.next()).with_samples(4));
        let (primary, secondary) = (machine(), machine());
        let cascade = random.one_in(2).then(|| feed_of(&secondary));
        let counts = Counts {
            cascades: usize::from(cascade.is_some()),
            ..Counts::default()
        };
        Self {
            feed: feed_of(&primary),
            random,
            counts,
            target: target_of(&secondary, cascade.as_ref()),
            cascade,
            cascade_start: Tid::ZERO,
            acknowledged: Tid::ZERO,
            proven: Tid::ZERO,
            committed: Vec::new(),
            now: Duration::ZERO,
            primary,
            last: Tid::ZERO,
            history: History::default(),
            secondary,
            packing: Vec::new(),
            connection: None,
            dead: Vec::new(),
        }
    }

    pub(super) fn step(&mut self) {
        match self.random.below(100) {
            0..16 => self.commit(),
            16..20 => self.undo(),
            20..22 => self.abort(),
            22..49 => self.work_of_the_primary(),
            49..84 => self.work_of_the_secondary(),
            84..86 => self.pack(Side::Primary),
            86..88 => self.pack(Side::Secondary),
            88 => self.damage(),
            89..91 => self.lose_the_connection(),
            91 => self.crash_the_primary(),
            92 => self.crash_the_secondary(),
            93 => self.kill_the_secondary(),
            94 => self.fail_the_disk(),
            95 => self.keep_alive(),
            96 => self.flush(),
            _ => self.check_both(),
        }
    }

    /// Lets everything work, and checks that the secondary has it all then.
    pub(super) fn end_well(mut self) -> Counts {
        self.lose_the_connection();
        self.secondary.mend();
        self.commit();
        let mut rounds = 0;
        while self.secondary.storage.last_finished() != self.last {
            self.work_of_the_primary();
            self.work_of_the_secondary();
            self.flush();
            rounds += 1;
            assert!(rounds < 1_000_000, "the secondary does not get there");
        }
        self.check_both();
        self.check_feed();
        if let Some(feed) = &self.cascade {
            assert_eq!(
                feed.published().tid,
                self.last,
                "the feed does not get there"
            );
        }
        if self.is_unpacked() {
            assert_eq!(self.secondary.shown(), self.primary.shown());
        }
        self.counts
    }

    /// Listens, or ships what the network takes.
    fn work_of_the_primary(&mut self) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let taken = self.random.below(connection.to_primary.len() + 1);
        let heard = connection.to_primary.split_to(taken);
        connection.peer.receive_data(&heard);
        while let Some(event) = connection.peer.next_event().unwrap() {
            match (event, &connection.stream) {
                (PrimaryEvent::Start { tid, offer }, _) => {
                    let (feed, vfs) = (self.feed.clone(), Arc::new(self.primary.vfs.clone()));
                    let name = "secondary".to_owned();
                    let stream = TransactionStream::new(feed, vfs, name, tid, Dialect::Python3)
                        .without_waiting_for_requests();
                    if offer {
                        stream.handle().capability_offered();
                    }
                    connection.stream = Some(stream);
                }
                (PrimaryEvent::CapabilityOffer, Some(stream)) => {
                    stream.handle().capability_offered();
                }
                (PrimaryEvent::ControlMessage(ControlMessage::At(tid)), _) => {
                    assert!(tid <= self.last);
                    self.counts.control_messages += 1;
                }
                (PrimaryEvent::ControlMessage(ControlMessage::List(after)), Some(stream)) => {
                    stream.handle().list(after);
                    self.counts.requests += 1;
                }
                (PrimaryEvent::ControlMessage(control_message), _) => {
                    assert!(connection.damaged, "{control_message:?}");
                }
                (PrimaryEvent::CapabilityOffer | PrimaryEvent::KeepAlive, _) => {}
            }
        }
        let Some(stream) = &mut connection.stream else {
            return;
        };
        // Otherwise it would wait for more.
        let has_more = stream.progress().tid < self.feed.published().tid;
        if has_more && connection.to_secondary.len() < WINDOW {
            let chunk = stream.next_chunk().unwrap().unwrap();
            connection.to_secondary.extend_from_slice(&chunk);
        }
    }

    /// Connects, or applies some of what is under way.
    fn work_of_the_secondary(&mut self) {
        let Some(connection) = &mut self.connection else {
            self.connect();
            return;
        };
        let length = connection.to_secondary.len();
        let count = match self.random.below(3) {
            0 => length.min(1),
            1 => length.min(self.random.below(300)),
            _ => length,
        };
        let data = connection.to_secondary.split_to(count);
        self.now += Duration::from_millis(self.random.next() % 4);
        let mut applied = connection.receiver.receive(&data, self.now);
        if applied.is_ok() && connection.to_secondary.is_empty() && self.random.one_in(2) {
            self.now += Duration::from_millis(self.random.next() % 4);
            applied = connection.receiver.idle(self.now);
        }
        self.after_applying(applied);
    }

    /// Sends what the receiver has for the primary, and handles errors.
    fn after_applying(&mut self, applied: Result<(), ApplyError<StorageError>>) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let messages = [
            connection.receiver.take_request(),
            connection.receiver.take_control_message(),
        ];
        for message in messages.iter().flatten() {
            connection.to_primary.extend_from_slice(message);
        }
        let damaged = connection.damaged;
        for message in messages.iter().flatten() {
            self.acknowledge(message);
        }
        self.check_promises();
        match applied {
            Ok(()) => self.check_feed(),
            Err(error @ (ApplyError::Peer(_) | ApplyError::Diverged(_))) => {
                assert!(damaged, "a whole stream is refused: {error}");
                self.counts.refused += 1;
                self.disconnect();
            }
            Err(ApplyError::Storage(_)) => self.after_a_disk_failure(),
        }
    }

    fn connect(&mut self) {
        let offer = self.random.one_in(2);
        let databases = Databases::default();
        let storage = LocalStorage::new(&self.target, databases.clone());
        let begun = if self.random.one_in(3) {
            Receiver::at_once(storage, offer)
        } else {
            Receiver::in_groups(storage, offer, self.now)
        };
        let Ok((receiver, handshake)) = begun else {
            return self.after_a_disk_failure();
        };
        self.connection = Some(Connection {
            peer: PrimaryPeer::new(false),
            stream: None,
            to_primary: BytesMut::from(&handshake[..]),
            to_secondary: BytesMut::new(),
            receiver,
            databases,
            start: self.secondary.storage.last_finished(),
            damaged: false,
        });
        self.counts.connections += 1;
    }

    /// No data arrives for a second.
    fn flush(&mut self) {
        self.now += Duration::from_secs(1);
        if let Some(connection) = &mut self.connection {
            let applied = connection.receiver.idle(self.now);
            let at_rest = applied.is_ok() && matches!(connection.receiver, Receiver::InGroups(_));
            self.after_applying(applied);
            if at_rest {
                self.check_rest();
            }
        }
    }

    /// The connection is over; what was applied is kept, what is under way is lost.
    fn disconnect(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        connection.receiver.end();
        drop(connection);
        self.check_promises();
        if self.secondary.storage.last_transaction().is_err() {
            self.after_a_disk_failure();
        } else {
            self.check_feed();
        }
    }

    fn lose_the_connection(&mut self) {
        self.counts.lost += usize::from(self.connection.is_some());
        self.disconnect();
    }

    /// A byte under way changes, vanishes, or comes twice.
    fn damage(&mut self) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let length = connection.to_secondary.len();
        if length == 0 {
            return;
        }
        let at = self.random.below(length);
        let rest = connection.to_secondary.split_off(at);
        let bytes = &mut connection.to_secondary;
        match self.random.below(3) {
            0 => bytes.extend_from_slice(&[rest[0] ^ (1 << self.random.below(8))]),
            1 => bytes.extend_from_slice(&[rest[0], rest[0]]),
            _ => {}
        }
        bytes.extend_from_slice(&rest[1..]);
        connection.damaged = true;
        self.counts.damaged += 1;
    }

    fn crash_the_primary(&mut self) {
        self.disconnect();
        self.primary.crash(&mut self.random);
        // What was committed is durable.
        assert_eq!(self.primary.storage.last_finished(), self.last);
        self.feed = feed_of(&self.primary);
        self.counts.primary_crashes += 1;
    }

    fn crash_the_secondary(&mut self) {
        self.restart_the_secondary();
        self.counts.secondary_crashes += 1;
    }

    fn restart_the_secondary(&mut self) {
        let promised = self.promised();
        let (_, durable) = self.secondary.storage.durable();
        // It has no time to do anything.
        self.dead.extend(self.connection.take());
        self.secondary.mend();
        self.secondary.crash(&mut self.random);
        let recovered = self.secondary.storage.last_finished();
        assert!(recovered >= durable);
        assert!(recovered >= promised, "{promised} is promised, not durable");
        self.begin_cascade();
        self.restore_lost_blobs();
        self.check_both();
    }

    fn kill_the_secondary(&mut self) {
        let shown = self.secondary.storage.last_finished();
        self.dead.extend(self.connection.take());
        self.secondary.mend();
        self.secondary.storage = Arc::new(open(&self.secondary.vfs).unwrap());
        // The system has what the process wrote.
        assert!(self.secondary.storage.last_finished() >= shown);
        self.begin_cascade();
        self.check_promises();
        self.counts.secondary_kills += 1;
    }

    /// One of the next calls of the secondary's disk, or all syncs from then on, fail.
    fn fail_the_disk(&mut self) {
        self.secondary.is_failing = true;
        let vfs = &self.secondary.vfs;
        vfs.fail(Fault {
            call: vfs.calls() + self.random.next() % 20,
            errno: EIO,
            extent: [Extent::Once, Extent::Syncs, Extent::TakesSpace][self.random.below(3)],
            short: self.random.one_in(2),
        });
    }

    /// The storage reported an error: somebody mends the disk and starts the machine again.
    /// To start the secondary alone would not do: what a failed sync has left in memory is
    /// read, and looks good, but is not on the disk and never will be.
    fn after_a_disk_failure(&mut self) {
        assert!(self.secondary.vfs.failures() > 0, "nothing has failed");
        self.counts.disk_failures += 1;
        self.restart_the_secondary();
    }

    fn keep_alive(&mut self) {
        if let Some(connection) = &mut self.connection {
            let message = SecondaryPeer::keep_alive();
            connection.to_primary.extend_from_slice(&message);
        }
    }

    fn is_unpacked(&self) -> bool {
        self.primary.packed.records == Tid::ZERO && self.secondary.packed.records == Tid::ZERO
    }

    /// The secondary shows the first of the primary's transactions, whole ones, and neither
    /// has lost anything.
    fn check_both(&mut self) {
        if self.is_unpacked() {
            let (ours, theirs) = (self.secondary.shown(), self.primary.shown());
            assert!(theirs.starts_with(&ours), "no prefix: {} bytes", ours.len());
        }
        self.check(Side::Primary);
        self.check(Side::Secondary);
        let storage = &self.secondary.storage;
        let [one, other] = TWINS.map(|oid| storage.load(oid));
        if let (Ok(one), Ok(other)) = (one, other) {
            assert_eq!(one, other, "twins differ");
            self.counts.replicated += 1;
        }
    }
}

fn open(vfs: &SimVfs) -> StorageResult<FileStorage> {
    FileStorage::open(Arc::new(vfs.clone()), Path::new(PATH), Options::default())
}

fn feed_of(machine: &Machine) -> Arc<Feed> {
    let (tid, end) = (machine.storage.last_finished(), machine.storage.size());
    Arc::new(Feed::new(Path::new(PATH).to_owned(), tid, Some(end)))
}
