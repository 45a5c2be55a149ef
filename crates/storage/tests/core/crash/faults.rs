//! An error in every call of every workload.

use zrs_storage::error::StorageError;
use zrs_vfs::sim::{Change, Extent, Fault};

use super::check::{check, probe, show};
use super::full;
use super::power::{ORDERED, allowed, record};
use super::recorder::{PATH, Recorder, State, empty_disk};
use super::workloads::{HUGE, WORKLOADS, Workload};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A single failing call, a disk that becomes full with or without a little space left, and a
/// disk whose syncs fail from some moment on.
const KINDS: [(i32, Extent, bool); 4] = [
    (EIO, Extent::Once, true),
    (ENOSPC, Extent::TakesSpace, true),
    (ENOSPC, Extent::TakesSpace, false),
    (EIO, Extent::Syncs, false),
];

/// Counts of the outcomes of workloads.
#[derive(Debug, Default)]
struct Outcomes {
    /// It continued without an error.
    unharmed: usize,
    /// A step failed, and the storage continues.
    goes_on: usize,
    /// A step failed, and the storage refuses further work.
    refuses: usize,
    /// The storage could not be opened.
    closed: usize,
}

/// Whether it is the system's error.
fn is_errno(error: &StorageError, errno: i32) -> bool {
    match error {
        StorageError::Io { source, .. } => source.raw_os_error() == Some(errno),
        StorageError::TailNotSaved(error) => is_errno(error, errno),
        _ => false,
    }
}

/// Run the workload with a fault; all possible consequences must be correct.
fn fail(workload: &Workload, states: &[State], fault: Fault, outcomes: &mut Outcomes) {
    let context = format!("{}, {fault:?}", workload.0);
    let mut recorder = Recorder::new(empty_disk(), ORDERED);
    recorder.vfs.fail(fault);
    let result = recorder.run(workload.1);
    let log = recorder.vfs.log();
    let may_be = allowed(states, &log);
    check_crash(&recorder, may_be, &context);
    let Err(error) = result else {
        // The ignored error did no harm.
        assert_eq!(recorder.states.len(), states.len(), "{context}");
        outcomes.unharmed += 1;
        recorder.vfs.clear_faults();
        let last = may_be.len() - 1;
        return check_live(&recorder, &may_be[last..], &context);
    };
    // Aborting a transaction cannot fail; if it had no effect, later calls fail.
    let failed = matches!(error, StorageError::Failed { .. }) && recorder.aborted;
    assert!(
        failed || is_errno(&error, fault.errno),
        "{context}: {error}"
    );
    let Some(storage) = recorder.storage.as_ref() else {
        outcomes.closed += 1;
        recorder.vfs.clear_faults();
        check(&recorder.vfs, ORDERED, may_be)
            .unwrap_or_else(|problem| panic!("{context}: {problem}"));
        return;
    };
    if let Err(error) = storage.last_transaction() {
        let failed = matches!(error, StorageError::Failed { .. });
        assert!(failed || is_closed(&error), "{context}: {error}");
        recorder.vfs.clear_faults();
        let refused = probe(storage).unwrap_err();
        assert_eq!(refused.to_string(), error.to_string(), "{context}");
        outcomes.refuses += usize::from(failed);
        outcomes.closed += usize::from(!failed);
        check_reopened(&recorder, may_be, &context);
    } else {
        let commit_sync_failed = fault.extent == Extent::Syncs && failed_in_commit(&log);
        assert!(
            !commit_sync_failed,
            "{context}: goes on after a failed sync"
        );
        outcomes.goes_on += 1;
        // The storage cannot be written, but can be read, and a pack has freed the space that it
        // used.
        if fault.extent == Extent::TakesSpace {
            let leftover = format!("{PATH}.pack");
            assert!(recorder.vfs.content(leftover).is_none(), "{context}");
            let shown = may_be.iter().any(|state| shows(&recorder, state));
            assert!(shown, "{context}: cannot be read");
            assert!(
                probe(storage).is_err_and(|error| is_errno(&error, ENOSPC)),
                "{context}"
            );
        }
        recorder.vfs.clear_faults();
        check_live(&recorder, may_be, &context);
    }
}

