//! Where a secondary is to be connected, and which address is next.

use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use crate::net::addr::Address;
use crate::net::runtime::Host;

/// An attempt that lasts as long was none of those that fail again and again: all other
/// addresses are worth a new attempt at once.
const STEADY: Duration = Duration::from_secs(1);

/// Where to be connected.
pub(super) struct Target {
    /// Any of these will do; none means to wait for one.
    pub(super) addresses: Vec<Address>,
    /// Whether a connection stays while there are no addresses.
    pub(super) stay: bool,
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
        let allowed = if target.addresses.is_empty() {
            target.stay
        } else {
            here.is_some_and(|here| target.addresses.contains(here))
        };
        !target.closed && target.moves == self.moves && allowed
    }

    /// Whether the process ends, or the client has gone without having been closed.
    fn is_over(&self, host: &Host) -> bool {
        host.exit.is_cancelled() || self.receiver.has_changed().is_err()
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

    /// What the client does next, the ports it connects to as numbers.
    fn next(targets: &mut Targets) -> String {
        match targets.next(&runtime::host().unwrap()) {
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

    /// A secondary that was moved in the moment when its attempt failed took the failure
    /// for the new address's, and waited out its delay.
    #[test]
    fn a_move_while_an_attempt_fails_is_not_lost() {
        let (sender, mut targets) = targets(&[1]);
        assert_eq!(next(&mut targets), "1");
        sender.send_modify(|target| target.addresses = vec![address(2)]);
        targets.failed();
        assert_eq!(next(&mut targets), "2");
        targets.failed();
        assert_eq!(next(&mut targets), "pause");
    }

    #[test]
    fn an_order_to_connect_anew_while_an_attempt_fails_is_not_lost() {
        let (sender, mut targets) = targets(&[1]);
        assert_eq!(next(&mut targets), "1");
        sender.send_modify(|target| target.moves += 1);
        targets.failed();
        assert_eq!(next(&mut targets), "1");
        targets.failed();
        assert_eq!(next(&mut targets), "pause");
    }

    #[test]
    fn one_more_address_while_an_attempt_fails_is_tried_at_once() {
        let (sender, mut targets) = targets(&[1]);
        assert_eq!(next(&mut targets), "1");
        sender.send_modify(|target| target.addresses.push(address(2)));
        targets.failed();
        assert_eq!(next(&mut targets), "2");
        targets.failed();
        assert_eq!(next(&mut targets), "pause");
    }

    #[test]
    fn the_last_address_that_goes_and_the_end_while_an_attempt_fails_are_not_lost() {
        let (sender, mut targets) = targets(&[1]);
        assert_eq!(next(&mut targets), "1");
        sender.send_modify(|target| target.addresses.clear());
        targets.failed();
        assert_eq!(next(&mut targets), "wait");
        sender.send_modify(|target| target.addresses.push(address(1)));
        targets.begin();
        assert_eq!(next(&mut targets), "1");
        sender.send_modify(|target| target.closed = true);
        targets.failed();
        assert_eq!(next(&mut targets), "end");
    }

    #[test]
    fn a_connection_may_stay_while_there_is_no_address() {
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
        // What was lost is not connected again before its address is back.
        sender.send_modify(|target| target.addresses.clear());
        targets.failed();
        assert_eq!(next(&mut targets), "wait");
    }
}
