//! Files: a `Data.fs`, an index, and the structures in them.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use zrs_ids::{Oid, Tid};
use zrs_storage::Tail;
use zrs_storage::check::{Check, CheckOptions, Progress};
use zrs_storage::error::{StorageError, StorageResult};
use zrs_storage::filestorage::{
    FileStorage, FinishError, Options, Resolution, TransactionMeta, UndoResolver,
};
use zrs_storage::format::data::parse_backpointer;
use zrs_storage::format::{
    DATA_HEADER_LEN, DataHeader, Magic, TRANSACTION_HEADER_LEN, TransactionHeader,
};
use zrs_storage::index_file::{read_index, write_index};
use zrs_storage::pack::{self, native_references};
use zrs_storage::salvage::Salvage;
use zrs_vfs::Vfs;
use zrs_vfs::sim::SimVfs;

const PATH: &str = "Data.fs";
/// How many times the bytes of its file an index may take in memory, small ones aside.
const INDEX_GROWTH: usize = 16;
const SMALL: usize = 1 << 16;

/// Headers of transactions and records at every place.
pub fn format(bytes: &[u8]) {
    let _ = Magic::of(&bytes[..bytes.len().min(4)]);
    for (position, rest) in (0..bytes.len()).map(|at| (at as u64, &bytes[at..])) {
        let head = rest.first_chunk::<TRANSACTION_HEADER_LEN>();
        if let Some(Ok(header)) = head.map(TransactionHeader::parse) {
            assert_eq!(Some(&header.to_bytes()), head);
            let _ = header.end(position);
            let _ = header.check_redundant_length(position);
        }
        let head = rest.first_chunk::<DATA_HEADER_LEN>();
        if let Some(Ok(header)) = head.map(DataHeader::parse) {
            assert_eq!(Some(&header.to_bytes()), head);
            let _ = header.check(position, 0, bytes.len() as u64);
        }
        let back = rest.first_chunk().copied();
        if let Some(Ok(Some(back))) = back.map(|back| parse_backpointer(back, position)) {
            assert!(back < position);
        }
    }
}

/// An index file; one that can be read is the same when it is written and read again.
pub fn index_file(bytes: &[u8]) {
    let Ok((position, index)) = read_index(bytes) else {
        return;
    };
    assert!(index.heap_bytes() <= SMALL + INDEX_GROWTH * bytes.len());
    let written = write_index(position, &index);
    let (position_again, again) = read_index(&written[..]).unwrap();
    assert_eq!(position_again, position);
    assert!(again.iter().eq(index.iter()));
}

/// Any bytes as a `Data.fs`.
pub fn data_file(bytes: &[u8]) {
    storage(&[(PATH, bytes)]);
}

/// Two bytes that say how long an index is, the index, and a `Data.fs`.
pub fn data_file_and_index(bytes: &[u8]) {
    let Some((len, rest)) = bytes.split_first_chunk() else {
        return;
    };
    let len = usize::from(u16::from_be_bytes(*len)).min(rest.len());
    let (index, data) = rest.split_at(len);
    storage(&[(PATH, data), ("Data.fs.index", index)]);
}

fn storage(files: &[(&str, &[u8])]) {
    let make = || {
        let files = files
            .iter()
            .map(|(path, content)| (*path, content.to_vec()));
        SimVfs::with_files(0, files)
    };
    let _ = read(&make(), true);
    let _ = inspect(&make());
    let vfs = make();
    let Ok(storage) = read(&vfs, false) else {
        return;
    };
    let before = storage.last_finished();
    let _ = pack(&storage);
    if let Ok(tid) = commit(&storage) {
        assert!(tid > before);
    }
    let last = storage.last_finished();
    if storage.close().is_ok() {
        let again = open(&vfs, false).unwrap();
        assert_eq!(again.last_finished(), last);
    }
}

fn open(vfs: &SimVfs, read_only: bool) -> StorageResult<FileStorage> {
    let options = Options {
        read_only,
        ..Options::default()
    };
    FileStorage::open(Arc::new(vfs.clone()), Path::new(PATH), options)
}

