//! Pickles as data: their opcodes, the range of each value, and the few forms that the
//! replication protocol uses.
//!
//! No code here builds a Python object or imports a class. Every pickle from outside is first
//! read by [`scan()`], iteratively and with limits, before `serde-pickle` (which recurses)
//! decodes it. The opcodes are those of Python's `pickletools`.

mod blob;
mod class;
mod dialect;
mod error;
mod extension;
mod header;
mod opcode;
mod plain;
mod python2;
pub mod refs;
mod scan;
mod stack;

pub use blob::is_blob_record;
pub use class::class_name;
pub use dialect::Dialect;
pub use error::PickleError;
pub use extension::Extension;
pub use header::{Field, Header, HeaderWriter};
pub use plain::PlainHeader;
pub use scan::{Policy, Scan, scan};
