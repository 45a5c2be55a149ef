//! The durable content of a disk, and the changes that are not durable yet.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;

use super::log::{Change, FileId};
use super::tree::Tree;

/// The unit that a disk writes completely or not at all.
pub(super) const SECTOR: usize = 512;

/// The file system after a number of changes: durable state, and changes that are not.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) files: BTreeMap<FileId, DiskFile>,
    pub(super) names: BTreeMap<PathBuf, FileId>,
    /// The directories.
    directories: BTreeSet<PathBuf>,
    /// The changes of names that no sync of a directory has made durable, in order.
    pub(super) pending_names: Vec<Change>,
}

/// A file with changes that are not durable.
#[derive(Clone, Debug, Default)]
pub(super) struct DiskFile {
    /// The durable content.
    durable: Vec<u8>,
    /// The content that the running system sees.
    cache: Vec<u8>,
    /// The changes since the last sync, in order.
    pub(super) pending: Vec<Pending>,
    /// The versions of each sector that was touched since the last sync.
    sectors: BTreeMap<usize, Vec<Version>>,
}

/// A write or a change of length.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// Its index in the log.
    pub(super) number: usize,
    /// Which sectors it touched.
    pub(super) sectors: Range<usize>,
    /// The file's length after it.
    len: usize,
}

/// The content of a sector after a change.
#[derive(Clone, Debug)]
pub(super) struct Version {
    /// Which of the pending changes.
    pub(super) change: usize,
    /// From which byte on the change cut the sector off, if it did.
    cut: Option<usize>,
    bytes: [u8; SECTOR],
}

/// Which of a file's pending changes reached the disk.
pub(super) struct Survival<'a> {
    /// The number of changes after which the length is that on the disk.
    pub(super) length: usize,
    /// The number of a sector's versions that reached the disk; the last of them remains.
    pub(super) versions: &'a mut dyn FnMut(usize, &[Version]) -> usize,
}

impl Disk {
    pub(super) fn new(base: &Tree) -> Self {
        let file = |(id, content): (&FileId, &Vec<u8>)| (*id, DiskFile::new(content));
        let directories = base
            .names
            .iter()
            .filter(|(_, file)| **file == FileId::DIRECTORY);
        Self {
            files: base.files.iter().map(file).collect(),
            names: base.names.clone(),
            directories: directories.map(|(path, _)| path.clone()).collect(),
            pending_names: Vec::new(),
        }
    }

    /// Apply the change with this index in the log.
    pub(super) fn apply(&mut self, number: usize, change: &Change) {
        match change {
            Change::Write { file, offset, data } => {
                self.file(*file).write(number, *offset, data);
            }
            Change::SetLen { file, len } => self.file(*file).set_len(number, *len),
            Change::Sync { file } => self.file(*file).sync(),
            Change::FailedSync { file } => self.file(*file).lose(),
            Change::Create { file, .. } => {
                self.files.insert(*file, DiskFile::default());
                self.pending_names.push(change.clone());
            }
            Change::CreateDirectory { path } => {
                self.directories.insert(path.clone());
                self.pending_names.push(change.clone());
            }
            Change::Link { .. } | Change::Rename { .. } | Change::Remove { .. } => {
                self.pending_names.push(change.clone());
            }
            Change::SyncDirectory { path } => {
                let (durable, pending) = std::mem::take(&mut self.pending_names)
                    .into_iter()
                    .partition::<Vec<_>, _>(|change| change.is_in_directory(path));
                for change in durable {
                    change.apply_to_names(&mut self.names);
                }
                self.pending_names = pending;
            }
            Change::Mark(_) => {}
        }
    }

    fn file(&mut self, file: FileId) -> &mut DiskFile {
        self.files.entry(file).or_default()
    }

    /// The names if the first `count` pending changes are durable. Names in a directory whose
    /// own name is not durable are lost.
    pub(super) fn names_after(&self, changes: usize) -> BTreeMap<PathBuf, FileId> {
        let mut names = self.names.clone();
        for change in self.pending_names.iter().take(changes) {
            change.apply_to_names(&mut names);
        }
        let lost: BTreeSet<_> = self
            .directories
            .iter()
            .filter(|path| !names.contains_key(*path))
            .collect();
        names.retain(|path, _| {
            !path
                .ancestors()
                .any(|above| lost.contains(&above.to_owned()))
        });
        names
    }
}

