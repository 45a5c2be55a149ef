//! A secondary's connection, for drivers that apply data as they receive it.

use bytes::Bytes;

use super::ReplicaStorage;
use super::applier::{Applied, Applier, ApplyError};
use crate::proto::SecondaryPeer;

/// The protocol machine of one connection, and the applier of its events.
#[derive(Debug)]
pub struct SecondarySession<S> {
    peer: SecondaryPeer,
    applier: Applier<S>,
    failed: bool,
}

impl<S: ReplicaStorage> SecondarySession<S> {
    /// A session that starts after the storage's last transaction, and its first message. With
    /// `offer` it offers capabilities: a primary that knows them sends control messages, and
    /// what [`Self::take_control_message`] returns must be sent to it.
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

    /// Applies the transactions that these bytes complete; they are visible when this returns.
    /// After an error the transaction begun is aborted, and later bytes are ignored.
    ///
    /// # Errors
    /// [`ApplyError`], which names the side at fault.
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
            .and_then(|()| self.applier.sync_status())
            .map_err(ApplyError::Storage)
    }

    /// Its progress.
    pub fn applied(&self) -> Applied {
        self.applier.applied()
    }

    /// The next message for a primary that reads control messages.
    pub fn take_control_message(&mut self) -> Option<Bytes> {
        self.applier.take_control_message()
    }

    /// The request for the list of dropped transactions; returned once.
    pub fn take_request(&mut self) -> Option<Bytes> {
        self.applier.take_request()
    }

    /// Aborts the transaction begun, and makes the finished ones durable.
    pub fn end(&mut self) {
        self.applier.end();
    }
}
