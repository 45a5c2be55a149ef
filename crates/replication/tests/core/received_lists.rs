//! Primaries that pack, secondaries that are killed, and those that follow secondaries: in the
//! end each judges every transaction as its primary would, and no fork is taken for one that
//! a pack has dropped.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use zrs_ids::{Oid, Tid};
use zrs_replication::proto::{
    Checksum, ControlMessage, DroppedOffer, DroppedTransactions, Followed, Parsed, SecondaryEvent,
    SecondaryPeer,
};
use zrs_replication::replica::{
    Applier, ApplyError, Feed, ListState, LocalStorage, LocalTarget, StreamHandle,
    TransactionStream,
};
use zrs_storage::error::{StorageError, StorageResult};
use zrs_storage::filestorage::{FileStorage, Options, Restorer, TransactionMeta as StoredMeta};
use zrs_storage::pack::Options as PackOptions;
use zrs_storage::pickle::Dialect;
use zrs_storage::{StartPosition, Tail};
use zrs_vfs::os::OsVfs;

use crate::databases::Databases;

/// Tids of a history are multiples of this; those between were never in it.
const STEP: u64 = 10;
/// More chunks than any of these streams has.
const BOUND: usize = 2000;

/// A storage of one side, and what serves others from it.
struct Side {
    path: PathBuf,
    storage: Arc<FileStorage>,
    feed: Arc<Feed>,
}

impl Side {
    fn open(path: &Path) -> Self {
        let storage = FileStorage::open(Arc::new(OsVfs), path, Options::default()).unwrap();
        let storage = Arc::new(storage);
        let (end, tid) = (storage.size(), storage.last_transaction().unwrap());
        Self {
            path: path.to_owned(),
            feed: Arc::new(Feed::new(path.to_owned(), tid, Some(end))),
            storage,
        }
    }

    /// Closes and opens it, as after a kill: nobody else has it open.
    fn reopen(&mut self) {
        self.storage.close().unwrap();
        *self = Self::open(&self.path);
    }

    fn commit(&self, tid: u64, oid: u64, len: usize) {
        let tid = Tid::from_u64(tid);
        let mut restorer = Restorer::new(Arc::clone(&self.storage));
        let data = Bytes::from(vec![b'd'; len]);
        let meta = StoredMeta {
            tid,
            status: b' ',
            user: Bytes::new(),
            description: Bytes::new(),
            extension: Bytes::new(),
        };
        restorer.begin(&meta).unwrap();
        restorer
            .restore(Oid::from_u64(oid), tid, Some(&data), None)
            .unwrap();
        restorer.commit().unwrap();
        restorer.flush::<Infallible>(None).unwrap();
        self.storage.sync_status().unwrap();
        self.feed.publish(tid, Some(self.storage.size()));
    }

    /// Packs; with `gc` only the root is kept of what is not later than `time`.
    fn pack(&self, time: u64, gc: bool) {
        let options = PackOptions {
            time: Tid::from_u64(time),
            gc,
        };
        let mut references = |_: Oid, _: &[u8], _: &mut Vec<Oid>| -> StorageResult<()> { Ok(()) };
        self.storage
            .pack::<StorageError>(&options, false, &mut references, None)
            .unwrap();
    }

    fn start_position(&self, tid: u64) -> StartPosition {
        let (vfs, start) = (Arc::new(OsVfs), Tid::from_u64(tid));
        let tail = Tail::open_stoppable(vfs, &self.path, start, None, None, Arc::default());
        tail.unwrap().unwrap().start_position().unwrap()
    }

    /// Checks the verdict on each transaction, and on one behind each that never was. Where
    /// not all is known, that is said; nothing wrong ever is.
    fn check(&self, history: &BTreeSet<u64>, is_exact: bool) {
        let last = self.storage.last_transaction().unwrap().as_u64();
        for &tid in history.iter().take_while(|tid| **tid < last) {
            let is_right = match self.start_position(tid) {
                StartPosition::Here(_) | StartPosition::Packed => true,
                StartPosition::Unverified => !is_exact,
                _ => false,
            };
            assert!(is_right, "{tid} of {history:?} in {}", self.path.display());
            let is_right = match self.start_position(tid + 1) {
                StartPosition::Unknown(_) => true,
                StartPosition::Unverified => !is_exact,
                _ => false,
            };
            assert!(is_right, "{} was never in {history:?}", tid + 1);
        }
    }
}

