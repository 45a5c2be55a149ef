//! The addresses of the primary, and the choice of the next one to connect to.

use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use crate::net::addr::Address;
use crate::net::runtime::RuntimeHandle;

/// An attempt that lasts at least this long resets the failure count, so the other addresses are
/// tried without a pause.
const STEADY: Duration = Duration::from_secs(1);

/// Where the secondary is to be connected.
pub(super) struct Target {
    /// Addresses of the primary, each equally good. Empty: wait for one.
    pub(super) addresses: Vec<Address>,
    /// Whether a connection is kept while `addresses` is empty.
    pub(super) stay: bool,
    /// Number of requests to reconnect.
    pub(super) moves: u64,
    pub(super) closed: bool,
}

/// The next step of the client.
pub(super) enum Next {
    Connect(Address),
    /// All addresses have failed.
    Pause,
    /// The target has no address.
    Wait,
    End,
}

/// The client's side of a target: the current address, and the number of failures.
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

    /// Chooses the next step. After the last address comes the first.
    pub(super) fn next(&mut self, runtime: &RuntimeHandle) -> Next {
        let over = self.is_over(runtime);
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
            // The target changed during the last attempt, so the failures do not count for it.
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

    /// Records that the attempt to connect to the current address failed, or its connection ended.
    pub(super) fn failed(&mut self) {
        let lasted = self.begun.elapsed() >= STEADY;
        self.failures = if lasted { 1 } else { self.failures + 1 };
    }

    /// Starts again with the first address.
    pub(super) fn restart(&mut self) {
        self.address = None;
        self.failures = 0;
    }

    /// Continues after a pause, with the next address.
    pub(super) fn resume(&mut self) {
        self.failures = 0;
    }

    /// Waits until the target changes, or the process exits.
    pub(super) async fn changed(&mut self, runtime: &RuntimeHandle) {
        tokio::select! {
            // An error means that the client was dropped.
            _ = self.receiver.changed() => {}
            () = runtime.exit.cancelled() => {}
        }
    }

    /// Waits until the client must leave the current address, or must end.
    pub(super) async fn leave(&mut self, runtime: &RuntimeHandle) {
        loop {
            self.changed(runtime).await;
            if self.is_over(runtime) || !self.may_stay() {
                return;
            }
        }
    }

    fn may_stay(&mut self) -> bool {
        let target = self.receiver.borrow_and_update();
        let here = self.address.as_ref();
        let allowed = if target.addresses.is_empty() {
            target.stay
        } else {
            here.is_some_and(|here| target.addresses.contains(here))
        };
        !target.closed && target.moves == self.moves && allowed
    }

    /// Whether the process exits, or the client was dropped without having been closed.
    fn is_over(&self, runtime: &RuntimeHandle) -> bool {
        runtime.exit.is_cancelled() || self.receiver.has_changed().is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::runtime;

    fn address(port: u16) -> Address {
        Address::Tcp {
            host: "localhost".to_owned(),
            port,
        }
    }

    /// The client's next step as text; a port for an attempt to connect.
    fn next(targets: &mut Targets) -> String {
        match targets.next(&runtime::current().unwrap()) {
            Next::Connect(Address::Tcp { port, .. }) => port.to_string(),
            Next::Connect(Address::Unix(_)) => "a socket".to_owned(),
            Next::Pause => "pause".to_owned(),
            Next::Wait => "wait".to_owned(),
            Next::End => "end".to_owned(),
        }
    }

    fn targets(ports: &[u16]) -> (watch::Sender<Target>, Targets) {
        let (sender, receiver) = watch::channel(Target {
            addresses: ports.iter().copied().map(address).collect(),
            stay: false,
            moves: 0,
            closed: false,
        });
        (sender, Targets::new(receiver))
    }

    #[test]
    fn each_address_is_tried_before_the_pause() {
        let (_sender, mut targets) = targets(&[1, 2, 3]);
        for expected in ["1", "2", "3", "pause", "pause"] {
            assert_eq!(next(&mut targets), expected);
            if expected != "pause" {
                targets.failed();
            }
        }
        targets.resume();
        assert_eq!(next(&mut targets), "1");
    }

    /// Regression test: a target that changed while an attempt failed inherited the failure, and
    /// the secondary waited for the retry delay.
    #[test]
    fn a_new_address_during_a_failing_attempt_is_tried_at_once() {
        let (sender, mut targets) = targets(&[1]);
        assert_eq!(next(&mut targets), "1");
        sender.send_modify(|target| target.addresses = vec![address(2)]);
        targets.failed();
        assert_eq!(next(&mut targets), "2");
        targets.failed();
        assert_eq!(next(&mut targets), "pause");
    }

    #[test]
    fn a_request_to_reconnect_during_a_failing_attempt_is_followed() {
        let (sender, mut targets) = targets(&[1]);
        assert_eq!(next(&mut targets), "1");
        sender.send_modify(|target| target.moves += 1);
        targets.failed();
        assert_eq!(next(&mut targets), "1");
        targets.failed();
        assert_eq!(next(&mut targets), "pause");
    }

    #[test]
    fn an_added_address_during_a_failing_attempt_is_tried_at_once() {
        let (sender, mut targets) = targets(&[1]);
        assert_eq!(next(&mut targets), "1");
        sender.send_modify(|target| target.addresses.push(address(2)));
        targets.failed();
        assert_eq!(next(&mut targets), "2");
        targets.failed();
        assert_eq!(next(&mut targets), "pause");
    }

    #[test]
    fn removal_of_the_last_address_and_close_during_a_failing_attempt_are_followed() {
        let (sender, mut targets) = targets(&[1]);
        assert_eq!(next(&mut targets), "1");
        sender.send_modify(|target| target.addresses.clear());
        targets.failed();
        assert_eq!(next(&mut targets), "wait");
        sender.send_modify(|target| target.addresses.push(address(1)));
        targets.restart();
        assert_eq!(next(&mut targets), "1");
        sender.send_modify(|target| target.closed = true);
        targets.failed();
        assert_eq!(next(&mut targets), "end");
    }

    #[test]
    fn a_connection_may_be_kept_without_an_address() {
        let (sender, mut targets) = targets(&[1]);
        assert_eq!(next(&mut targets), "1");
        sender.send_modify(|target| {
            target.addresses.clear();
            target.stay = true;
        });
        assert!(targets.may_stay());
        sender.send_modify(|target| target.stay = false);
        assert!(!targets.may_stay());
        sender.send_modify(|target| {
            target.addresses.push(address(2));
            target.stay = true;
        });
        assert!(!targets.may_stay());
        // A lost connection is not made again until its address is back.
        sender.send_modify(|target| target.addresses.clear());
        targets.failed();
        assert_eq!(next(&mut targets), "wait");
    }
}
