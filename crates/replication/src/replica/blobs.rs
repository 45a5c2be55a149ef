//! The blobs that a primary sends: which records have one, and its file in blocks.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::proto::BLOCK_LENGTH;
use zrs_ids::{Oid, Tid};
use zrs_storage::pickle::is_blob_record;
use zrs_storage::{BlobDirectory, DataRecord};
use zrs_vfs::{Vfs, VfsFile};

/// Storages that transform data, such as zc.zlibstorage, mark them with a dot and a letter.
/// No pickle begins with a dot.
const TRANSFORMED: &[u8] = b".";

/// What to do about a blob whose file is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingBlobs {
    /// End the stream, so that no incomplete transaction is sent.
    #[default]
    Stop,
    /// Send the record without contents, and log an error.
    Skip,
}

/// Why a blob cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Its file does not exist.
    #[error("the file of blob {oid} of transaction {tid} is missing: {}", path.display())]
    Missing {
        /// The blob.
        oid: Oid,
        /// The transaction that wrote it.
        tid: Tid,
        /// Where its file should be.
        path: PathBuf,
    },
    /// Its file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Its file has more blocks than the protocol can count.
    #[error("{}: {length} bytes are more than can be sent", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
    },
}

/// The blobs of a storage.
#[derive(Debug)]
pub struct Blobs {
    directory: BlobDirectory,
    missing: MissingBlobs,
    missing_count: AtomicU64,
}

impl Blobs {
    /// The blobs in a directory.
    pub fn new(directory: BlobDirectory, missing: MissingBlobs) -> Self {
        Self {
            directory,
            missing,
            missing_count: AtomicU64::new(0),
        }
    }

    /// The number of blobs whose file was missing.
    pub(super) fn missing_count(&self) -> u64 {
        self.missing_count.load(Ordering::Relaxed)
    }

    /// The blob of a record; `None` if it has none. If the file is missing and the record is to
    /// be sent without it, `left_out` is called with the reason.
    ///
    /// If the storage transforms data, only the file shows that the record is a blob's, so a
    /// missing file is not noticed.
    pub(super) fn open(
        &self,
        vfs: &dyn Vfs,
        record: &DataRecord,
        left_out: impl FnOnce(BlobError),
    ) -> Result<Option<BlobReader>, BlobError> {
        let data = record.data.as_deref().unwrap_or_default();
        let hidden = data.starts_with(TRANSFORMED);
        if !hidden && !is_blob_record(data) {
            return Ok(None);
        }
        let (oid, tid) = (record.oid, record.tid);
        let path = self.directory.file(oid, tid);
        match BlobReader::open(vfs, path.clone()) {
            Err(BlobError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                if hidden {
                    return Ok(None);
                }
                self.missing_count.fetch_add(1, Ordering::Relaxed);
                let missing = BlobError::Missing { oid, tid, path };
                match self.missing {
                    MissingBlobs::Stop => Err(missing),
                    MissingBlobs::Skip => {
                        left_out(missing);
                        Ok(None)
                    }
                }
            }
            opened => opened.map(Some),
        }
    }
}

/// A blob's file, read block by block.
pub(super) struct BlobReader {
    path: PathBuf,
    file: Arc<dyn VfsFile>,
    blocks: u32,
    position: u64,
    length: u64,
    block: Vec<u8>,
}

impl BlobReader {
    fn open(vfs: &dyn Vfs, path: PathBuf) -> Result<Self, BlobError> {
        let opened = vfs
            .open_read(&path)
            .and_then(|file| file.metadata().map(|metadata| (file, metadata.len)));
        let (file, length) = match opened {
            Ok(opened) => opened,
            Err(source) => return Err(BlobError::Io { path, source }),
        };
        let Ok(blocks) = u32::try_from(length.div_ceil(BLOCK_LENGTH as u64)) else {
            return Err(BlobError::TooLong { path, length });
        };
        Ok(Self {
            path,
            file,
            blocks,
            position: 0,
            length,
            block: Vec::new(),
        })
    }

    /// The total number of blocks.
    pub(super) fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Releases the memory of the last block.
    pub(super) fn release_memory(&mut self) {
        self.block = Vec::new();
    }

    /// The next block, `None` after the last.
    pub(super) fn next_block(&mut self) -> Result<Option<&[u8]>, BlobError> {
        let left = usize::try_from(self.length - self.position).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(None);
        }
        self.block.resize(left.min(BLOCK_LENGTH), 0);
        let read = self.file.read_full_at(&mut self.block, self.position);
        let whole = read.and_then(|count| {
            if count == self.block.len() {
                Ok(())
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        });
        if let Err(source) = whole {
            let path = self.path.clone();
            return Err(BlobError::Io { path, source });
        }
        self.position += self.block.len() as u64;
        Ok(Some(&self.block))
    }
}
