//! Packs of files that are damaged, and on a file system whose calls fail.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use zrs_ids::Tid;
use zrs_storage::DataFile;
use zrs_storage::error::{StorageError, StorageResult};
use zrs_storage::pack::{Options, Pack, Packed, Target, native_references};
use zrs_vfs::Vfs;
use zrs_vfs::sim::{Extent, Fault, SimVfs};

const DATA: &str = "/Data.fs";
const PACK: &str = "/Data.fs.pack";

/// The files packed in `packs.txt`, with the pack's time and kind.
static SAMPLES: LazyLock<Vec<(Vec<u8>, Options)>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/packs");
    let sample = |line: &str| {
        let fields: Vec<_> = line.split(' ').collect();
        let time = Tid::from_u64(u64::from_str_radix(fields[2], 16).unwrap());
        let gc = fields[3] == "gc";
        let bytes = std::fs::read(folder.join(fields[0])).unwrap();
        (bytes, Options { time, gc })
    };
    let lines = include_str!("../../../../tests/data/packs/packs.txt").lines();
    lines.map(sample).collect()
});

fn pack(files: &SimVfs, options: &Options) -> StorageResult<Option<Packed>> {
    let vfs: Arc<dyn Vfs> = Arc::new(files.clone());
    let source = DataFile::open(&*vfs, &Path::new(DATA).into())?;
    let end = source.metadata()?.len;
    let path = Path::new(PACK).into();
    let mut references = native_references();
    let target = Target {
        vfs: &vfs,
        path: &path,
        progress: &Arc::default(),
    };
    match Pack::start(target, &source, end, options, &mut references, None)? {
        Some(pack) => pack.finish().map(Some),
        None => Ok(None),
    }
}

/// Packs a file on which calls fail: the error is the system's, nothing is left behind, and
/// the next pack succeeds. Returns whether it failed.
fn fail(bytes: &[u8], options: &Options, fault: Fault, packed: &[u8]) -> bool {
    let files = SimVfs::with_files(0, [(DATA, bytes.to_vec())]);
    files.fail(fault);
    let failed = match pack(&files, options) {
        Ok(_) => false,
        Err(StorageError::Io { source, .. }) => {
            assert_eq!(source.raw_os_error(), Some(fault.errno));
            assert_eq!(files.paths(), [Path::new(DATA)], "{fault:?}");
            files.clear_faults();
            pack(&files, options).unwrap();
            true
        }
        Err(error) => panic!("{fault:?}: {error}"),
    };
    // A read that fails once is tried again in places.
    assert!(failed || files.failures() == 0 || fault.extent == Extent::Once);
    assert_eq!(files.content(DATA).as_deref(), Some(bytes));
    assert_eq!(files.content(PACK).as_deref(), Some(packed));
    failed
}

#[test]
fn a_failing_call_stops_the_pack_and_leaves_no_file() {
    let mut failed = 0;
    for (bytes, options) in SAMPLES.iter().step_by(16) {
        let whole = SimVfs::with_files(0, [(DATA, bytes.clone())]);
        let Ok(Some(_)) = pack(&whole, options) else {
            continue;
        };
        let packed = whole.content(PACK).unwrap();
        for (extent, errno) in [
            (Extent::Once, 5),
            (Extent::TakesSpace, 28),
            (Extent::Syncs, 5),
        ] {
            for call in 0..whole.calls() {
                let fault = Fault {
                    call,
                    errno,
                    extent,
                    short: true,
                };
                failed += usize::from(fail(bytes, options, fault, &packed));
            }
        }
    }
    assert!(failed > 100);
}

/// After a finished pack the file is durable under its name, whatever the power does.
#[test]
fn a_finished_pack_survives_a_power_cut() {
    let mut seen = 0;
    for (bytes, options) in SAMPLES.iter().step_by(11) {
        let files = SimVfs::with_files(0, [(DATA, bytes.clone())]);
        if let Ok(Some(_)) = pack(&files, options) {
            for image in files.crash_images(files.operations()) {
                assert_eq!(image.content(PACK), files.content(PACK).as_deref());
                seen += 1;
            }
        }
    }
    assert!(seen > 0);
}

proptest! {
    /// Damaged files: packed, or refused with an error, and then without a file.
    #[test]
    fn damaged_files_do_not_panic(
        chosen: prop::sample::Index,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut: Option<prop::sample::Index>,
    ) {
        let (mut bytes, options) = chosen.get(&SAMPLES).clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let files = SimVfs::with_files(0, [(DATA, bytes)]);
        if !matches!(pack(&files, &options), Ok(Some(_))) {
            prop_assert_eq!(files.paths(), [Path::new(DATA)]);
        }
    }
}
