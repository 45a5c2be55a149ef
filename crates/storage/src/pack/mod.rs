//! Packing: writes a `Data.fs` anew without what is no longer needed at a given time.
//!
//! The result is byte for byte that of ZODB's pack, except where that loses what a record
//! that it keeps refers to (see [`reach`]) or fails. A pack runs beside commits: it reads
//! committed transactions only, through a handle of its own, and catches up with those
//! that are committed meanwhile. The caller starts it with [`Pack::start`], calls
//! [`Pack::catch_up`] until little is left, takes the commit lock, calls
//! [`Pack::catch_up_at_once`], and [`Pack::finish`], and puts the new file into the place of
//! the old one.
//!
//! What is committed meanwhile can need records that the pack has dropped already: an undo
//! brings back a reference, or an object is stored again. Since they belong to the front of
//! the file, all is copied again then, which takes as long as before but no lock. After
//! [`RECOPIES`] times the pack collects no garbage any more, and nothing can be missing.
//!
//! [`reach`] decides what is kept, [`copy`] writes it. Nothing here takes a lock.

mod blobs;
mod copy;
mod lookup;
mod options;
mod output;
mod progress;
mod reach;
mod walk;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use self::blobs::{Dropped, IsBlob};
pub use self::options::Options;
pub use self::progress::{Phase, Progress};
pub use self::reach::References;

use self::copy::Copier;
use self::output::Output;
use self::reach::Reachable;
use super::LOGGER;
use super::file::{DataFile, io_error};
use super::index::Index;
use crate::error::{StorageError, StorageResult};
use crate::pickle::refs::ReferenceReader;
use zrs_ids::Oid;
use zrs_vfs::Vfs;

/// How often a pack that has dropped too much is made again with garbage collection.
const RECOPIES: u32 = 3;

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
    source: DataFile,
    reachable: Reachable,
    copier: Copier,
    dropped: Dropped,
    /// How often all was copied again.
    recopied: u32,
    progress: Arc<Progress>,
    leftover: Leftover,
}

/// A finished pack.
#[derive(Debug)]
pub struct Packed {
    /// The objects of the packed file.
    pub index: Index,
    /// Where its last transaction ends: its length.
    pub end: u64,
    /// What is not in the packed file any more.
    pub dropped: Dropped,
}

impl Pack {
    /// Packs the transactions of `source` that end at `end` or before into a new file at
    /// `target`. Returns `None`, and leaves no file, if there is nothing to
    /// pack: all is packed already to this time or a later one, or no byte would be saved.
    ///
    /// The storage must not be empty. With `is_blob` given, [`Packed::dropped`] has the
    /// blobs.
    ///
    /// # Errors
    /// Those of `references` and `is_blob`; [`StorageError::NoSuchObject`] if an object that
    /// is reached from the root is not there; [`StorageError::Corrupt`];
    /// [`StorageError::Io`].
    pub fn start<E: From<StorageError>>(
        target: Target<'_>,
        source: &DataFile,
        end: u64,
        options: &Options,
        references: &mut References<'_, E>,
        is_blob: Option<&mut IsBlob<'_, E>>,
    ) -> Result<Option<Self>, E> {
        let progress = target.progress;
        let Some(reachable) = reach::find(source, end, options, progress, references)? else {
            return Ok(None);
        };
        let leftover = Leftover {
            vfs: Arc::clone(target.vfs),
            path: Some(Arc::clone(target.path)),
        };
        let copier = leftover.create(source, progress)?;
        let mut pack = Self {
            source: source.clone(),
            reachable,
            copier,
            dropped: Dropped::default(),
            recopied: 0,
            progress: Arc::clone(progress),
            leftover,
        };
        if !pack.copy(is_blob)? {
            return Ok(None);
        }
        Ok(Some(pack))
    }

    /// Copies all that was read so far; returns whether a byte was saved.
    fn copy<E: From<StorageError>>(
        &mut self,
        is_blob: Option<&mut IsBlob<'_, E>>,
    ) -> Result<bool, E> {
        let (end, pack_position) = (self.reachable.read_to(), self.reachable.pack_position);
        self.progress.begin(Phase::Copying, end);
        let kept = self.reachable.positions();
        self.dropped = self.copier.copy_kept(kept, pack_position, is_blob)?;
        if self.copier.end() == pack_position && self.recopied == 0 {
            return Ok(false);
        }
        self.copier.copy_rest(end)?;
        // What is left to be synced at the end, when commits wait, is little.
        self.copier.sync()?;
        Ok(true)
    }

    /// Copies the transactions that end at `end` or before and were not copied yet. `end` is
    /// where a committed transaction ends. If they need what was dropped, all is copied
    /// again.
    ///
    /// # Errors
    /// Those of [`Self::start`]. The pack is over then.
    pub fn catch_up<E: From<StorageError>>(
        &mut self,
        end: u64,
        references: &mut References<'_, E>,
        is_blob: Option<&mut IsBlob<'_, E>>,
    ) -> Result<(), E> {
        if self.catch_up_at_once(end, references)? {
            return Ok(());
        }
        self.recopied += 1;
        if self.recopied > RECOPIES {
            log::warn!(
                target: LOGGER,
                "{}: commits keep needing what this pack has dropped: it keeps all objects",
                self.source.path().display()
            );
            self.reachable.keep_all();
        } else {
            log::info!(
                target: LOGGER,
                "{}: commits during this pack need what it has dropped: it copies again",
                self.source.path().display()
            );
            self.reachable.follow(references)?;
        }
        self.copier = self.leftover.create(&self.source, &self.progress)?;
        self.copy(is_blob)?;
        Ok(())
    }

    /// As [`Self::catch_up`], but returns false where all would have to be copied again;
    /// [`Self::catch_up`] does that, to the same `end` or a later one. Takes time for
    /// these transactions only.
    ///
    /// # Errors
    /// Those of [`Self::start`]. The pack is over then.
    pub fn catch_up_at_once<E: From<StorageError>>(
        &mut self,
        end: u64,
        references: &mut References<'_, E>,
    ) -> Result<bool, E> {
        if !self.reachable.read_later(end, references)? {
            return Ok(false);
        }
        self.copier.copy_rest(end)?;
        Ok(true)
    }

    /// How often all was copied again.
    pub fn recopies(&self) -> u32 {
        self.recopied
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
            dropped: self.dropped,
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
    /// Makes the file, or empties it, and begins to write to it.
    fn create(&self, source: &DataFile, progress: &Arc<Progress>) -> StorageResult<Copier> {
        let Some(path) = &self.path else {
            let gone = io::Error::from(io::ErrorKind::NotFound);
            return Err(source.io_error(gone));
        };
        let file = self.vfs.create_like(path, source.path());
        let file = file.map_err(|e| io_error(path, e))?;
        Copier::new(source, Output::new(file, path), progress)
    }

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
                log::warn!(target: LOGGER, "{}: cannot be removed: {error}", path.display());
            }
            Ok(()) | Err(_) => {}
        }
    }
}
