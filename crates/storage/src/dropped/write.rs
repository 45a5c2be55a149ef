//! Writes a list next to the one that it replaces.

use std::io;
use std::path::Path;

use super::super::file::io_error;
use super::super::filestorage::sibling;
use super::binding::{Binding, HEADER_LEN, header};
use super::tids::{BUFFER, Tids};
use super::{DroppedList, SUFFIX};
use crate::error::{StorageError, StorageResult};
use zrs_ids::Tid;
use zrs_vfs::{Vfs, VfsFile};

/// Writes a new list for the `Data.fs` at `path`; `write` adds the tids and returns the bindings.
/// The list is durable when this returns.
///
/// # Errors
/// Those of `write` and of writing the list; the old list stays then.
pub(super) fn replace(
    vfs: &dyn Vfs,
    path: &Path,
    write: impl FnOnce(&mut TidWriter<'_>) -> Result<[Binding; 2], Failed>,
) -> StorageResult<()> {
    let (temporary, target) = (sibling(path, ".dropped.tmp"), sibling(path, SUFFIX));
    let error = |error| io_error(&temporary, error);
    let list = vfs.create_like(&temporary, path).map_err(error)?;
    let mut output = TidWriter::new(&*list);
    let bindings = write(&mut output)
        .map_err(|failed| failed.at(&temporary))
        .inspect_err(|_| drop(vfs.remove(&temporary)))?;
    let header = header(bindings, output.count);
    let finish = || {
        list.write_all_at(&header, 0)?;
        list.sync_all()?;
        vfs.rename(&temporary, &target)?;
        vfs.sync_directory(path.parent().unwrap_or(Path::new("")))
    };
    finish().map_err(|source| {
        // The file may already be removed.
        let _ = vfs.remove(&temporary);
        io_error(&target, source)
    })
}

/// Why a list was not written.
pub(super) enum Failed {
    Storage(StorageError),
    Writing(io::Error),
}

impl Failed {
    pub(super) fn at(self, path: &Path) -> StorageError {
        match self {
            Self::Storage(error) => error,
            Self::Writing(error) => io_error(path, error),
        }
    }
}

impl From<StorageError> for Failed {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// The tids of an earlier list, in order.
pub(super) struct Listed {
    tids: Option<Tids>,
    limit: Tid,
}

impl Listed {
    pub(super) fn new(list: Option<&DroppedList>) -> StorageResult<Self> {
        Ok(Self {
            tids: list.map(|list| list.tids_after(Tid::ZERO)).transpose()?,
            limit: Tid::MAX,
        })
    }

    /// Omits the tids later than `to`.
    pub(super) fn up_to(self, to: Tid) -> Self {
        let limit = Tid::from_u64(to.as_u64().saturating_add(1));
        Self { limit, ..self }
    }

    /// Passes and returns the next tid if it is earlier than `tid`.
    pub(super) fn next_before(&mut self, tid: Tid) -> StorageResult<Option<Tid>> {
        match &mut self.tids {
            Some(tids) => tids.next_before(tid.min(self.limit)),
            None => Ok(None),
        }
    }

    /// Passes `tid` if it is the next one.
    pub(super) fn skip(&mut self, tid: Tid) -> StorageResult<()> {
        match &mut self.tids {
            Some(tids) => tids.skip(tid),
            None => Ok(()),
        }
    }

    /// Writes the tids before `tid`, and passes `tid` itself.
    pub(super) fn write_before(
        &mut self,
        tid: Tid,
        output: &mut TidWriter<'_>,
    ) -> Result<(), Failed> {
        while let Some(found) = self.next_before(tid)? {
            output.add(found)?;
        }
        self.skip(tid)?;
        Ok(())
    }
}

/// The tids of a list that is being written.
pub(super) struct TidWriter<'file> {
    file: &'file dyn VfsFile,
    buffer: Vec<u8>,
    pub(super) count: u64,
    position: u64,
}

impl<'file> TidWriter<'file> {
    pub(super) fn new(file: &'file dyn VfsFile) -> Self {
        Self {
            file,
            buffer: Vec::with_capacity(BUFFER),
            count: 0,
            position: HEADER_LEN as u64,
        }
    }

    pub(super) fn add(&mut self, tid: Tid) -> Result<(), Failed> {
        self.buffer.extend_from_slice(tid.as_bytes());
        self.count += 1;
        if self.buffer.len() >= BUFFER {
            self.flush().map_err(Failed::Writing)?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.write_all_at(&self.buffer, self.position)?;
            self.position += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}
