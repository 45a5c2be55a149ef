//! Encodes what a primary sends after the handshake.
//!
//! Each connection has its own value, which has the running checksum. The caller keeps the
//! order transaction, records, commit.

use bytes::{Bytes, BytesMut};

use super::control_message::ControlMessage;
use super::message::{Message, RecordHeader, TransactionBegin};
use super::sized::{LimitExceeded, sized_length, write_sized};
use super::stream_digest::StreamDigest;
use zrs_ids::Tid;
use zrs_storage::pickle::{Dialect, PickleError};

/// Why a transaction cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum OutgoingError {
    /// Its extension is not a pickle.
    #[error("its extension cannot be sent: {0}")]
    Extension(#[from] PickleError),
    /// A record is too long.
    #[error("a record is too long to be sent: {0}")]
    Record(LimitExceeded),
}

/// The outgoing stream of one connection.
#[derive(Debug)]
pub struct Outgoing {
    dialect: Dialect,
    digest: StreamDigest,
    buffer: BytesMut,
    /// Scratch space for a header.
    header: Vec<u8>,
}

impl Outgoing {
    /// A stream for a secondary whose last transaction is `start`.
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
    /// [`OutgoingError::Extension`]; the buffer is unchanged.
    pub fn transaction(&mut self, meta: TransactionBegin) -> Result<(), OutgoingError> {
        self.header(&Message::Transaction(meta))
    }

    /// Adds a record; `None` undoes the creation of the object.
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

    /// Adds a record with a blob. The caller must add `blocks` blocks next.
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

    /// Begins a record. The caller must add `length` bytes of data with [`Self::piece`], then
    /// this many blocks if `blocks` is given.
    ///
    /// # Errors
    /// As for [`Self::record`].
    pub(crate) fn long_record(
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

    /// Adds a piece of a record's data.
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

    /// Adds a control message. Allowed only between transactions, after a capability offer.
    pub fn control_message(&mut self, control_message: &ControlMessage) {
        // A control message always fits.
        let _ = self.append(&control_message.write());
        self.digest.switch_to(control_message.checksum());
    }

    /// Number of bytes to be taken.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether no bytes are left to be taken.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The bytes to send.
    pub fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    /// Releases the buffers. The next bytes allocate them again.
    pub(crate) fn release_memory(&mut self) {
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
