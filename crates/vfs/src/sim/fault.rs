//! Which calls fail.

use std::io;

/// A call, or a range of calls, that fails.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The number of the first call that may fail, counted as [`super::SimVfs::calls`]
    /// does.
    pub call: u64,
    /// The system's error number: 5 is EIO, 28 ENOSPC.
    pub errno: i32,
    /// Which calls fail.
    pub extent: Extent,
    /// Whether a failing write still writes the first half of its data.
    pub short: bool,
}

/// Which calls a [`Fault`] makes fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Only that call, of any kind.
    Once,
    /// From that call on, the calls that may need space: writing, extending, creating and
    /// linking files. This simulates a full disk.
    TakesSpace,
    /// From that call on, syncs of files.
    Syncs,
    /// All calls from that one on.
    All,
}

/// The kind of a call, for [`Extent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    TakesSpace,
    Sync,
    Other,
}

/// An injected failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    errno: i32,
    pub(super) short: bool,
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::from_raw_os_error(failure.errno)
    }
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    planned: Vec<Fault>,
    calls: u64,
    failures: u64,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.planned.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    /// Count a call; return an error if it is to fail.
    pub(super) fn call(&mut self, kind: Call) -> Result<(), Failure> {
        let number = self.calls;
        self.calls += 1;
        let hit = self.planned.iter().find(|fault| match fault.extent {
            Extent::Once => number == fault.call,
            Extent::TakesSpace => number >= fault.call && kind == Call::TakesSpace,
            Extent::Syncs => number >= fault.call && kind == Call::Sync,
            Extent::All => number >= fault.call,
        });
        let Some(&Fault { errno, short, .. }) = hit else {
            return Ok(());
        };
        self.failures += 1;
        Err(Failure { errno, short })
    }
}
