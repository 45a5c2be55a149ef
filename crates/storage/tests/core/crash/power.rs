//! A power cut after every operation of every workload.
//!
//! With `commit_sync="ordered"`, each disk image that a power cut may leave can be opened. It has
//! all acknowledged transactions, and the current one completely or not at all, byte for byte.
//!
//! With `"single"`, the reference's one sync, acknowledged transactions are still on the disk,
//! byte for byte. But the status byte of a transaction that was being finished may be there
//! without other sectors. Then the file is refused as damaged (everything after the last
//! acknowledged transaction must be cut off by hand), or it opens with data that are zeros or
//! earlier contents of the disk, in a transaction that was never acknowledged. Its id may be
//! zeros too if its header spans two sectors.

use zrs_storage::filestorage::{CommitSync, Options};
use zrs_storage::format::TRANSACTION_HEADER_LEN;
use zrs_vfs::sim::{Change, Image, SimVfs};

use super::check::{check, show};
use super::full;
use super::recorder::{PATH, Recorder, State, empty_disk, open};
use super::workloads::{HUGE, WORKLOADS, Workload};

pub(super) const ORDERED: Options = options(CommitSync::Ordered);
/// The unit that a disk writes completely or not at all.
const SECTOR: usize = 512;
const SINGLE: Options = options(CommitSync::Single);

const fn options(commit_sync: CommitSync) -> Options {
    Options {
        create: false,
        read_only: false,
        stop: None,
        quota: None,
        commit_sync,
    }
}

/// Run a workload on a new file system.
pub(super) fn record((name, steps): &Workload, options: Options) -> Recorder {
    let mut recorder = Recorder::new(empty_disk(), options);
    if let Err(error) = recorder.run(steps) {
        panic!("{name}: {error}");
    }
    recorder
}

/// The states that may be found after a power cut after these changes: the last acknowledged
/// state, or the one that was being written.
pub(super) fn allowed<'states>(states: &'states [State], log: &[Change]) -> &'states [State] {
    let marks = log
        .iter()
        .filter(|change| matches!(change, Change::Mark(_)));
    let acknowledged = marks.count();
    let last = states.len() - 1;
    &states[acknowledged.saturating_sub(1).min(last)..=acknowledged.min(last)]
}

/// Every crash image of a workload, with its allowed states.
pub(super) fn images(
    recorder: &Recorder,
    samples: usize,
) -> impl Iterator<Item = (Image, &[State])> {
    let vfs = recorder.vfs.clone().with_samples(samples);
    let log = vfs.log();
    (0..=log.len()).flat_map(move |operations| {
        let allowed = allowed(&recorder.states, &log[..operations]);
        vfs.crash_images(operations)
            .map(move |image| (image, allowed))
    })
}

fn samples() -> usize {
    if full() { 300 } else { 12 }
}

fn fail_on(problems: &[String], tried: usize) {
    let first = problems[..problems.len().min(10)].join("\n");
    assert!(
        problems.is_empty(),
        "{} of {tried} images:\n{first}",
        problems.len()
    );
}

/// Check every image; returns in how many the current step had taken effect.
fn sweep(workload: &Workload) -> usize {
    let name = workload.0;
    let recorder = record(workload, ORDERED);
    let (mut tried, mut done, mut problems) = (0, 0, Vec::new());
    for (image, allowed) in images(&recorder, samples()) {
        tried += 1;
        let readable = check_read_only(&image, allowed);
        match readable.and_then(|()| check(&image.open(), ORDERED, allowed)) {
            Ok(number) => done += number,
            Err(problem) => problems.push(format!("{name}, {}: {problem}", image.label())),
        }
    }
    assert!(tried > 50, "{name}: {tried} images");
    fail_on(&problems, tried);
    done
}

