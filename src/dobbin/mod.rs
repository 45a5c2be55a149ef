//! The object log of `dobbin`: objects, changes of objects and streams of bytes in one
//! file that is only appended to, shared by threads and by processes.
//!
//! docs/dobbin-format.md describes the file byte by byte. [`record`] and [`payloads`]
//! own its bytes, [`scan`] reads what is there and judges it, [`Log`] is an open file.
//! What objects are is not known here: their data are pickles that Python makes and reads.
//! Nothing here knows a clock or makes random numbers: the caller brings both.

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
pub use self::header::{FORMAT_VERSION, HEADER_LEN, Header, MAGIC};
pub use self::load::Loaded;
pub use self::log::{Durability, Log, Options};
pub use self::payloads::BLOCK_LEN;
pub use self::record::{HEAD_LEN, Head, Kind};
