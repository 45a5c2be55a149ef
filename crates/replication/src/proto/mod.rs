//! The replication protocol, without sockets, files, clocks or threads.
//!
//! Two state machines, [`PrimaryPeer`] and [`SecondaryPeer`], take the bytes that arrived. The
//! driver then takes their events until none is left. [`Outgoing`] encodes what a primary
//! sends. docs/protocol.md describes the stream; its details were captured from zc.zrs 2.x
//! and 3.x.

mod control_message;
mod dropped;
mod fields;
mod message;
mod node_name;
mod outgoing;
mod primary;
mod secondary;
mod sized;
mod stream_digest;

pub use control_message::{
    CONTROL_MESSAGE_LIMIT, ControlMessage, FailureReason, Parsed, PrimaryPosition, RefusalReason,
};
pub(crate) use dropped::TIDS_PER_MESSAGE;
pub use dropped::{DroppedOffer, DroppedTransactions, Followed};
pub use message::{RecordHeader, TransactionBegin};
pub use node_name::{NodeName, NotANodeName};
pub use outgoing::{Outgoing, OutgoingError};
pub use primary::{PrimaryEvent, PrimaryPeer};
pub use secondary::{Record, SecondaryEvent, SecondaryPeer};
pub use sized::{LimitExceeded, write_sized};
pub use stream_digest::{Checksum, Digest};

use zrs_ids::Tid;
use zrs_storage::pickle::PickleError;

/// The protocol without blobs.
const ZRS_2_0: &[u8; 6] = b"zrs2.0";
/// The protocol with blobs.
const ZRS_2_1: &[u8; 6] = b"zrs2.1";
/// Size of a block of a blob, in bytes; the last block may be shorter.
pub(crate) const BLOCK_LENGTH: usize = 1 << 16;
/// Maximum length of a message from a secondary that has made no capability offer: the name of
/// a protocol, or a tid.
const CLIENT_MESSAGE_LIMIT: usize = 8;
/// Maximum length of a header: three fields of 65,535 bytes, each byte encoded as two, and the
/// rest of the pickle.
const HEADER_LIMIT: usize = 1 << 19;
/// Default for the maximum length of a data record that a secondary accepts.
const RECORD_LIMIT: usize = 1 << 30;

/// A violation of the protocol by the peer, which ends the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// A message exceeds the maximum length at this point of the stream.
    #[error("message too large: {}{}", .0, .0.hint())]
    MessageTooLarge(LimitExceeded),
    /// The first message of a secondary names an unknown protocol.
    #[error("Invalid protocol {}", zrs_ids::python_bytes(.0))]
    InvalidProtocol(Vec<u8>),
    /// A secondary without blobs connected to a primary with blobs.
    #[error("Invalid protocol {}. Require >= 2.1", zrs_ids::python_bytes(.0))]
    BlobsRequired(Vec<u8>),
    /// The second message of a secondary is not a tid.
    #[error("Invalid transaction id, {}", zrs_ids::python_bytes(.0))]
    InvalidTid(Vec<u8>),
    /// A secondary sent more messages than the handshake.
    #[error("Too many messages")]
    TooManyMessages,
    /// A header is malformed, or has values that are not allowed in a header.
    #[error("malformed header: {0}")]
    BadHeader(#[from] PickleError),
    /// A message is not allowed at this point of the stream.
    #[error("unexpected {found} message {during}")]
    UnexpectedMessage {
        /// The kind of message.
        found: char,
        /// The point of the stream.
        during: &'static str,
    },
    /// The bytes received are not those that the primary sent.
    #[error("bad checksum after transaction {tid}: expected {expected:?}, got {got}")]
    BadChecksum {
        /// The transaction that the checksum follows.
        tid: Tid,
        /// The digest of the bytes received.
        expected: Digest,
        /// The digest that the primary sent, as Python prints it.
        got: String,
    },
    /// A transaction is not later than the previous one.
    #[error("transaction {tid} does not come after {last}")]
    TidNotIncreasing {
        /// The transaction's tid.
        tid: Tid,
        /// The previous transaction's.
        last: Tid,
    },
    /// A record has a later tid than its transaction.
    #[error("a record of transaction {tid} has the tid {record}")]
    RecordTidTooHigh {
        /// The transaction's tid.
        tid: Tid,
        /// The record's.
        record: Tid,
    },
    /// Dropped transactions do not follow the previous ones, or are not in order.
    #[error("the list of dropped transactions is not in order at {found}, after {last}")]
    DroppedOrder {
        /// The transaction that is not later, or does not follow.
        found: Tid,
        /// The transaction before it.
        last: Tid,
    },
    /// More dropped transactions than a list can have.
    #[error("more than {0} dropped transactions were listed")]
    TooManyDropped(u64),
    /// A blob belongs to the revision of another transaction; its file may exist already.
    #[error("a blob of transaction {tid} has the tid {record}")]
    BlobTidDiffers {
        /// The transaction's tid.
        tid: Tid,
        /// The blob's.
        record: Tid,
    },
}
