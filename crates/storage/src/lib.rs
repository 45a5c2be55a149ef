//! Storages: files of transactions on a [`Vfs`](zrs_vfs::Vfs).
//!
//! [`filestorage`] is a storage in one `Data.fs`; [`tail`] follows a file that a storage writes,
//! [`seek`] finds a transaction in it, [`reader`] reads transactions and data records. Nothing in
//! this crate depends on the network, tokio or Python.

pub mod blob;
pub mod check;
mod dropped;
pub mod error;
mod file;
pub mod filestorage;
pub mod format;
pub mod index;
pub mod index_file;
mod open_file;
pub mod pack;
pub mod pickle;
mod reader;
mod records;
pub mod salvage;
mod seek;
mod seek_hints;
mod tail;
mod window;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod samples;

pub use blob::{BlobDirectory, BlobLayout};
pub use dropped::{DroppedTids, Gap, ReceivedList};
pub use file::DataFile;
pub use open_file::OpenFile;
pub use reader::{Reader, TransactionRecord};
pub use records::{DataRecord, DataRecords, RecordCursor, RestOfData};
pub use seek_hints::SeekHints;
pub use tail::{StartPosition, Tail};

/// The logger of ZODB's `FileStorage`.
pub const LOGGER: &str = "ZODB.FileStorage";
