//! The log of dobbin: what it gives back, what a crash or a flipped byte leaves of it, and
//! what instances of one file see of each other.

mod copies;
mod crash;
mod damage;
mod faults;
mod sharing;
mod story;