impl DiskFile {
    fn new(content: &[u8]) -> Self {
        Self {
            durable: content.to_vec(),
            cache: content.to_vec(),
            ..Self::default()
        }
    }

    fn write(&mut self, number: usize, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(data);
        self.changed(number, offset / SECTOR..end.div_ceil(SECTOR), None);
    }

    fn set_len(&mut self, number: usize, len: usize) {
        let before = self.cache.len();
        self.cache.resize(len, 0);
        let sectors = if len < before {
            len / SECTOR..before.div_ceil(SECTOR)
        } else {
            0..0
        };
        self.changed(number, sectors, Some(len));
    }

    /// Record the sectors' content after a change that truncated the file to `cut` bytes, if any.
    fn changed(&mut self, number: usize, sectors: Range<usize>, cut: Option<usize>) {
        let change = self.pending.len();
        for sector in sectors.clone() {
            let version = Version {
                change,
                cut: cut.map(|len| len.saturating_sub(sector * SECTOR)),
                bytes: sector_of(&self.cache, sector),
            };
            self.sectors.entry(sector).or_default().push(version);
        }
        self.pending.push(Pending {
            number,
            sectors,
            len: self.cache.len(),
        });
    }

    fn sync(&mut self) {
        self.durable = self.surviving(&mut Survival {
            length: self.pending.len(),
            versions: &mut |_, versions| versions.len(),
        });
        self.pending.clear();
        self.sectors.clear();
    }

    /// Discard the written sectors. Lengths are kept: file systems journal them.
    fn lose(&mut self) {
        for (sector, versions) in &mut self.sectors {
            let mut bytes = sector_of(&self.durable, *sector);
            versions.retain_mut(|version| {
                if let Some(cut) = version.cut {
                    bytes[cut..].fill(0);
                    version.bytes = bytes;
                }
                version.cut.is_some()
            });
        }
        self.sectors.retain(|_, versions| !versions.is_empty());
    }

    /// The disk's content if this part of the pending changes reached it.
    pub(super) fn surviving(&self, survival: &mut Survival<'_>) -> Vec<u8> {
        let mut content = self.durable.clone();
        let touched = self.sectors.keys().next_back().map_or(0, |last| last + 1);
        if content.len() < touched * SECTOR {
            content.resize(touched * SECTOR, 0);
        }
        for (sector, versions) in &self.sectors {
            let wanted = (survival.versions)(*sector, versions).min(versions.len());
            // A truncation that the length does not show did not happen, nor did what follows;
            // one that it shows did, whether or not the sector was written.
            let done = |version: &&Version| version.change < survival.length;
            let undone = |version| !done(&version) && version.cut == Some(0);
            let most = versions.iter().position(undone).unwrap_or(versions.len());
            let count = wanted.min(most);
            let bytes = &mut content[sector * SECTOR..][..SECTOR];
            if let Some(version) = versions[..count].last() {
                bytes.copy_from_slice(&version.bytes);
            }
            let cuts = versions[count..].iter().filter(done);
            if let Some(cut) = cuts.filter_map(|version| version.cut).min() {
                bytes[cut..].fill(0);
            }
        }
        let last = survival.length.checked_sub(1);
        let last = last.and_then(|last| self.pending.get(last));
        content.resize(last.map_or(self.durable.len(), |change| change.len), 0);
        content
    }

    /// Whether the change with this index is a write to this file that a crash may tear.
    pub(super) fn can_tear(&self, number: usize) -> bool {
        let Some(change) = self
            .pending
            .iter()
            .position(|change| change.number == number)
        else {
            return false;
        };
        let written = |version: &Version| version.change == change && version.cut.is_none();
        let sectors = self.sectors.values();
        sectors
            .filter(|versions| versions.iter().any(written))
            .nth(1)
            .is_some()
    }
}

fn sector_of(content: &[u8], sector: usize) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    let rest = content.get(sector * SECTOR..).unwrap_or_default();
    let count = rest.len().min(SECTOR);
    bytes[..count].copy_from_slice(&rest[..count]);
    bytes
}