type Replica = LocalStorage<Databases>;

/// The storage of a side, as a connection applies to it.
fn replica(side: &Side) -> Replica {
    let (storage, feed) = (Arc::clone(&side.storage), Arc::clone(&side.feed));
    let target = Arc::new(LocalTarget::new(storage, Some(feed)));
    LocalStorage::new(&target, Databases::default())
}

/// A connection between two sides.
struct Session {
    feed: Arc<Feed>,
    stream: TransactionStream,
    handle: StreamHandle,
    peer: SecondaryPeer,
    applier: Applier<Replica>,
    request: Option<Tid>,
    /// Whether a transaction has begun to come: then its storage cannot be packed.
    is_within: bool,
}

impl Session {
    fn new(primary: &Side, secondary: &Side) -> Self {
        let (applier, peer) = Applier::new(replica(secondary), true).unwrap();
        let start = secondary.storage.last_transaction().unwrap();
        let (feed, vfs) = (Arc::clone(&primary.feed), Arc::new(OsVfs));
        let stream = TransactionStream::new(
            Arc::clone(&feed),
            vfs,
            String::new(),
            start,
            Dialect::Python3,
        );
        let stream = stream.with_heartbeat();
        let handle = stream.handle();
        handle.capability_offered();
        Self {
            feed,
            stream,
            handle,
            peer,
            applier,
            request: None,
            is_within: false,
        }
    }

    /// Sends a chunk and applies what it completes; `false` if the stream has ended.
    fn step(&mut self, syncs: bool) -> bool {
        if let Some(after) = self.request.take() {
            self.handle.list(after);
        }
        self.feed.heartbeat();
        let Some(chunk) = self.stream.next_chunk().unwrap() else {
            return false;
        };
        self.peer.receive_data(&chunk);
        while let Some(event) = self.peer.next_event().unwrap() {
            match event {
                SecondaryEvent::Begin(_) => self.is_within = true,
                SecondaryEvent::Commit(_) => self.is_within = false,
                _ => {}
            }
            self.applier.apply(event).unwrap();
        }
        if let Some(request) = self.applier.take_request() {
            let Parsed::Known(ControlMessage::List(after)) = ControlMessage::read(&request[4..])
            else {
                panic!("{request:?}");
            };
            self.request = Some(after);
        }
        self.applier.flush().unwrap();
        if syncs {
            self.applier.sync_status().unwrap();
        }
        true
    }

    fn has_all(&self) -> bool {
        let applied = self.applier.applied();
        let last = applied.primary.latest.map(|position| position.last);
        self.request.is_none()
            && last.is_some_and(|last| applied.tid >= last)
            && applied.list != ListState::Pending
    }

    fn finish(mut self) {
        for _ in 0..BOUND {
            assert!(self.step(true));
            if self.has_all() {
                assert_eq!(self.applier.applied().list, ListState::Complete);
                self.applier.end();
                return;
            }
        }
        panic!("it does not end: {:?}", self.applier.applied());
    }
}

/// What happens to three sides, of which the second follows the first, and the third the second.
#[derive(Clone, Debug)]
enum Event {
    Commit {
        oid: u64,
        len: usize,
    },
    Pack {
        side: usize,
        share: u64,
        gc: bool,
    },
    Step {
        of_last: bool,
        syncs: bool,
    },
    Kill {
        of_last: bool,
    },
    End {
        of_last: bool,
    },
    /// An orderly session that gets everything.
    CatchUp,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..3_u64, prop_oneof![Just(10_usize), Just(40_000)])
            .prop_map(|(oid, len)| Event::Commit { oid, len }),
        2 => (0..3_usize, 0..=10_u64, any::<bool>())
            .prop_map(|(side, share, gc)| Event::Pack { side, share, gc }),
        8 => any::<(bool, bool)>()
            .prop_map(|(of_last, syncs)| Event::Step { of_last, syncs }),
        1 => any::<bool>().prop_map(|of_last| Event::Kill { of_last }),
        1 => any::<bool>().prop_map(|of_last| Event::End { of_last }),
        1 => Just(Event::CatchUp),
    ]
}