fn is_closed(error: &StorageError) -> bool {
    matches!(error, StorageError::Closed)
}

fn shows(recorder: &Recorder, state: &State) -> bool {
    show(recorder.storage(), state.tid, &state.objects).is_ok()
}

/// Whether the last failed sync was that of the file with the transactions: the first file that
/// was created, and renamed to its name.
fn failed_in_commit(log: &[Change]) -> bool {
    let failed = log.iter().rev().find_map(|change| match change {
        Change::FailedSync { file } => Some(*file),
        _ => None,
    });
    let written = log.iter().rev().find_map(|change| match change {
        Change::Write { file, data, .. } if data.len() == 1 => Some(*file),
        _ => None,
    });
    failed.is_some() && failed == written
}

/// The power fails at the moment of the error.
fn check_crash(recorder: &Recorder, may_be: &[State], context: &str) {
    let vfs = recorder
        .vfs
        .clone()
        .with_samples(if full() { 24 } else { 0 });
    let step = if full() { 1 } else { 5 };
    for image in vfs.crash_images(vfs.operations()).step_by(step) {
        if let Err(problem) = check(&image.open(), ORDERED, may_be) {
            panic!("{context}, {}: {problem}", image.label());
        }
    }
}

/// The same machine opens the file again.
fn check_reopened(recorder: &Recorder, may_be: &[State], context: &str) {
    if let Err(problem) = check(&recorder.vfs, ORDERED, may_be) {
        panic!("{context}, opened again: {problem}");
    }
}

/// The storage continues: a commit succeeds, and survives a power cut.
fn check_live(recorder: &Recorder, may_be: &[State], context: &str) {
    let storage = recorder.storage();
    let state = may_be.iter().find(|state| shows(recorder, state));
    let state = state.unwrap_or_else(|| panic!("{context}: shows something else"));
    let (oid, tid) = probe(storage).unwrap_or_else(|error| panic!("{context}: {error}"));
    let mut after = state.clone();
    after.tid = tid;
    after
        .objects
        .insert(oid, Some(storage.load(oid).unwrap().0));
    after.bytes = recorder.vfs.content(PATH).unwrap();
    check_crash(recorder, &[after], context);
}

fn sweep(workload: &Workload, step: usize, outcomes: &mut Outcomes) {
    let whole = record(workload, ORDERED);
    for (errno, extent, short) in KINDS {
        for call in (0..whole.vfs.calls()).step_by(step) {
            let fault = Fault {
                call,
                errno,
                extent,
                short,
            };
            fail(workload, &whole.states, fault, outcomes);
        }
    }
}

#[test]
fn a_failing_call_is_reported_and_acknowledged_transactions_are_safe() {
    let step = if full() { 1 } else { 13 };
    let mut outcomes = Outcomes::default();
    for workload in WORKLOADS {
        sweep(workload, step, &mut outcomes);
    }
    let Outcomes {
        unharmed,
        goes_on,
        refuses,
        closed,
    } = outcomes;
    let all_kinds = [unharmed, goes_on, refuses, closed]
        .iter()
        .all(|count| *count > 0);
    assert!(all_kinds, "{outcomes:?}");
}

/// The same for transactions that have already been written in part. Large files take long, so
/// this tries one call in seven, normally one in a hundred.
#[test]
fn a_failing_call_does_not_damage_transactions_larger_than_memory() {
    let step = if full() { 7 } else { 101 };
    let mut outcomes = Outcomes::default();
    for workload in HUGE {
        sweep(workload, step, &mut outcomes);
    }
    let failed = outcomes.refuses + outcomes.goes_on + outcomes.closed;
    assert!(failed > 0, "{outcomes:?}");
}
