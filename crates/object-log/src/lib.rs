//! The object log of `dobbin`: objects, changes of objects and streams of bytes in one
//! append-only file that threads and processes share.
//!
//! docs/dobbin-format.md describes the file byte by byte. The modules build on each other in
//! this order, without circles:
//!
//! - the bytes: `header`, `record`, `payloads`;
//! - values read from them: `scan` finds transactions and damage, `index` has the position
//!   of each object, `index_file` saves it, `view` is what one reader has seen of a file, and
//!   `transaction_writer` has the bytes of a new transaction;
//! - `log`, an open file;
//! - its operations: `open`, `follow`, `load`, `streams`, `commit`, `checkpoint`,
//!   `copy`, `commit_waiter`; and `check`, which reads a whole file.
//!
//! The data of objects are pickles, which only Python reads. This module has no clock and no
//! random numbers: the caller provides both.

mod changes;
mod check;
mod checkpoint;
mod commit;
mod commit_waiter;
mod copy;
mod error;
mod follow;
mod header;
mod index;
mod index_file;
mod load;
mod log;
mod open;
mod paths;
mod payloads;
mod reader;
mod record;
mod scan;
mod streams;
mod sync;
mod torn;
mod transaction_writer;
mod view;

pub use self::changes::Changes;
pub use self::check::{DanglingReference, Dump, Dumped, DumpedRecord, Problem};
pub use self::commit_waiter::CommitWaiter;
pub use self::copy::Fold;
pub use self::error::{Damage, LogError, LogResult};
pub use self::header::{HEADER_LEN, Header};
pub use self::load::Loaded;
pub use self::log::{Durability, Log, Options};
pub use self::record::{Head, Kind};
