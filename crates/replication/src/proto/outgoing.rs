//! What a primary sends after the handshake.
//!
//! One value per connection: it holds the running checksum. The caller keeps the order
//! transaction, records, commit.

use bytes::{Bytes, BytesMut};

use super::control_message::Remark;
use super::message::{Message, RecordHeader, TransactionMeta};
use super::sized::{LimitExceeded, sized_length, write_sized};
use super::stream_digest::StreamDigest;
use zrs_ids::Tid;
use zrs_storage::pickle::{Dialect, PickleError};

/// Why a transaction cannot be expressed in the protocol.
#[derive(Debug, thiserror::Error)]
pub enum OutgoingError {
    /// Its extension is not a pickle.
    #[error("its extension cannot be sent: {0}")]
    Extension(#[from] PickleError),
    /// One of its records is too long.
    #[error("a record is too long to be sent: {0}")]
    Record(LimitExceeded),
}

/// The outgoing stream of one connection.
#[derive(Debug)]
pub struct Outgoing {
    dialect: Dialect,
    digest: StreamDigest,
    buffer: BytesMut,
    /// For one header at a time.
    header: Vec<u8>,
}

impl Outgoing {
    /// The stream for a secondary whose last transaction is `start`.
    pub fn new(start: Tid, dialect: Dialect) -> Self {
        Self {
            dialect,
            digest: StreamDigest::new(start),
            buffer: BytesMut::new(),
            header: Vec::new(),
        }
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`OutgoingError::Extension`]; then nothing was written.
    pub fn transaction(&mut self, meta: TransactionMeta) -> Result<(), OutgoingError> {
        self.header(&Message::Transaction(meta))
    }

    /// Adds a record; `None` is the undoing of an object's creation.
    ///
    /// # Errors
    /// [`OutgoingError::Record`] for data of four GiB or more.
    pub fn record(
        &mut self,
        header: RecordHeader,
        data: Option<&[u8]>,
    ) -> Result<(), OutgoingError> {
        self.header(&Message::Store(header))?;
        self.append(data.unwrap_or_default())
    }

    /// Adds a record with a blob, whose `blocks` blocks must follow.
    ///
    /// # Errors
    /// As for [`Self::record`].
    pub fn blob(
        &mut self,
        header: RecordHeader,
        data: &[u8],
        blocks: u32,
    ) -> Result<(), OutgoingError> {
        self.header(&Message::Blob(header, blocks))?;
        self.append(data)
    }

    /// Adds a record's beginning, whose data of so many bytes must follow in [`Self::piece`]s;
    /// with `blocks` a blob's, which must follow them.
    ///
    /// # Errors
    /// As for [`Self::record`].
    pub fn long_record(
        &mut self,
        header: RecordHeader,
        length: u64,
        blocks: Option<u32>,
    ) -> Result<(), OutgoingError> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let length = sized_length(length).map_err(OutgoingError::Record)?;
        self.header(&match blocks {
            Some(blocks) => Message::Blob(header, blocks),
            None => Message::Store(header),
        })?;
        self.buffer.extend_from_slice(&length.to_be_bytes());
        Ok(())
    }

    /// Adds some of a record's data.
    pub fn piece(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
        self.digest.update(data);
    }

    /// Adds a block of a blob.
    ///
    /// # Errors
    /// None in practice: a block always fits.
    pub fn block(&mut self, block: &[u8]) -> Result<(), OutgoingError> {
        self.append(block)
    }

    /// Ends the transaction.
    ///
    /// # Errors
    /// None in practice: a digest always fits.
    pub fn commit(&mut self) -> Result<(), OutgoingError> {
        let digest = Bytes::copy_from_slice(self.digest.digest().as_bytes());
        self.header(&Message::Commit(Some(digest)))
    }

    /// Makes a remark, between transactions, to a secondary of our own kind.
    pub fn remark(&mut self, remark: &Remark) {
        // A remark always fits.
        let _ = self.append(&remark.write());
        self.digest.go_on_with(remark.checksum());
    }

    /// How many bytes wait to be taken.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether no bytes wait to be taken.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The bytes to send.
    pub fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    /// Releases the memory of the bytes that were taken, until more are added.
    pub fn release_memory(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        self.header = Vec::new();
    }

    fn header(&mut self, message: &Message) -> Result<(), OutgoingError> {
        let mut header = std::mem::take(&mut self.header);
        header.clear();
        let written = message.write_to(self.dialect, &mut header);
        let appended = match written {
            Ok(()) => self.append(&header),
            Err(error) => Err(error.into()),
        };
        self.header = header;
        appended
    }

    fn append(&mut self, body: &[u8]) -> Result<(), OutgoingError> {
        write_sized(body, &mut self.buffer).map_err(OutgoingError::Record)?;
        self.digest.update(body);
        Ok(())
    }
}
