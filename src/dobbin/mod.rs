//! The object log of `dobbin`: objects, changes of objects and streams of bytes in one
//! file that is only appended to, shared by threads and by processes.
//!
//! docs/dobbin-format.md describes the file byte by byte. [`record`] and [`transaction`]
//! own its bytes, [`scan`] reads what is there and judges it, [`Log`] is an open file.
//! What objects are is not known here: their data are pickles that Python makes and reads.
//! Nothing here knows a clock or makes random numbers: the caller brings both.

mod check;
mod commit;
mod copy;
mod error;
mod follow;
mod header;
mod index;
mod index_file;
mod load;
mod log;
mod lookout;
mod open;
mod reader;
mod record;
mod scan;
mod streams;
mod sync;
mod transaction;
mod view;

pub use self::check::{DanglingReference, Dump, Dumped, DumpedRecord, Problem};
pub use self::copy::Fold;
pub use self::error::{Damage, LogError, LogResult};
pub use self::follow::Changes;
pub use self::header::{FORMAT_VERSION, HEADER_LEN, Header, MAGIC};
pub use self::load::Loaded;
pub use self::log::{Durability, Log, Options};
pub use self::lookout::Lookout;
pub use self::record::{HEAD_LEN, Head, Kind};
pub use self::streams::BLOCK_LEN;
