//! Checks that the state after a crash is allowed.

use std::collections::BTreeMap;

use zrs_ids::{Oid, Tid};
use zrs_storage::error::{StorageError, StorageResult};
use zrs_storage::filestorage::{FileStorage, Options};
use zrs_vfs::sim::SimVfs;

use super::recorder::{Objects, PATH, State, begin, finish, open};

/// Open the storage, read all of it, commit, and open it again with and without its index.
/// It must equal one of the `allowed` states, byte for byte. Returns the state's number.
pub(super) fn check(vfs: &SimVfs, options: Options, allowed: &[State]) -> Result<usize, String> {
    let said = |what: &'static str| move |error: StorageError| format!("{what}: {error}");
    let storage = open(vfs, options).map_err(said("opening"))?;
    let bytes = vfs.content(PATH).unwrap_or_default();
    let number = allowed.iter().position(|state| state.bytes == bytes);
    let number = number.ok_or_else(|| {
        let states = allowed
            .iter()
            .map(|state| (&state.step, state.tid, state.bytes.len()));
        let states: Vec<_> = states.collect();
        let last = storage.last_transaction();
        format!("{} bytes up to {last:?}, allowed {states:?}", bytes.len())
    })?;
    let state = &allowed[number];
    for (path, content) in &state.blobs {
        let found = vfs.content(path);
        if found.as_ref() != Some(content) {
            let found = found.map(|found| found.len());
            return Err(format!("{}: {found:?} bytes", path.display()));
        }
    }
    show(&storage, state.tid, &state.objects)?;

    let (oid, tid) = probe(&storage).map_err(said("commit"))?;
    let mut objects = state.objects.clone();
    objects.insert(oid, Some(PROBE.into()));
    show(&storage, tid, &objects)?;
    storage.close().map_err(said("closing"))?;
    let indexed = open(vfs, options).map_err(said("opening with index"))?;
    if !indexed.used_index() {
        return Err("the index is of no use".to_owned());
    }
    show(&indexed, tid, &objects)?;
    indexed.remove_index().map_err(said("removing the index"))?;
    drop(indexed);
    let scanned = open(vfs, options).map_err(said("opening without index"))?;
    show(&scanned, tid, &objects)?;
    Ok(number)
}

const PROBE: &[u8] = b"\x80\x03cpersistent.list\nPersistentList\n.\x80\x03].";

/// Commit a new object; returns it and its transaction.
pub(super) fn probe(storage: &FileStorage) -> StorageResult<(Oid, Tid)> {
    let tid = Tid::from_u64(storage.last_transaction()?.as_u64() + (1 << 32));
    let oid = storage.new_oid()?;
    let mut transaction = begin(storage, tid)?;
    let voted = storage
        .store(&mut transaction, oid, None, PROBE)
        .and_then(|_| storage.vote(&mut transaction));
    if let Err(error) = voted {
        drop(storage.abort(transaction));
        return Err(error);
    }
    finish(storage, transaction)?;
    Ok((oid, tid))
}

/// The storage has exactly these objects, and all its transactions can be read.
pub(super) fn show(storage: &FileStorage, tid: Tid, objects: &Objects) -> Result<(), String> {
    let last = storage
        .last_transaction()
        .map_err(|error| error.to_string())?;
    if last != tid {
        return Err(format!("last transaction {last}, not {tid}"));
    }
    let index = storage.index().map_err(|error| error.to_string())?;
    let index: BTreeMap<_, _> = index.iter().collect();
    let scanned = scan(storage).map_err(|error| format!("reading transactions: {error}"))?;
    if index != scanned {
        return Err(format!("index {index:?}, scan {scanned:?}"));
    }
    if !index.keys().eq(objects.keys()) {
        return Err(format!(
            "objects {:?}, not {:?}",
            index.keys(),
            objects.keys()
        ));
    }
    for (oid, data) in objects {
        let found = match storage.load(*oid) {
            Ok((found, _)) => Some(found),
            Err(StorageError::NoSuchObject { .. }) => None,
            Err(error) => return Err(format!("reading {oid}: {error}")),
        };
        if found != *data {
            return Err(format!("{oid} has other data"));
        }
        let before = storage.load_before(*oid, Tid::MAX);
        if before.ok().flatten().map(|before| before.data) != *data {
            return Err(format!("{oid} has other data before the end of time"));
        }
        storage
            .history(*oid, None, usize::MAX)
            .map_err(|error| format!("history of {oid}: {error}"))?;
    }
    Ok(())
}

/// The position of each object's last record, found by reading all transactions.
fn scan(storage: &FileStorage) -> StorageResult<BTreeMap<Oid, u64>> {
    let mut positions = BTreeMap::new();
    let mut transactions = storage.iterator(None, None)?;
    while let Some((_, records)) = transactions.read_next()? {
        for record in records {
            let record = record?;
            positions.insert(record.oid, record.position);
            if let Some(data) = &record.data {
                assert_eq!(&storage.load_serial(record.oid, record.tid)?, data);
            }
        }
    }
    Ok(positions)
}
