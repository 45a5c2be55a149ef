//! A secondary's connection for drivers that apply as they receive.

use bytes::Bytes;

use super::ReplicaStorage;
use super::applier::{Applied, Applier, ApplyError};
use crate::proto::SecondaryPeer;

/// The machine of one connection, and what applies its events.
#[derive(Debug)]
pub struct SecondarySession<S> {
    peer: SecondaryPeer,
    applier: Applier<S>,
    failed: bool,
}

impl<S: ReplicaStorage> SecondarySession<S> {
    /// A session that starts after the storage's last transaction, and what it says first.
    /// With `offer` a primary of our own kind will make remarks, and what
    /// [`Self::take_control_message`] returns is to be sent to it.
    ///
    /// # Errors
    /// The storage's.
    pub fn new(storage: S, check_checksums: bool, offer: bool) -> Result<(Self, Bytes), S::Error> {
        let (applier, peer) = Applier::new(storage, check_checksums)?;
        let handshake = peer.greeting(offer);
        let session = Self {
            peer,
            applier,
            failed: false,
        };
        Ok((session, handshake))
    }

    /// Applies what these bytes complete; it can be read when this returns. After an error
    /// the transaction begun is aborted, and later bytes are ignored.
    ///
    /// # Errors
    /// [`ApplyError`], naming the side at fault.
    pub fn receive_data(&mut self, data: &[u8]) -> Result<(), ApplyError<S::Error>> {
        if self.failed {
            return Ok(());
        }
        self.peer.receive_data(data);
        let applied = self.apply_events();
        if applied.is_err() {
            self.failed = true;
            self.applier.end();
        }
        applied
    }

    fn apply_events(&mut self) -> Result<(), ApplyError<S::Error>> {
        while let Some(event) = self.peer.next_event()? {
            self.applier.apply(event)?;
        }
        self.applier
            .flush()
            .and_then(|()| self.applier.settle())
            .map_err(ApplyError::Storage)
    }

    /// What it has done so far.
    pub fn applied(&self) -> Applied {
        self.applier.applied()
    }

    /// What to tell the primary, if it listens.
    pub fn take_control_message(&mut self) -> Option<Bytes> {
        self.applier.take_control_message()
    }

    /// What to ask the primary, once.
    pub fn take_question(&mut self) -> Option<Bytes> {
        self.applier.take_question()
    }

    /// Aborts what was begun and not committed.
    pub fn end(&mut self) {
        self.applier.end();
    }
}
