//! Whether a path still leads to the file that a process has open under it.

use std::io;
use std::path::Path;

use super::{Identity, Vfs};

/// What the owner of an open file knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which file it is.
    pub identity: Identity,
    /// Whether the owner is replacing it, so that the path may lead elsewhere for a moment.
    pub is_moving: bool,
}

/// Where an open file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At its path, or nothing is known of it.
    Here,
    /// Its owner is replacing it.
    Moving,
    /// No longer at its path: somebody else removed it or put another file there.
    Elsewhere,
}

/// Compare the file at `path` with the one that its owner has open, which `held` gives, or
/// `None` if the owner has none open.
///
/// # Errors
/// The system's, but for a path that leads to nothing.
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
        // The owner may have replaced its file since it was asked.
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
