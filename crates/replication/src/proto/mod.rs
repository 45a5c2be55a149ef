//! The replication protocol, without sockets, files, clocks or threads.
//!
//! Two machines, [`PrimaryPeer`] and [`SecondaryPeer`], take the bytes that arrived and are
//! then asked for events until there are none. [`Outgoing`] makes the bytes that a primary
//! sends. docs/protocol.md describes the stream; the facts behind it were captured from
//! zc.zrs 2.x and 3.x.

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

pub use control_message::{FailureReason, Goal, KNOCK, REMARK_LIMIT, RefusalReason, Remark};
pub use dropped::{DroppedOffer, DroppedTransactions, Followed, TIDS_IN_A_REMARK};
pub use message::{Message, RecordHeader, TransactionMeta};
pub use node_name::{NodeName, NotANodeName};
pub use outgoing::{Outgoing, OutgoingError};
pub use primary::{PrimaryEvent, PrimaryPeer};
pub use secondary::{Record, SecondaryEvent, SecondaryPeer};
pub use sized::{LimitExceeded, SizedReader, write_sized};
pub use stream_digest::{Checksum, Digest, StreamDigest};

use zrs_ids::Tid;
use zrs_storage::pickle::PickleError;

/// The protocol without blobs.
pub const ZRS_2_0: &[u8; 6] = b"zrs2.0";
/// The protocol with blobs.
pub const ZRS_2_1: &[u8; 6] = b"zrs2.1";
/// The bytes of a blob's block; the last one may be shorter.
pub const BLOCK_LENGTH: usize = 1 << 16;
/// The longest message that a secondary may send unless it knocked: a protocol's name or a
/// tid.
pub const CLIENT_MESSAGE_LIMIT: usize = 8;
/// The longest header: three fields of 65,535 bytes, each byte as two, and some more.
pub const HEADER_LIMIT: usize = 1 << 19;
/// The longest data record that a secondary takes unless told otherwise.
pub const RECORD_LIMIT: usize = 1 << 30;

/// What a peer did that ends its connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// A message longer than any that may come now.
    #[error("message too large: {}{}", .0, .0.hint())]
    MessageTooLarge(LimitExceeded),
    /// The first message of a secondary names no protocol that we speak.
    #[error("Invalid protocol {}", zrs_ids::python_bytes(.0))]
    InvalidProtocol(Vec<u8>),
    /// A secondary that stores no blobs asks a primary that does.
    #[error("Invalid protocol {}. Require >= 2.1", zrs_ids::python_bytes(.0))]
    BlobsRequired(Vec<u8>),
    /// The second message of a secondary is not a tid.
    #[error("Invalid transaction id, {}", zrs_ids::python_bytes(.0))]
    InvalidTid(Vec<u8>),
    /// A secondary sent more than the handshake.
    #[error("Too many messages")]
    TooManyMessages,
    /// A header that is malformed or holds what no header may hold.
    #[error("malformed header: {0}")]
    BadHeader(#[from] PickleError),
    /// A message that has no place here.
    #[error("unexpected {found} message {during}")]
    UnexpectedMessage {
        /// The kind of message.
        found: char,
        /// Where in the stream it came.
        during: &'static str,
    },
    /// The bytes of the stream are not those that the primary sent.
    #[error("bad checksum after transaction {tid}: expected {expected:?}, got {got}")]
    BadChecksum {
        /// The transaction in question.
        tid: Tid,
        /// The digest of what arrived.
        expected: Digest,
        /// What the primary sent in its place, as Python would print it.
        got: String,
    },
    /// A transaction that is not later than the one before it.
    #[error("transaction {tid} does not come after {last}")]
    TidNotIncreasing {
        /// The transaction's tid.
        tid: Tid,
        /// The last one.
        last: Tid,
    },
    /// A record with a later tid than its transaction.
    #[error("a record of transaction {tid} has the tid {record}")]
    RecordTidTooHigh {
        /// The transaction's tid.
        tid: Tid,
        /// The record's.
        record: Tid,
    },
    /// Dropped transactions that do not follow those before, or are not in order.
    #[error("the list of dropped transactions is not in order at {found}, after {last}")]
    DroppedOrder {
        /// The one that is not later, or does not follow.
        found: Tid,
        /// The last one before it.
        last: Tid,
    },
    /// More dropped transactions than a list may have.
    #[error("more than {0} dropped transactions were listed")]
    TooManyDropped(u64),
    /// A blob of another revision than the transaction's own, whose file may exist already.
    #[error("a blob of transaction {tid} has the tid {record}")]
    BlobTidDiffers {
        /// The transaction's tid.
        tid: Tid,
        /// The blob's.
        record: Tid,
    },
}