/// Open the file and read all that there is, in every way.
fn read(vfs: &SimVfs, read_only: bool) -> StorageResult<FileStorage> {
    let storage = open(vfs, read_only)?;
    let mut transactions = storage.iterator(None, None)?;
    while let Ok(Some((_, records))) = transactions.read_next() {
        for record in records {
            let Ok(record) = record else { break };
            let _ = storage.load_serial(record.oid, record.tid);
        }
    }
    let mut oids: Vec<_> = storage.index()?.iter().map(|(oid, _)| oid).collect();
    oids.truncate(100);
    oids.extend([Oid::ZERO, Oid::MAX]);
    for oid in oids {
        let _ = storage.load(oid);
        let _ = storage.get_tid(oid);
        let _ = storage.load_before(oid, Tid::MAX);
        let _ = storage.load_before(oid, storage.last_transaction()?);
        let _ = storage.history(oid, None, 100);
        let _ = storage.record_iternext(Some(oid));
    }
    let _ = storage.undo_log(None, 100);
    let _ = storage.last_invalidations(100);
    Ok(storage)
}

/// What looks at damaged files, and what follows one.
fn inspect(vfs: &SimVfs) -> StorageResult<()> {
    let shared: Arc<dyn Vfs> = Arc::new(vfs.clone());
    if let Ok(mut tail) = Tail::open(Arc::clone(&shared), Path::new(PATH), Tid::ZERO, None) {
        while let Ok(Some(transaction)) = tail.next(None) {
            let _ = tail.records(&transaction).count();
        }
    }
    let options = CheckOptions {
        index: true,
        references: true,
        live: false,
    };
    let mut check = Check::open(Arc::clone(&shared), Path::new(PATH), options)?;
    while !matches!(check.step(1 << 20), Ok(Progress::Done) | Err(_)) {}
    shared.create(Path::new("Recovered.fs")).map_err(io_error)?;
    let (from, to) = (Path::new(PATH), Path::new("Recovered.fs"));
    let mut salvage = Salvage::open(shared, from, to, true)?;
    while matches!(salvage.step(1 << 20), Ok(true)) {}
    Ok(())
}

fn io_error(source: std::io::Error) -> StorageError {
    let path = Path::new(PATH).to_path_buf();
    StorageError::Io { path, source }
}

fn pack(storage: &FileStorage) -> StorageResult<bool> {
    let options = pack::Options {
        time: storage.last_transaction()?,
        gc: storage.len()? % 2 == 0,
    };
    let packed = storage.pack(&options, true, &mut native_references(), None);
    packed.map(|dropped| dropped.is_some())
}

/// Commit a new object, and the undoing of what was last.
fn commit(storage: &FileStorage) -> StorageResult<Tid> {
    let last = storage.last_transaction()?;
    let meta = TransactionMeta {
        tid: Tid::from_u64(last.as_u64().saturating_add(1)),
        status: b' ',
        user: Bytes::new(),
        description: Bytes::new(),
        extension: Bytes::new(),
    };
    let mut transaction = storage.begin(storage.commit_lock().acquire(), &meta)?;
    let _ = storage.undo(&mut transaction, last, &mut Unresolved);
    let oid = storage.new_oid()?;
    storage.store(&mut transaction, oid, None, b"data")?;
    let _ = storage.restore(
        &mut transaction,
        Oid::ZERO,
        meta.tid,
        Some(b"data"),
        Some(last),
    );
    storage.vote(&mut transaction)?;
    match storage.finish(transaction, |_| Ok::<(), Infallible>(())) {
        Ok(guard) => {
            drop(guard);
            Ok(meta.tid)
        }
        Err(FinishError::Storage(error)) => Err(error),
        Err(FinishError::Callback(never)) => match never {},
    }
}

/// Nothing is reconciled.
struct Unresolved;

impl UndoResolver for Unresolved {
    fn resolve(&mut self, _: Oid, _: Tid, _: Tid, _: &[u8], _: &[u8]) -> Resolution {
        Resolution::Unresolved
    }
}
