//! Packing: writes a `Data.fs` anew without what is no longer needed at a given time.
//!
//! The result is byte for byte that of ZODB's pack. A pack runs beside commits: it reads
//! committed transactions only, through a handle of its own, and catches up with those
//! that are committed meanwhile. Who packs calls [`Pack::start`], then [`Pack::catch_up`]
//! until little is left, takes the commit lock, catches up for the last time, calls
//! [`Pack::finish`], and puts the new file into the place of the old one.
//!
//! [`reach`] decides what is kept, [`copy`] writes it. Nothing here takes a lock.

mod blobs;
mod copy;
mod lookup;
mod output;
mod progress;
mod reach;
mod walk;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use self::blobs::{Dropped, DroppedBlobs};
pub use self::progress::{Phase, Progress};
pub use self::reach::References;

use self::copy::Copier;
use self::output::Output;
use super::file::{DataFile, io_error};
use super::index::Index;
use crate::error::{StorageError, StorageResult};
use crate::ids::{Oid, Tid};
use crate::pickle::refs::ReferenceReader;
use crate::vfs::Vfs;

/// What to pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The pack time: what was current then is kept, and all that is later.
    pub time: Tid,
    /// Whether objects that cannot be reached from the root are dropped.
    pub gc: bool,
}

/// Where a pack writes, and where it tells how far it has come.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The file system.
    pub vfs: &'a Arc<dyn Vfs>,
    /// The new file.
    pub path: &'a Arc<Path>,
    /// Told of each step.
    pub progress: &'a Arc<Progress>,
}

/// A pack at work. Dropped before it is finished, it removes its file.
pub struct Pack {
    copier: Copier,
    leftover: Leftover,
}

/// A finished pack.
#[derive(Debug)]
pub struct Packed {
    /// The objects of the packed file.
    pub index: Index,
    /// Where its last transaction ends: its length.
    pub end: u64,
}

impl Pack {
    /// Packs the transactions of `source` that end at `end` or before into a new file at
    /// `target`. Returns `None`, and leaves no file, if there is nothing to
    /// pack: all is packed already to this time or a later one, or no byte would be saved.
    ///
    /// The storage must not be empty. With `blobs` given, records that are dropped are
    /// reported.
    ///
    /// # Errors
    /// Those of `references` and `blobs`; [`StorageError::NoSuchObject`] if an object that
    /// is reached is not there; [`StorageError::Corrupt`]; [`StorageError::Io`].
    pub fn start<E: From<StorageError>>(
        target: Target<'_>,
        source: &DataFile,
        end: u64,
        options: &Options,
        references: &mut References<'_, E>,
        blobs: Option<&mut DroppedBlobs<'_, E>>,
    ) -> Result<Option<Self>, E> {
        let Target {
            vfs,
            path,
            progress,
        } = target;
        let Some(reachable) = reach::find(source, end, options, progress, references)? else {
            return Ok(None);
        };
        let file = vfs.create_like(path, source.path());
        let file = file.map_err(|e| io_error(path, e))?;
        let leftover = Leftover {
            vfs: Arc::clone(vfs),
            path: Some(Arc::clone(path)),
        };
        let mut copier = Copier::new(source, Output::new(file, path), progress)?;
        progress.begin(Phase::Copying, end);
        copier.copy_reachable(&reachable, blobs)?;
        if copier.end() == reachable.pack_position {
            return Ok(None);
        }
        copier.copy_rest(end)?;
        // What is left to be synced at the end, when commits wait, is little.
        copier.sync()?;
        Ok(Some(Self { copier, leftover }))
    }

    /// Copies the transactions that end at `end` or before and were not copied yet. `end` is
    /// where a committed transaction ends.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`]; [`StorageError::Io`]. The pack is over then.
    pub fn catch_up(&mut self, end: u64) -> StorageResult<()> {
        self.copier.copy_rest(end)
    }

    /// Makes the file durable, its name included. It stays from here on.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn finish(mut self) -> StorageResult<Packed> {
        self.copier.sync()?;
        self.leftover.keep()?;
        Ok(Packed {
            end: self.copier.end(),
            index: self.copier.into_index(),
        })
    }
}

/// The references of a record, read from its opcodes, for [`Pack::start`].
///
/// # Errors
/// The returned function's: [`StorageError::References`] for a record that only Python can
/// read.
pub fn native_references() -> impl FnMut(Oid, &[u8], &mut Vec<Oid>) -> StorageResult<()> {
    let mut reader = ReferenceReader::new();
    move |oid, record, oids| {
        reader
            .read(record, oids)
            .map_err(|error| StorageError::References {
                oid,
                reason: error.to_string(),
            })
    }
}

/// Removes a file unless it is to be kept.
struct Leftover {
    vfs: Arc<dyn Vfs>,
    path: Option<Arc<Path>>,
}

impl Leftover {
    fn keep(mut self) -> StorageResult<()> {
        let Some(path) = self.path.take() else {
            return Ok(());
        };
        let directory = path.parent().unwrap_or(Path::new(""));
        let synced = self.vfs.sync_directory(directory);
        synced.map_err(|source| {
            let error = io_error(directory, source);
            self.path = Some(Arc::clone(&path));
            error
        })
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        let Some(path) = &self.path else { return };
        match self.vfs.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("{}: cannot be removed: {error}", path.display());
            }
            Ok(()) | Err(_) => {}
        }
    }
}
