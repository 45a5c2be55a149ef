//! Blobs: their files are in place before their transaction.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use zrs_ids::{Oid, Tid};
use zrs_storage::error::{StorageError, StorageResult};
use zrs_storage::filestorage::{Stored, Transaction};
use zrs_storage::{BlobDirectory, BlobLayout, blob};
use zrs_vfs::Vfs as _;
use zrs_vfs::sim::SimVfs;

use super::records::noise;
use super::{BLOBS, Files, Objects, Recorder};

impl Recorder {
    pub(super) fn store_blobs(&mut self, blobs: &[(u64, usize)]) -> StorageResult<()> {
        let (transaction, changed, files) = self.stored_blobs(blobs)?;
        self.finish(transaction, changed)?;
        self.blobs.extend(files);
        Ok(())
    }

    /// A transaction with these blobs, whose files are in place.
    fn stored_blobs(&self, blobs: &[(u64, usize)]) -> StorageResult<(Transaction, Objects, Files)> {
        let mut transaction = self.begin()?;
        let (tid, mut changed, mut files) = (transaction.tid(), Objects::new(), Files::new());
        for &(number, len) in blobs {
            let oid = Oid::from_u64(number);
            let content = noise(number ^ tid.as_u64(), len);
            let serial = self.last_serial(oid)?;
            let data = Bytes::from_static(b"\x80\x03cZODB.blob\nBlob\n.\x80\x03N.");
            let stored = self.storage().store(&mut transaction, oid, serial, &data)?;
            assert_eq!(stored, Stored::Stored);
            changed.insert(oid, Some(data));
            match place_blob(&self.vfs, oid, tid, &content) {
                Ok(path) => files.insert(path, content),
                Err(error) => {
                    drop(self.storage().abort(transaction));
                    return Err(error);
                }
            };
        }
        Ok((transaction, changed, files))
    }

    pub(super) fn abort_blobs(&self, blobs: &[(u64, usize)]) -> StorageResult<()> {
        let (mut transaction, _, files) = self.stored_blobs(blobs)?;
        let voted = self.storage().vote(&mut transaction);
        drop(self.storage().abort(transaction));
        for file in files.keys() {
            // The process may end before that.
            let _ = self.vfs.remove(file);
        }
        voted
    }
}

/// Move a new blob of an application to the path of its revision.
fn place_blob(vfs: &SimVfs, oid: Oid, tid: Tid, content: &[u8]) -> StorageResult<PathBuf> {
    let top = Path::new(BLOBS);
    let upload = top.join("tmp").join(oid.to_string());
    let path = BlobDirectory::new(top.into(), BlobLayout::Bushy).file(oid, tid);
    let uploaded = vfs
        .create(&upload)
        .and_then(|file| file.write_all_at(content, 0));
    uploaded.map_err(|source| StorageError::Io {
        path: upload.clone(),
        source,
    })?;
    blob::make_directories(vfs, &path, top)?;
    vfs.rename(&upload, &path)
        .map_err(|source| StorageError::Io {
            path: path.clone(),
            source,
        })?;
    blob::make_durable(vfs, &path, top)?;
    Ok(path)
}
