//! The log of dobbin: its contents after operations, crashes and damage, and the visibility of
//! transactions between instances of one file.

mod copies;
mod crash;
mod damage;
mod faults;
mod sharing;
mod story;
