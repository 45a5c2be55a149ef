//! Reading the pickles of objects.

use std::collections::BTreeSet;

use super::error::{Damage, LogError, LogResult};
use super::index::Entry;
use super::log::Log;
use super::payloads::ObjectPayload;
use super::record::{HEAD_LEN, Head, Kind};
use zrs_ids::Oid;
use zrs_vfs::VfsFile;

/// The number of bytes read first, which is enough for most records.
const GUESS: usize = 2048;

/// The pickles of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The last transaction that wrote the object.
    pub serial: u64,
    /// The pickle of the whole state, then those of changes, oldest first.
    pub pickles: Vec<Vec<u8>>,
}

impl Log {
    /// The pickles of an object, as of the last transaction that was read.
    pub fn load(&self, oid: Oid) -> LogResult<Loaded> {
        let (file, entry) = self.find(oid)?;
        let mut pickles = Vec::new();
        for (position, head, payload) in self.chain(&*file, oid, entry)? {
            let pickle = ObjectPayload::parse(&payload).map(|payload| payload.pickle.to_vec());
            let broken = || self.corrupt(position, Some(head.transaction), Damage::Unexpected);
            pickles.push(pickle.ok_or_else(broken)?);
        }
        Ok(Loaded {
            serial: entry.serial,
            pickles,
        })
    }

    /// The last transaction that wrote an object.
    pub fn serial(&self, oid: Oid) -> LogResult<u64> {
        let view = self.view()?;
        let entry = view
            .index
            .objects
            .get(&oid)
            .or_else(|| view.index.uncertain.get(&oid));
        entry
            .map(|entry| entry.serial)
            .ok_or(LogError::NoSuchObject(oid))
    }

    /// Whether the object or stream exists, even if it cannot be read.
    pub fn has(&self, oid: Oid) -> LogResult<bool> {
        Ok(self.view()?.index.has(oid))
    }

    fn find(&self, oid: Oid) -> LogResult<(std::sync::Arc<dyn VfsFile>, Entry)> {
        let view = self.view()?;
        if let Some(entry) = view.index.uncertain.get(&oid) {
            return Err(self.corrupt(entry.position, Some(entry.serial), Damage::NoEnd));
        }
        let entry = view
            .index
            .objects
            .get(&oid)
            .ok_or(LogError::NoSuchObject(oid))?;
        Ok((std::sync::Arc::clone(&view.file), *entry))
    }

    /// The records of an object, from the full one on.
    pub(super) fn chain(
        &self,
        file: &dyn VfsFile,
        oid: Oid,
        entry: Entry,
    ) -> LogResult<Vec<(u64, Head, Vec<u8>)>> {
        let mut records = Vec::new();
        let (mut position, mut transaction) = (entry.position, entry.serial);
        loop {
            let (head, payload) = self.record(file, position, Some(transaction))?;
            let belongs = head.oid == oid
                && head.transaction <= transaction
                && (head.kind == Kind::Full || head.kind == Kind::Change)
                && head.previous < position;
            if !belongs {
                return Err(self.corrupt(position, Some(transaction), Damage::Unexpected));
            }
            let (kind, previous) = (head.kind, head.previous);
            records.push((position, head, payload));
            if kind == Kind::Full {
                records.reverse();
                return Ok(records);
            }
            (position, transaction) = (previous, head.transaction);
        }
    }

    /// The references of an object; none if its records cannot be read.
    pub(super) fn references(&self, file: &dyn VfsFile, oid: Oid, entry: Entry) -> BTreeSet<Oid> {
        let chain = self.chain(file, oid, entry).unwrap_or_default();
        let payloads = chain
            .iter()
            .filter_map(|(_, _, payload)| ObjectPayload::parse(payload));
        payloads.flat_map(|payload| payload.references).collect()
    }

    /// Read the record at a position, and verify its checksums.
    pub(super) fn record(
        &self,
        file: &dyn VfsFile,
        position: u64,
        transaction: Option<u64>,
    ) -> LogResult<(Head, Vec<u8>)> {
        let corrupt = |damage| self.corrupt(position, transaction, damage);
        let mut bytes = vec![0; GUESS];
        let mut count = file.read_full_at(&mut bytes, position).map_err(self.io())?;
        let head = bytes[..count]
            .first_chunk()
            .ok_or_else(|| corrupt(Damage::Cut))?;
        let head = Head::parse(head, position).map_err(corrupt)?;
        let len = usize::try_from(head.len).unwrap_or(usize::MAX);
        let end = HEAD_LEN.saturating_add(len);
        if end > count {
            let there = file.metadata().map_err(self.io())?.len;
            if head.end(position) > there {
                return Err(corrupt(Damage::Cut));
            }
            bytes.resize(end, 0);
            let rest = position + count as u64;
            count += file
                .read_full_at(&mut bytes[count..], rest)
                .map_err(self.io())?;
        }
        bytes.truncate(count.min(end));
        let payload = bytes.split_off(HEAD_LEN);
        if head.matches(&payload) {
            Ok((head, payload))
        } else {
            Err(corrupt(Damage::Payload))
        }
    }
}