struct World {
    sides: Vec<Side>,
    sessions: [Option<Session>; 2],
    history: BTreeSet<u64>,
}

impl World {
    fn new(directory: &Path) -> Self {
        let names = ["a.fs", "b.fs", "c.fs"];
        Self {
            sides: names
                .iter()
                .map(|name| Side::open(&directory.join(name)))
                .collect(),
            sessions: [None, None],
            history: BTreeSet::new(),
        }
    }

    fn last(&self) -> u64 {
        self.history.last().copied().unwrap_or(0)
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Commit { oid, len } => {
                let tid = self.last() + STEP;
                self.history.insert(tid);
                self.sides[0].commit(tid, oid, len);
            }
            Event::Pack { side, share, gc } => {
                let session = side
                    .checked_sub(1)
                    .and_then(|at| self.sessions[at].as_ref());
                if session.is_some_and(|session| session.is_within) {
                    return;
                }
                let last = self.sides[side].storage.last_transaction().unwrap();
                self.sides[side].pack(last.as_u64() * share / 10, gc);
            }
            Event::Step { of_last, syncs } => {
                let at = usize::from(of_last);
                let (sides, session) = (&self.sides, &mut self.sessions[at]);
                let session =
                    session.get_or_insert_with(|| Session::new(&sides[at], &sides[at + 1]));
                session.step(syncs);
            }
            Event::Kill { of_last } => self.leave(usize::from(of_last), false),
            Event::End { of_last } => self.leave(usize::from(of_last), true),
            Event::CatchUp => self.catch_up(),
        }
    }

    /// Ends a connection; without order, the secondary's process is killed.
    fn leave(&mut self, at: usize, is_orderly: bool) {
        if let Some(mut session) = self.sessions[at].take() {
            if is_orderly {
                session.applier.end();
                return;
            }
        }
        if !is_orderly {
            // Those that follow it lose their connection too.
            self.sessions[1] = None;
            self.sides[at + 1].reopen();
        }
    }

    fn catch_up(&mut self) {
        for at in 0..2 {
            self.leave(at, true);
            Session::new(&self.sides[at], &self.sides[at + 1]).finish();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn each_side_judges_as_the_first_one_does(
        events in prop::collection::vec(event(), 1..60)
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut world = World::new(directory.path());
        world.happen(&Event::Commit { oid: 0, len: 10 });
        for event in &events {
            world.happen(event);
            for side in &world.sides {
                side.check(&world.history, false);
            }
        }
        world.catch_up();
        world.happen(&Event::Commit { oid: 0, len: 10 });
        world.catch_up();
        world.sides[0].check(&world.history, true);
    }
}

/// Neither neighbour of such a gap is marked as packed, so only the list tells that there is one.
/// It must be durable before the transaction behind the gap is.
#[test]
fn a_gap_that_only_the_list_shows_is_in_it_at_any_moment() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new(directory.path());
    world.happen(&Event::Commit { oid: 0, len: 10 });
    world.happen(&Event::CatchUp);
    for _ in 0..3 {
        for oid in [1, 1] {
            world.happen(&Event::Commit { oid, len: 10 });
        }
        world.sides[0].pack(world.last(), true);
        world.happen(&Event::Commit { oid: 0, len: 10 });
        for _ in 0..4 {
            world.happen(&Event::Step {
                of_last: false,
                syncs: false,
            });
            world.sides[1].check(&world.history, true);
        }
        let last = world.sides[1].storage.last_transaction().unwrap();
        assert_eq!(last.as_u64(), world.last());
        world.happen(&Event::Kill { of_last: false });
        world.sides[1].check(&world.history, true);
    }
}

/// A primary that says what it likes, to a secondary that has asked.
struct Liar {
    side: Side,
    applier: Applier<Replica>,
}

impl Liar {
    fn new(directory: &Path, limit: u64) -> Self {
        let side = Side::open(&directory.join("a.fs"));
        side.commit(STEP, 0, 10);
        let (applier, _) = Applier::new(replica(&side), true).unwrap();
        let mut applier = applier.with_dropped_limit(limit);
        let hello = ControlMessage::Hello {
            start: Tid::from_u64(STEP),
            digest: None,
            checksum: Checksum::Md5,
            heartbeat_interval: None,
            position: None,
            dropped: Some(DroppedOffer::CompleteAfter(Tid::ZERO)),
        };
        applier
            .apply(SecondaryEvent::ControlMessage(hello))
            .unwrap();
        assert!(applier.take_request().is_some());
        Self { side, applier }
    }

