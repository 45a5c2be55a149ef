//! Sequences of operations on a log, and its expected state after each.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zrs_ids::Oid;
use zrs_object_log::{Log, LogError, LogResult, Options};
use zrs_vfs::sim::{Change, SimVfs};

pub(super) const PATH: &str = "db/log";
pub(super) const INDEX: &str = "db/log.index";

/// A disk with the log's directory, which is empty.
pub(super) fn empty_disk(seed: u64) -> SimVfs {
    SimVfs::new(seed).with_directory("db")
}

/// An operation on a log.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Commit objects with pickles of these lengths, in full or as changes.
    Commit(&'static [(u64, usize)]),
    /// Commit a stream of this many bytes.
    Stream(usize),
    /// Write objects, and fail the transaction before or after its vote.
    Fail(&'static [(u64, usize)], bool),
    /// Write objects and vote; then the process dies, and another one opens the log.
    VoteAndDie(&'static [(u64, usize)]),
    SaveIndex,
    Reopen,
    Compact,
}

/// The state of a log: the pickles of objects, and the bytes of streams.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) objects: BTreeMap<u64, Vec<Vec<u8>>>,
    pub(super) streams: BTreeMap<u64, Vec<u8>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let objects = self.objects.iter().map(|(oid, pickles)| {
            let pickles = pickles
                .iter()
                .map(|pickle| (char::from(pickle[0]), pickle.len()));
            (oid, pickles.collect::<Vec<_>>())
        });
        f.debug_map().entries(objects).finish()?;
        f.debug_list()
            .entries(self.streams.iter().map(|(oid, data)| (oid, data.len())))
            .finish()
    }
}

/// Performs operations. Marks in the record of the file system show which states were begun and
/// which are durable.
pub(super) struct Story {
    pub(super) vfs: SimVfs,
    pub(super) log: Option<Log>,
    pub(super) states: Vec<State>,
    commits: u64,
}

pub(super) fn open(vfs: &SimVfs, read_only: bool) -> LogResult<Log> {
    let options = Options {
        read_only,
        identity: *b"a random number.",
        ..Options::default()
    };
    Log::open(Arc::new(vfs.clone()), Path::new(PATH), options)
}

pub(super) fn begin(log: &Log) -> LogResult<()> {
    while !log.lock(Duration::ZERO)? {}
    if let Err(error) = log.begin(0) {
        drop(log.unlock());
        return Err(error);
    }
    Ok(())
}

/// Commit an object in full; returns the number of the transaction.
pub(super) fn commit(log: &Log, oid: u64, pickle: &[u8]) -> LogResult<u64> {
    begin(log)?;
    let done = (|| {
        log.store_full(Oid::from_u64(oid), &[], pickle)?;
        log.vote()?;
        log.finish()
    })();
    log.unlock()?;
    let number = done?;
    log.sync()?;
    Ok(number)
}

impl Story {
    pub(super) fn new(vfs: SimVfs) -> Self {
        Self {
            vfs,
            log: None,
            states: vec![State::default()],
            commits: 0,
        }
    }

    pub(super) fn log(&self) -> &Log {
        self.log.as_ref().unwrap()
    }

    pub(super) fn present(&self) -> State {
        self.states.last().unwrap().clone()
    }

    pub(super) fn run(&mut self, steps: &[Step]) -> LogResult<()> {
        self.log = Some(open(&self.vfs, false)?);
        self.durable();
        for step in steps {
            self.step(*step)?;
        }
        Ok(())
    }

    /// Mark the last state as durable.
    fn durable(&self) {
        self.vfs.mark(format!("durable {}", self.states.len() - 1));
    }

