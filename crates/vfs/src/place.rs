//! Whether a path still names the file that a process opened there.

use std::io;
use std::path::Path;

use super::{Identity, Vfs};

/// An open file, as its owner describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which file it is.
    pub identity: Identity,
    /// Whether the owner is replacing it, so that the path may name another file for a moment.
    pub is_moving: bool,
}

/// Where an open file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At its path, or unknown.
    Here,
    /// Its owner is replacing it.
    Moving,
    /// No longer at its path: another process removed it or put another file there.
    Elsewhere,
}

/// Compare the file at `path` with the one that its owner has open. `held` returns the latter,
/// or `None` if the owner has no open file.
///
/// # Errors
/// The system's, except that a missing file is not an error.
pub fn place(vfs: &dyn Vfs, path: &Path, held: &dyn Fn() -> Option<Held>) -> io::Result<Place> {
    let Some(mut before) = held() else {
        return Ok(Place::Here);
    };
    loop {
        let found = match vfs.metadata(path) {
            Ok(metadata) => Some(metadata.identity),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if found == Some(before.identity) {
            return Ok(Place::Here);
        }
        // The owner may have replaced its file since `held` was called.
        match held() {
            None => return Ok(Place::Here),
            Some(after) if after.is_moving => return Ok(Place::Moving),
            Some(after) if after.identity == before.identity && !before.is_moving => {
                return Ok(Place::Elsewhere);
            }
            Some(after) => before = after,
        }
    }
}
