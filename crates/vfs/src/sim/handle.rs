//! An open file of a simulated file system.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::fault::Call;
use super::log::{Change, FileId};
use super::state::State;
use crate::{Identity, Metadata, VfsFile};

/// Files beyond this length would fill the memory.
const MAX_LEN: usize = 1 << 32;
/// "Bad file descriptor": the file is not open for writing.
const EBADF: i32 = 9;

#[derive(Debug)]
pub(super) struct SimFile {
    state: Arc<Mutex<State>>,
    file: FileId,
    writable: bool,
    /// Number of the handle, never used again.
    number: u64,
}

impl SimFile {
    pub(super) fn new(
        state: &Arc<Mutex<State>>,
        file: FileId,
        writable: bool,
        number: u64,
    ) -> Self {
        let state = Arc::clone(state);
        Self {
            state,
            file,
            writable,
            number,
        }
    }

    fn release(&self) {
        let mut state = self.state.lock();
        if state.locks.get(&self.file) == Some(&self.number) {
            state.locks.remove(&self.file);
        }
    }

    fn state_for_writing(&self) -> io::Result<MutexGuard<'_, State>> {
        if self.writable {
            Ok(self.state.lock())
        } else {
            Err(io::Error::from_raw_os_error(EBADF))
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let file = self.file;
        if let Err(failure) = state.faults.call(Call::Sync) {
            state.change(Change::FailedSync { file });
            return Err(failure.into());
        }
        state.change(Change::Sync { file });
        Ok(())
    }
}

pub(super) fn metadata(state: &State, file: FileId) -> Metadata {
    Metadata {
        identity: Identity {
            device: 0,
            inode: file.0,
        },
        len: (state.live.files.get(&file)).map_or(0, |content| content.len() as u64),
    }
}

/// Convert a length or offset; an error if no file may be that long.
fn bounded(number: u64, more: usize) -> io::Result<usize> {
    let number = usize::try_from(number).ok();
    let end = number.and_then(|number| number.checked_add(more));
    match (number, end) {
        (Some(number), Some(end)) if end <= MAX_LEN => Ok(number),
        _ => Err(io::ErrorKind::FileTooLarge.into()),
    }
}

impl VfsFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state.lock();
        state.faults.call(Call::Other)?;
        let content = state.live.files.get(&self.file);
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = content.and_then(|content| content.get(offset..));
        let rest = rest.unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        let mut state = self.state.lock();
        state.faults.call(Call::Other)?;
        Ok(metadata(&state, self.file))
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state_for_writing()?;
        let offset = bounded(offset, data.len())?;
        let outcome = state.faults.call(Call::TakesSpace);
        let data = match outcome {
            Ok(()) => data,
            Err(failure) if failure.short => &data[..data.len() / 2],
            Err(failure) => return Err(failure.into()),
        };
        if !data.is_empty() {
            let (file, data) = (self.file, Bytes::copy_from_slice(data));
            state.change(Change::Write { file, offset, data });
        }
        outcome.map_err(io::Error::from)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state_for_writing()?;
        let (file, len) = (self.file, bounded(len, 0)?);
        let longer = metadata(&state, file).len < len as u64;
        let kind = if longer {
            Call::TakesSpace
        } else {
            Call::Other
        };
        state.faults.call(kind)?;
        state.change(Change::SetLen { file, len });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.state.lock();
        state.faults.call(Call::Other)?;
        let holder = *state.locks.entry(self.file).or_insert(self.number);
        Ok(holder == self.number)
    }

    fn unlock(&self) -> io::Result<()> {
        self.release();
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.release();
    }
}
