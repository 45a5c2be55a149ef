//! The native part of `dobbin.Database`: the object log.

mod dump;
mod fold;
mod log;
mod wait;

pub(crate) use dump::{LogDump, LoggedTransaction};
pub(crate) use log::ObjectLog;