    fn say(&mut self, from: u64, to: u64, tids: &[u64]) -> Result<(), String> {
        let control_message = ControlMessage::Dropped(DroppedTransactions {
            from: Tid::from_u64(from),
            to: Tid::from_u64(to),
            complete_after: Tid::ZERO,
            followed: Followed::ByMore,
            tids: tids.iter().map(|tid| Tid::from_u64(*tid)).collect(),
        });
        let event = SecondaryEvent::ControlMessage(control_message);
        self.applier.apply(event).map_err(|error| {
            assert!(matches!(error, ApplyError::Peer(_)));
            error.to_string()
        })
    }
}

#[test]
fn a_list_that_is_not_in_order_breaks_the_protocol() {
    for (from, to, tids) in [
        (0, 9, &[5, 5][..]),
        (0, 9, &[5, 4]),
        (0, 9, &[0]),
        (0, 9, &[10]),
        (1, 9, &[5]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut liar = Liar::new(directory.path(), 100);
        let error = liar.say(from, to, tids).unwrap_err();
        assert!(error.contains("not in order"), "{error}");
    }
    let directory = tempfile::tempdir().unwrap();
    let mut liar = Liar::new(directory.path(), 100);
    liar.say(0, 5, &[1, 5]).unwrap();
    // Another one got lost.
    assert!(liar.say(6, 9, &[8]).is_err());
}

#[test]
fn a_list_that_is_too_long_breaks_the_protocol_and_takes_no_memory() {
    let directory = tempfile::tempdir().unwrap();
    let mut liar = Liar::new(directory.path(), 20_000);
    let mut error = None;
    for number in 0..1000 {
        let from = number * 50;
        let tids: Vec<_> = (from + 1..=from + 50).collect();
        if let Err(said) = liar.say(from, from + 50, &tids) {
            error = Some(said);
            break;
        }
    }
    assert_eq!(
        error.unwrap(),
        "more than 20000 dropped transactions were listed"
    );
    // It waited in a file, which goes with the connection.
    let part = liar.side.path.with_file_name("a.fs.dropped.part");
    assert!(part.exists());
    drop(liar.applier);
    assert!(!part.exists());
}

/// Whatever is asked, and however often, the stream tells it once and ends.
#[test]
fn a_question_is_answered_once_and_the_stream_ends() {
    for after in [0, STEP, 35, u64::MAX] {
        let directory = tempfile::tempdir().unwrap();
        let side = Side::open(&directory.path().join("a.fs"));
        for number in 1..=200 {
            side.commit(number * STEP, number % 2, 10);
        }
        side.pack(190 * STEP, false);
        let mut control_messages = Vec::new();
        let (feed, vfs) = (Arc::clone(&side.feed), Arc::new(OsVfs));
        let mut stream =
            TransactionStream::new(feed, vfs, String::new(), Tid::ZERO, Dialect::Python3);
        stream.handle().capability_offered();
        for again in [after, 0, STEP] {
            stream.handle().list(Tid::from_u64(again));
        }
        side.feed.finish();
        let mut peer = SecondaryPeer::new(Tid::ZERO, true);
        for chunk in 0.. {
            assert!(chunk < 20, "it does not end: {control_messages:?}");
            let Some(chunk) = stream.next_chunk().unwrap() else {
                break;
            };
            peer.receive_data(&chunk);
            while let Some(event) = peer.next_event().unwrap() {
                if let SecondaryEvent::ControlMessage(ControlMessage::Dropped(dropped)) = event {
                    control_messages.push(dropped);
                }
            }
        }
        assert!(matches!(stream.next_chunk(), Ok(None)));
        let told: Vec<_> = control_messages
            .iter()
            .flat_map(|dropped| &dropped.tids)
            .collect();
        assert!(
            told.is_sorted() && control_messages.len() < 20,
            "{control_messages:?}"
        );
        let dropped = (1..=190).filter(|number| *number < 189 && number * STEP > after);
        assert_eq!(told.len(), dropped.count(), "after {after}");
    }
}
