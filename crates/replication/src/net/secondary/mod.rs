//! The secondary's side: connecting and reconnecting, reading, applying, and its status.

mod apply_queue;
mod client;
mod connect;
mod retry_delay;
mod sending;
mod status;
mod target;

pub use client::{SecondaryClient, SecondaryOptions};
pub use status::{SecondaryState, SecondaryStatus, SessionStatus};
