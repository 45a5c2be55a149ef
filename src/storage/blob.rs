//! Where a blob directory keeps its files.
//!
//! ZODB knows two layouts: *bushy*, with a directory for each byte of the oid, and *lawn*,
//! with one directory for each object. The file of a revision is named for its tid.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::ids::{Oid, Tid};

/// How the files are spread over directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobLayout {
    /// A directory for each byte of the oid.
    Bushy,
    /// A directory for each object.
    Lawn,
}

impl BlobLayout {
    /// The layout that ZODB's `.layout` file calls so.
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

    /// The file of an object's revision, whether or not it exists.
    pub fn file(&self, oid: Oid, tid: Tid) -> PathBuf {
        let mut path = self.path.clone();
        match self.layout {
            BlobLayout::Bushy => path.extend(oid.as_bytes().map(|byte| format!("0x{byte:02x}"))),
            BlobLayout::Lawn => {
                // Leading zero bytes are left out, but for the last byte.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths are those that ZODB's `FilesystemHelper` gives.
    #[test]
    fn files_are_where_zodb_puts_them() {
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
