//! Where a secondary is to be connected, and which address is next.

use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use super::addr::Address;
use super::runtime::Host;

/// An attempt that lasts as long was none of those that fail again and again: all other
/// addresses are worth a new attempt at once.
const STEADY: Duration = Duration::from_secs(1);

/// Where to be connected.
pub(super) struct Target {
    /// Any of these will do; none means to wait for one.
    pub(super) addresses: Vec<Address>,
    /// Counts the orders to connect anew.
    pub(super) moves: u64,
    pub(super) closed: bool,
}

/// What to do next.
pub(super) enum Next {
    Connect(Address),
    /// All addresses have failed.
    Pause,
    /// There is no address.
    Wait,
    End,
}

/// The client's side of a target: where it is now, and what has failed.
pub(super) struct Targets {
    receiver: watch::Receiver<Target>,
    moves: u64,
    address: Option<Address>,
    begun: Instant,
    failures: usize,
}

impl Targets {
    pub(super) fn new(receiver: watch::Receiver<Target>) -> Self {
        Self {
            receiver,
            moves: 0,
            address: None,
            begun: Instant::now(),
            failures: 0,
        }
    }

    /// Decides what to do next. After the last address comes the first.
    pub(super) fn next(&mut self, host: &Host) -> Next {
        let over = self.is_over(host);
        let target = self.receiver.borrow_and_update();
        let count = target.addresses.len();
        if over || target.closed {
            return Next::End;
        }
        if count == 0 {
            return Next::Wait;
        }
        let known = self.address.as_ref();
        let elsewhere = known.is_some_and(|known| !target.addresses.contains(known));
        if elsewhere || target.moves != self.moves {
            // The target changed while the last attempt failed: the failures are not its.
            self.address = None;
            self.failures = 0;
        }
        if self.failures >= count {
            return Next::Pause;
        }
        let last = self.address.as_ref();
        let last = last.and_then(|last| target.addresses.iter().position(|it| it == last));
        let next = &target.addresses[last.map_or(0, |last| (last + 1) % count)];
        self.address = Some(next.clone());
        self.moves = target.moves;
        self.begun = Instant::now();
        Next::Connect(next.clone())
    }

    /// Notes that the attempt to be connected to the last address is over.
    pub(super) fn failed(&mut self) {
        let lasted = self.begun.elapsed() >= STEADY;
        self.failures = if lasted { 1 } else { self.failures + 1 };
    }

    /// Begins anew, with the first address.
    pub(super) fn begin(&mut self) {
        self.address = None;
        self.failures = 0;
    }

    /// Goes on after a pause, with the next address.
    pub(super) fn resume(&mut self) {
        self.failures = 0;
    }

    /// Waits until there is another target, or until the end.
    pub(super) async fn changed(&mut self, host: &Host) {
        tokio::select! {
            // An error means that the client is gone.
            _ = self.receiver.changed() => {}
            () = host.exit.cancelled() => {}
        }
    }

    /// Waits until the client is to leave where it is, or to end.
    pub(super) async fn leave(&mut self, host: &Host) {
        loop {
            self.changed(host).await;
            if self.is_over(host) || !self.may_stay() {
                return;
            }
        }
    }

    fn may_stay(&mut self) -> bool {
        let target = self.receiver.borrow_and_update();
        let here = self.address.as_ref();
        let allowed = here.is_some_and(|here| target.addresses.contains(here));
        !target.closed && target.moves == self.moves && allowed
    }

    /// Whether the process ends, or the client has gone without having been closed.
    fn is_over(&self, host: &Host) -> bool {
        host.exit.is_cancelled() || self.receiver.has_changed().is_err()
    }
}