    pub(super) fn step(&mut self, step: Step) -> LogResult<()> {
        match step {
            Step::Commit(objects) => {
                let state = self.write(objects)?;
                self.finish(state)
            }
            Step::Stream(len) => {
                begin(self.log())?;
                let data: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
                let oid = self.stream(&data)?;
                let mut state = self.present();
                state.streams.insert(oid.as_u64(), data);
                self.finish(state)
            }
            Step::Fail(objects, voted) => {
                self.write(objects)?;
                if voted {
                    self.log().vote()?;
                }
                let failed = self.log().fail();
                self.log().unlock()?;
                failed
            }
            Step::VoteAndDie(objects) => {
                self.write(objects)?;
                self.log().vote()?;
                self.log = None;
                self.log = Some(open(&self.vfs, false)?);
                Ok(())
            }
            Step::SaveIndex => self.log().save_index(),
            Step::Reopen => {
                self.log().close()?;
                self.log = Some(open(&self.vfs, false)?);
                Ok(())
            }
            Step::Compact => {
                while !self.log().lock(Duration::ZERO)? {}
                // Each file needs its own identity, or an index would match two files.
                let identity = [self.commits as u8; 16];
                let compacted = self.log().compact(identity, 0, false, None);
                self.log().unlock()?;
                compacted.map(drop)
            }
        }
    }

    fn stream(&self, data: &[u8]) -> LogResult<Oid> {
        let oid = self.log().begin_stream()?;
        for part in data.chunks(1000) {
            self.log().write_stream(part)?;
        }
        self.log().end_stream()?;
        Ok(oid)
    }

    fn write(&mut self, objects: &[(u64, usize)]) -> LogResult<State> {
        self.commits += 1;
        let mut state = self.present();
        begin(self.log())?;
        for &(number, len) in objects {
            let oid = Oid::from_u64(number);
            let pickle = vec![b'a' + (self.commits % 26) as u8; len];
            if self.log().wants_full(oid)? {
                self.log().store_full(oid, &[oid], &pickle)?;
                state.objects.insert(number, vec![pickle]);
            } else {
                self.log().store_change(oid, &[], &pickle)?;
                state.objects.get_mut(&number).unwrap().push(pickle);
            }
        }
        Ok(state)
    }

    fn finish(&mut self, state: State) -> LogResult<()> {
        self.vfs.mark(format!("begun {}", self.states.len()));
        self.states.push(state);
        let done = self.log().vote().and_then(|()| self.log().finish());
        self.log().unlock()?;
        done?;
        self.log().sync()?;
        self.durable();
        Ok(())
    }

    /// The states that may be found after a crash after these changes.
    pub(super) fn allowed(&self, log: &[Change]) -> &[State] {
        let number = |word: &str| {
            let marks = log.iter().filter_map(|change| match change {
                Change::Mark(mark) => mark.strip_prefix(word),
                _ => None,
            });
            marks
                .last()
                .map_or(0, |number| number.trim().parse::<usize>().unwrap())
        };
        let (durable, begun) = (number("durable"), number("begun"));
        &self.states[durable..=begun.max(durable)]
    }
}

/// The state of a log, for the objects and streams that may exist.
pub(super) fn state_of(log: &Log, known: &State) -> LogResult<State> {
    let mut found = State::default();
    for oid in known.objects.keys() {
        match log.load(Oid::from_u64(*oid)) {
            Ok(loaded) => drop(found.objects.insert(*oid, loaded.pickles)),
            Err(LogError::NoSuchObject(_)) => {}
            Err(error) => return Err(error),
        }
    }
    for oid in known.streams.keys() {
        match stream(log, *oid) {
            Ok(data) => drop(found.streams.insert(*oid, data)),
            Err(LogError::NoSuchObject(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn stream(log: &Log, oid: u64) -> LogResult<Vec<u8>> {
    let oid = Oid::from_u64(oid);
    let mut data = Vec::new();
    loop {
        let block = log.stream_bytes(oid, data.len() as u64)?;
        if block.is_empty() {
            assert_eq!(log.stream_len(oid)?, data.len() as u64);
            return Ok(data);
        }
        data.extend(block);
    }
}
