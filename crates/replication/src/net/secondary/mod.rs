//! The secondary's side: connecting, reading, applying, and the status.

mod apply_queue;
mod client;
mod connect;
mod retry_delay;
mod sending;
mod status;
mod target;

pub use client::{SecondaryClient, SecondaryOptions};
pub use status::{SecondaryState, SecondaryStatus, SessionStatus};
