//! The paths of the files in a blob directory.
//!
//! ZODB has two layouts: *bushy*, with a directory for each byte of the oid, and *lawn*, with one
//! directory for each object. The name of a revision's file is its tid.
//!
//! A blob's file is in place and durable before its transaction is, so a transaction that
//! survives a power failure has its file.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use super::file::io_error;
use crate::error::StorageResult;
use zrs_vfs::Vfs;

use zrs_ids::{Oid, Tid};

/// How the files are distributed over directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobLayout {
    /// A directory for each byte of the oid.
    Bushy,
    /// A directory for each object.
    Lawn,
}

impl BlobLayout {
    /// The layout with this name in ZODB's `.layout` file.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "bushy" => Some(Self::Bushy),
            "lawn" => Some(Self::Lawn),
            _ => None,
        }
    }
}

/// A directory of blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobDirectory {
    path: PathBuf,
    layout: BlobLayout,
}

impl BlobDirectory {
    /// The directory at `path`.
    pub fn new(path: PathBuf, layout: BlobLayout) -> Self {
        Self { path, layout }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the file of an object's revision, whether or not it exists.
    pub fn file(&self, oid: Oid, tid: Tid) -> PathBuf {
        let mut path = self.path.clone();
        match self.layout {
            BlobLayout::Bushy => path.extend(oid.as_bytes().map(|byte| format!("0x{byte:02x}"))),
            BlobLayout::Lawn => {
                // Leading zero bytes are left out, except for the last byte.
                let bytes = oid.as_bytes();
                let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(7);
                let mut name = "0x".to_owned();
                for byte in bytes.iter().skip(first) {
                    // Writing to a string cannot fail.
                    let _ = write!(name, "{byte:02x}");
                }
                path.push(name);
            }
        }
        path.push(format!("{tid}.blob"));
        path
    }
}

/// Make the file at `path` durable, and the names that lead to it from the directory `top` on.
pub fn make_durable(vfs: &dyn Vfs, path: &Path, top: &Path) -> StorageResult<()> {
    let synced = vfs.open_read(path).and_then(|file| file.sync_data());
    synced.map_err(|source| io_error(path, source))?;
    for directory in between(path, top).chain([top]) {
        let synced = vfs.sync_directory(directory);
        synced.map_err(|source| io_error(directory, source))?;
    }
    Ok(())
}

/// Create the missing directories between the directory `top` and `path`.
pub fn make_directories(vfs: &dyn Vfs, path: &Path, top: &Path) -> StorageResult<()> {
    let mut missing = Vec::new();
    for directory in between(path, top) {
        match vfs.metadata(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(directory),
            Err(error) => return Err(io_error(directory, error)),
            Ok(_) => break,
        }
    }
    for directory in missing.into_iter().rev() {
        match vfs.create_directory(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error(directory, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The directories above `path` that are below `top`, starting with the innermost.
fn between<'a>(path: &'a Path, top: &'a Path) -> impl Iterator<Item = &'a Path> {
    let above = path.ancestors().skip(1);
    above.take_while(move |directory| *directory != top && directory.starts_with(top))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths that ZODB's `FilesystemHelper` returns.
    #[test]
    fn paths_are_those_of_zodb() {
        let tid = Tid::from_u64(0x03d4_dc04_fff5_13cc);
        for (layout, oid, expected) in [
            (
                BlobLayout::Bushy,
                0x0102,
                "b/0x00/0x00/0x00/0x00/0x00/0x00/0x01/0x02",
            ),
            (BlobLayout::Lawn, 0x0102, "b/0x0102"),
            (BlobLayout::Lawn, 0, "b/0x00"),
            (BlobLayout::Lawn, 1 << 56, "b/0x0100000000000000"),
        ] {
            let directory = BlobDirectory::new("b".into(), layout);
            let file = directory.file(Oid::from_u64(oid), tid);
            let expected = Path::new(expected).join("0x03d4dc04fff513cc.blob");
            assert_eq!(file, expected);
        }
    }
}
