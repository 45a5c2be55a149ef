//! The dropped transactions that are sent to one secondary, in the order of the history.
//!
//! A secondary has the beginning of the primary's history, without the transactions that packs
//! had dropped when it was sent. It requests the list from the tid at which its own list ends.
//! First the stream sends the history from there to the transaction sent last: the dropped
//! transactions, and those of the file that the secondary may have dropped itself. From then on
//! it sends what was dropped between two transactions before the later one.

use crate::proto::{ControlMessage, DroppedTransactions, Followed, TIDS_PER_MESSAGE};
use zrs_ids::Tid;
use zrs_storage::error::StorageResult;
use zrs_storage::format::TransactionStatus;
use zrs_storage::{DroppedTids, Gap, Tail, TransactionRecord};

/// Number of transactions walked over before the stream checks whether to go on.
const BATCH: usize = 4096;

/// What was sent to a secondary, and what is sent next.
pub(super) struct Listing {
    /// The secondary's last transaction when the connection began.
    start: Tid,
    /// Everything dropped up to this tid was sent.
    sent_to: Tid,
    state: State,
    tids: DroppedTids,
    /// The file and the list that were read.
    edition: Edition,
    /// Whether the last transaction sent is marked as packed.
    after_packed: bool,
}

/// A file, and a version of its list.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Edition {
    file: u64,
    list: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Walking towards the last transaction sent; the current position.
    Behind { position: Option<u64> },
    /// Everything up to the last transaction sent was listed.
    Level,
    /// The list does not cover what was dropped next.
    Unknown,
}

/// What to do next.
pub(super) enum Next {
    /// Send this, then call again.
    Say(ControlMessage),
    /// Call again.
    Again,
    /// Continue with transactions.
    Nothing,
}

impl Listing {
    /// A listing for a secondary whose last transaction is `start`, and whose list is complete up
    /// to `after`.
    pub(super) fn new(tail: &Tail, start: Tid, after: Tid, list: u64) -> StorageResult<Self> {
        let file = tail.times_replaced();
        Ok(Self {
            start,
            sent_to: after,
            state: State::Behind { position: None },
            tids: tail.dropped_after(after)?,
            edition: Edition { file, list },
            after_packed: false,
        })
    }

    /// What to send before `next`, or at the end of the file. `list` increases whenever the list is
    /// replaced.
    pub(super) fn next(
        &mut self,
        tail: &Tail,
        next: Option<&TransactionRecord>,
        list: u64,
    ) -> StorageResult<Next> {
        let here = next.map_or(tail.position(), |record| record.position);
        self.look_again(tail, here, list)?;
        match self.state {
            State::Behind { position } => self.catch_up(tail, position, here),
            State::Unknown => Ok(Next::Nothing),
            State::Level => self.between(here, next),
        }
    }

    /// Records that a transaction is sent.
    pub(super) fn sent(&mut self, record: &TransactionRecord) -> StorageResult<()> {
        self.after_packed = is_packed(record);
        if self.state == State::Level {
            self.sent_to = self.sent_to.max(record.tid);
            self.tids.skip(record.tid)?;
        }
        Ok(())
    }

    /// Switches to another list, if it was replaced, or to another file.
    fn look_again(&mut self, tail: &Tail, here: u64, list: u64) -> StorageResult<()> {
        let file = tail.times_replaced();
        let edition = Edition { file, list };
        if edition == self.edition {
            return Ok(());
        }
        self.edition = edition;
        self.tids = tail.dropped_after(self.sent_to)?;
        self.after_packed = tail.is_packed_before(here)?;
        if self.state != State::Level {
            self.state = State::Behind { position: None };
        }
        Ok(())
    }

    /// Walks over the file up to `here`, the end of the last transaction sent.
    fn catch_up(&mut self, tail: &Tail, position: Option<u64>, here: u64) -> StorageResult<Next> {
        let position = match position {
            Some(position) => position,
            None => match tail.place_after(self.sent_to)? {
                Some(position) => position,
                // The stream was stopped.
                None => return Ok(Next::Nothing),
            },
        };
        let from = self.sent_to;
        let mut found = Vec::new();
        let (mut left, mut is_known) = (BATCH, true);
        let (tids, start, sent_to) = (&mut self.tids, self.start, &mut self.sent_to);
        let position = if position >= here {
            here
        } else {
            tail.walk(position, |tid, gap| {
                is_known = tids.covers(gap);
                if gap.position >= here || !is_known || left == 0 {
                    return Ok(false);
                }
                left -= 1;
                while found.len() < TIDS_PER_MESSAGE {
                    match tids.next_before(tid)? {
                        Some(dropped) => found.push(dropped),
                        None => break,
                    }
                    *sent_to = found.last().copied().unwrap_or(*sent_to);
                }
                if found.len() >= TIDS_PER_MESSAGE {
                    return Ok(false);
                }
                tids.skip(tid)?;
                if tid <= start {
                    found.push(tid);
                }
                *sent_to = tid.max(*sent_to);
                Ok(true)
            })?
        };
        let is_level = position >= here;
        let followed = if is_level {
            self.state = State::Level;
            self.after_packed = tail.is_packed_before(here)?;
            Followed::ByNothing
        } else if is_known {
            let position = Some(position);
            self.state = State::Behind { position };
            Followed::ByMore
        } else {
            self.state = State::Unknown;
            Followed::ByUnknown
        };
        if followed == Followed::ByMore && found.is_empty() {
            self.sent_to = from;
            return Ok(Next::Again);
        }
        Ok(Next::Say(self.control_message(from, followed, found)))
    }

    /// What was dropped after the last transaction sent.
    fn between(&mut self, here: u64, next: Option<&TransactionRecord>) -> StorageResult<Next> {
        let gap = Gap {
            position: here,
            after_packed: self.after_packed,
            before_packed: next.is_some_and(is_packed),
        };
        let from = self.sent_to;
        if !self.tids.covers(gap) {
            if next.is_none() {
                return Ok(Next::Nothing);
            }
            self.state = State::Unknown;
            return Ok(Next::Say(self.control_message(
                from,
                Followed::ByUnknown,
                Vec::new(),
            )));
        }
        let limit = match next {
            Some(record) => record.tid,
            None if self.tids.is_current() => Tid::MAX,
            None => return Ok(Next::Nothing),
        };
        let mut found = Vec::new();
        while found.len() < TIDS_PER_MESSAGE {
            match self.tids.next_before(limit)? {
                Some(dropped) => found.push(dropped),
                None => break,
            }
        }
        let Some(last) = found.last() else {
            return Ok(Next::Nothing);
        };
        self.sent_to = *last;
        let followed = if self.tids.has_before(limit)? {
            Followed::ByMore
        } else {
            Followed::ByNothing
        };
        Ok(Next::Say(self.control_message(from, followed, found)))
    }

    fn control_message(&self, from: Tid, followed: Followed, tids: Vec<Tid>) -> ControlMessage {
        ControlMessage::Dropped(DroppedTransactions {
            from,
            to: self.sent_to,
            complete_after: self.tids.complete_after().unwrap_or(Tid::ZERO),
            followed,
            tids,
        })
    }
}

fn is_packed(record: &TransactionRecord) -> bool {
    record.status == TransactionStatus::Packed
}