/// A read-only storage has the same state, and changes nothing.
fn check_read_only(image: &Image, allowed: &[State]) -> Result<(), String> {
    if image.content(PATH).is_none() {
        return Ok(());
    }
    let read_only = Options {
        read_only: true,
        ..ORDERED
    };
    let vfs = image.open();
    let storage = open(&vfs, read_only).map_err(|error| format!("read-only: {error}"))?;
    let shown = allowed
        .iter()
        .any(|state| show(&storage, state.tid, &state.objects).is_ok());
    if shown && vfs.operations() == 0 {
        return Ok(());
    }
    Err("read-only: other data, or something was written".to_owned())
}

#[test]
fn acknowledged_transactions_survive_and_none_is_visible_in_part() {
    for workload in WORKLOADS {
        let done = sweep(workload);
        assert!(done > 0, "{}: no cut came late enough", workload.0);
    }
}

/// Large images take long, so this normally checks a few of each workload.
#[test]
fn transactions_larger_than_memory_survive_too() {
    for workload in HUGE {
        let recorder = record(workload, ORDERED);
        let log = recorder.vfs.log();
        let (step, images) = if full() { (1, 30) } else { (log.len() / 3, 2) };
        for operations in (0..=log.len()).rev().step_by(step) {
            let allowed = allowed(&recorder.states, &log[..operations]);
            for image in recorder.vfs.crash_images(operations).take(images) {
                if let Err(problem) = check(&image.open(), ORDERED, allowed) {
                    panic!("{}, {}: {problem}", workload.0, image.label());
                }
            }
        }
    }
}

/// Counts of the outcomes of a workload's images with one sync.
#[derive(Debug, Default)]
struct Single {
    sound: usize,
    refused: usize,
    damaged: usize,
}

/// The position where a file differs from one with ordered commits.
fn check_single(image: &Image, allowed: &[State]) -> Result<(), bool> {
    if check(&image.open(), SINGLE, allowed).is_ok() {
        return Ok(());
    }
    let acknowledged = &allowed[0];
    let bytes = image.content(PATH).unwrap();
    let label = image.label();
    assert!(bytes.starts_with(&acknowledged.bytes), "{label}: lost");
    let Some(next) = allowed.get(1) else {
        panic!("{label}: damaged, though nothing was being done");
    };
    // An operator can repair it like this.
    let data = (PATH.into(), acknowledged.bytes.clone());
    let cut = SimVfs::with_files(0, acknowledged.blobs.clone().into_iter().chain([data]));
    check(&cut, SINGLE, &allowed[..1]).unwrap();
    let Ok(storage) = open(&image.open(), SINGLE) else {
        return Err(true);
    };
    if storage.last_transaction().unwrap() != next.tid {
        let header = acknowledged.bytes.len()..acknowledged.bytes.len() + TRANSACTION_HEADER_LEN;
        let torn = header.start / SECTOR != (header.end - 1) / SECTOR;
        assert!(torn, "{label}: another last transaction");
        return Err(false);
    }
    for (oid, data) in &acknowledged.objects {
        let before = storage.load_before(*oid, next.tid).ok().flatten();
        assert_eq!(before.map(|before| before.data), *data, "{label}: {oid}");
    }
    Err(false)
}

#[test]
fn with_one_sync_acknowledged_transactions_are_still_there() {
    let mut single = Single::default();
    // Packs copy any data; only the commits differ.
    for workload in &WORKLOADS[..5] {
        let recorder = record(workload, SINGLE);
        for (image, allowed) in images(&recorder, samples()) {
            match check_single(&image, allowed) {
                Ok(()) => single.sound += 1,
                Err(true) => single.refused += 1,
                Err(false) => single.damaged += 1,
            }
        }
    }
    // The damage does occur; otherwise ordered commits would be unnecessary.
    let Single {
        refused, damaged, ..
    } = single;
    assert!(refused > 0 && damaged > 0, "{single:?}");
    assert!(single.sound > refused + damaged, "{single:?}");
}
