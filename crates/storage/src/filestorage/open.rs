//! Opening a file: create it, or recover its contents and cut off an unfinished or damaged end.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::scan::{Scan, Scanned, TrailingBytes, indexed_tid};
use super::state::{Condition, State};
use super::{FileStorage, Options, sibling};
use crate::LOGGER;
use crate::dropped::{self, DroppedList};
use crate::error::{StorageError, StorageResult};
use crate::file::{DataFile, io_error};
use crate::format::{FIRST_TRANSACTION, MAGIC, MAGIC_PYTHON2, Magic};
use crate::index::Index;
use crate::index_file::{self, FromStart};
use zrs_ids::{Oid, Tid};
use zrs_vfs::Vfs;

/// The number of bytes to copy at once.
const COPY: usize = 1024 * 1024;

impl FileStorage {
    /// Open the file at `path`, or create it if it does not exist and `options` allow that.
    ///
    /// Bytes that a crash left after the last finished transaction are saved in a file with the
    /// suffix `.tr` and a number, and cut off.
    ///
    /// # Errors
    /// [`StorageError::UnknownMagic`], [`StorageError::CorruptTransaction`], and those of
    /// the system.
    pub fn open(vfs: Arc<dyn Vfs>, path: &Path, options: Options) -> StorageResult<Self> {
        let path: Arc<Path> = path.into();
        let file = open_file(&*vfs, &path, &options)?;
        let size = prepare(&file, &options)?;
        let stop = options.stop.unwrap_or(Tid::MAX);
        let indexed = match options.stop {
            None => read_index(&*vfs, &file, size)?,
            // The saved index includes later transactions.
            Some(_) => None,
        };
        let used_index = indexed.is_some();
        let (mut index, start, last_tid) =
            indexed.unwrap_or_else(|| (Index::new(), FIRST_TRANSACTION, Tid::ZERO));
        let scanned = Scan::new(&file, &mut index, size).run(start, last_tid, stop)?;
        if !options.read_only {
            cut_off_trailing_bytes(&*vfs, &file, &scanned, size)?;
            // Bytes that a killed process has written may not be durable yet.
            file.handle()
                .sync_data()
                .map_err(|source| file.io_error(source))?;
        }
        let last_tid = match options.stop {
            None => scanned.last_tid.max(last_dropped(&*vfs, &file)?),
            Some(_) => scanned.last_tid,
        };
        let state = State {
            file,
            end: scanned.end,
            last_tid,
            durable: (scanned.end, last_tid),
            has_unsynced_status: false,
            finishing: None,
            condition: Condition::Open,
            saved_end: if used_index { start } else { 0 },
            index,
        };
        let max_oid = state.index.max_oid().unwrap_or(Oid::ZERO);
        let storage = Self {
            vfs,
            path,
            options,
            used_index,
            commit_lock: Arc::default(),
            gate: RwLock::default(),
            state: RwLock::new(state),
            max_oid: Mutex::new(max_oid),
            packing: false.into(),
            pack_progress: Arc::default(),
            saving: Mutex::default(),
            checkpointing: false.into(),
            inherited: false.into(),
            moving: false.into(),
            listing: Mutex::default(),
        };
        if !used_index && !options.read_only {
            storage.try_to_save_index();
        }
        Ok(storage)
    }
}

/// The last transaction that a pack has dropped. It may be later than the last one in the file;
/// it is still the last transaction of the storage, as before the pack.
fn last_dropped(vfs: &dyn Vfs, file: &DataFile) -> StorageResult<Tid> {
    let dropped = match DroppedList::of(vfs, file.path(), file)? {
        Some(dropped) => dropped.last()?,
        None => None,
    };
    Ok(dropped.unwrap_or(Tid::ZERO))
}

fn open_file(vfs: &dyn Vfs, path: &Arc<Path>, options: &Options) -> StorageResult<DataFile> {
    let error = |source| io_error(path, source);
    if options.read_only {
        return DataFile::open(vfs, path);
    }
    if !options.create {
        match vfs.open_write(path) {
            Ok(file) => return Ok(DataFile::new(file, path)),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(error(source)),
        }
    }
    // An index of a previous file would be wrong.
    let index = sibling(path, ".index");
    match vfs.remove(&index) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(io_error(&index, source));
        }
        _ => {}
    }
    dropped::remove(vfs, path)?;
    make(vfs, path)
}

/// Create a new file that appears under its name only when it is complete.
fn make(vfs: &dyn Vfs, path: &Arc<Path>) -> StorageResult<DataFile> {
    let temporary = sibling(path, ".tmp");
    let make = || {
        let file = vfs.create(&temporary)?;
        file.write_all_at(&MAGIC, 0)?;
        file.sync_data()?;
        vfs.rename(&temporary, path)?;
        vfs.sync_directory(path.parent().unwrap_or(Path::new("")))?;
        Ok(file)
    };
    match make() {
        Ok(file) => Ok(DataFile::new(file, path)),
        Err(source) => {
            // The file may already be removed.
            let _ = vfs.remove(&temporary);
            Err(io_error(path, source))
        }
    }
}

