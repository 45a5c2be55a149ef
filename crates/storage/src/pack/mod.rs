//! Packing: rewrites a `Data.fs` without the data that are no longer needed at a given time.
//!
//! The result is byte for byte that of ZODB's pack, except where ZODB's pack fails or loses
//! objects to which a kept record refers (see [`reach`]). A pack runs during commits: it reads
//! only committed transactions, through a handle of its own, and then catches up with those that
//! were committed in the meantime. The caller starts it with [`Pack::start`], calls
//! [`Pack::catch_up`] until little is left, takes the commit lock, calls [`Pack::try_catch_up`]
//! and [`Pack::finish`], and replaces the old file with the new one.
//!
//! Transactions that are committed during a pack can need records that the pack has already
//! dropped: an undo restores a reference, or an object is stored again. Such records belong at
//! the beginning of the file, so everything is copied again, which takes as long as before but no
//! lock. After [`RECOPIES`] copies the pack stops collecting garbage, so nothing can be missing.
//!
//! [`reach`] decides which records are kept, [`copy`] writes them. No function in this module
//! takes a lock.

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

/// How often a pack that has dropped needed records is repeated with garbage collection.
const RECOPIES: u32 = 3;

/// Where a pack writes, and where it reports its progress.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The file system.
    pub vfs: &'a Arc<dyn Vfs>,
    /// The new file.
    pub path: &'a Arc<Path>,
    /// Updated at each step.
    pub progress: &'a Arc<Progress>,
}

/// A running pack. If it is dropped before it is finished, it removes its file.
pub struct Pack {
    source: DataFile,
    reachable: Reachable,
    copier: Copier,
    dropped: Dropped,
    /// How often everything was copied again.
    recopied: u32,
    progress: Arc<Progress>,
    leftover: Leftover,
}

/// A finished pack.
#[derive(Debug)]
pub struct Packed {
    /// The index of the packed file.
    pub index: Index,
    /// Where the last transaction ends: the length of the file.
    pub end: u64,
    /// What the pack has removed.
    pub dropped: Dropped,
}

impl Pack {
    /// Packs the transactions of `source` that end at or before `end` into a new file at
    /// `target`. Returns `None`, and leaves no file, if nothing can be packed: the file is
    /// already packed to this time or a later one, or the result would not be smaller.
    ///
    /// The storage must not be empty. If `is_blob` is given, [`Packed::dropped`] lists the
    /// removed blobs.
    ///
    /// # Errors
    /// Those of `references` and `is_blob`; [`StorageError::NoSuchObject`] if an object that is
    /// reached from the root does not exist; [`StorageError::Corrupt`]; [`StorageError::Io`].
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

    /// Copies everything that was read so far; returns whether the copy is smaller.
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
        // Sync now, so that the last sync, for which commits wait, has little to write.
        self.copier.sync()?;
        Ok(true)
    }

    /// Copies the transactions that end at or before `end` and were not copied yet. A committed
    /// transaction must end at `end`. If they need records that were dropped, everything is
    /// copied again.
    ///
    /// # Errors
    /// Those of [`Self::start`]. The pack cannot continue then.
    pub fn catch_up<E: From<StorageError>>(
        &mut self,
        end: u64,
        references: &mut References<'_, E>,
        is_blob: Option<&mut IsBlob<'_, E>>,
    ) -> Result<(), E> {
        if self.try_catch_up(end, references)? {
            return Ok(());
        }
        self.recopied += 1;
        if self.recopied > RECOPIES {
            log::warn!(
                target: LOGGER,
                "{}: commits still need objects that this pack has dropped; packing without garbage collection",
                self.source.path().display()
            );
            self.reachable.keep_all();
        } else {
            log::info!(
                target: LOGGER,
                "{}: commits during this pack need objects that it has dropped; copying again",
                self.source.path().display()
            );
            self.reachable.follow(references)?;
        }
        self.copier = self.leftover.create(&self.source, &self.progress)?;
        self.copy(is_blob)?;
        Ok(())
    }

    /// Like [`Self::catch_up`], but returns false if everything would have to be copied again;
    /// call [`Self::catch_up`] then, with the same `end` or a later one. Takes time only for the
    /// new transactions.
    ///
    /// # Errors
    /// Those of [`Self::start`]. The pack cannot continue then.
    pub(crate) fn try_catch_up<E: From<StorageError>>(
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

    /// How often everything was copied again.
    pub(crate) fn recopies(&self) -> u32 {
        self.recopied
    }

    /// Makes the file and its name durable. The file is kept from then on.
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

/// Returns a function that reads the references of a record from its opcodes, for
/// [`Pack::start`].
///
/// # Errors
/// The function returns [`StorageError::References`] for a record that only Python can read.
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

/// Removes a file unless it was marked to be kept.
struct Leftover {
    vfs: Arc<dyn Vfs>,
    path: Option<Arc<Path>>,
}

impl Leftover {
    /// Creates or empties the file, and begins to write to it.
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
                log::warn!(target: LOGGER, "cannot remove {}: {error}", path.display());
            }
            Ok(()) | Err(_) => {}
        }
    }
}