/// Check the magic, or write it to a file that is being created; returns the file's length.
fn prepare(file: &DataFile, options: &Options) -> StorageResult<u64> {
    let mut found = [0; MAGIC.len()];
    let count = file.read_at_most(&mut found, 0)?;
    let found = &found[..count];
    let unknown = || StorageError::UnknownMagic {
        path: file.path().to_path_buf(),
        found: found.to_vec(),
    };
    match Magic::of(found) {
        // Do not write to a file whose records are of Python 2.
        Magic::Known if found == MAGIC_PYTHON2 && !options.read_only => Err(unknown()),
        Magic::Known => Ok(file.metadata()?.len),
        Magic::Unknown => Err(unknown()),
        Magic::Partial if options.read_only => Ok(FIRST_TRANSACTION),
        Magic::Partial => {
            // Another process is creating the file, or a crash interrupted ZODB.
            let write = || {
                file.handle().write_all_at(&MAGIC, 0)?;
                file.handle().sync_data()
            };
            write().map_err(|source| file.io_error(source))?;
            Ok(FIRST_TRANSACTION)
        }
    }
}

/// The saved index, the position up to which it covers the file, and the last transaction before
/// that, if the index matches the file.
fn read_index(
    vfs: &dyn Vfs,
    file: &DataFile,
    size: u64,
) -> StorageResult<Option<(Index, u64, Tid)>> {
    let path = sibling(file.path(), ".index");
    let index_file = match vfs.open_read(&path) {
        Ok(index_file) => index_file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            log::warn!(target: LOGGER, "{}: {error}", path.display());
            return Ok(None);
        }
    };
    let (end, index) = match index_file::read_index(FromStart::buffered(index_file)) {
        Ok(read) => read,
        Err(error) => {
            log::warn!(target: LOGGER, "{}: {error}", path.display());
            return Ok(None);
        }
    };
    let tid = indexed_tid(file, &index, end, size)?;
    // An index of an empty file has no contents that could be ignored.
    if tid.is_none() && end > FIRST_TRANSACTION {
        let name = file.path().display();
        log::warn!(target: LOGGER, "Ignoring index for {name}");
    }
    Ok(tid.map(|tid| (index, end, tid)))
}

/// Cut off the bytes after the last good transaction.
fn cut_off_trailing_bytes(
    vfs: &dyn Vfs,
    file: &DataFile,
    scanned: &Scanned,
    size: u64,
) -> StorageResult<()> {
    let (name, end) = (file.path().display(), scanned.end);
    match scanned.tail {
        TrailingBytes::Clean => return Ok(()),
        TrailingBytes::Fragment => log::warn!(target: LOGGER, "{name} truncated at {end}"),
        TrailingBytes::Damaged => {
            log::warn!(
                target: LOGGER,
                "{name} truncated, possibly due to damaged records at {end}"
            );
            save_trailing_bytes(vfs, file, end, size)
                .map_err(|error| StorageError::TailNotSaved(Box::new(error)))?;
        }
    }
    file.handle()
        .set_len(end)
        .and_then(|()| file.handle().sync_data())
        .map_err(|source| file.io_error(source))
}

fn save_trailing_bytes(vfs: &dyn Vfs, file: &DataFile, start: u64, size: u64) -> StorageResult<()> {
    let mut number = 0;
    let path = loop {
        let path = sibling(file.path(), &format!(".tr{number}"));
        match vfs.metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => break path,
            Err(error) => return Err(io_error(&path, error)),
            Ok(_) => number += 1,
        }
    };
    log::warn!(
        target: LOGGER,
        "Writing truncated data from {} to {}",
        file.path().display(),
        path.display()
    );
    let copy = vfs.create(&path).map_err(|error| io_error(&path, error))?;
    let mut buffer = vec![0; COPY];
    let mut position = start;
    while position < size {
        let left = usize::try_from(size - position).unwrap_or(COPY);
        let wanted = left.min(COPY);
        let count = file.read_at_most(&mut buffer[..wanted], position)?;
        if count == 0 {
            break;
        }
        copy.write_all_at(&buffer[..count], position - start)
            .map_err(|error| io_error(&path, error))?;
        position += count as u64;
    }
    copy.sync_data().map_err(|error| io_error(&path, error))?;
    let directory = path.parent().unwrap_or(Path::new(""));
    vfs.sync_directory(directory)
        .map_err(|error| io_error(&path, error))
}
