//! Random changes: a crash leaves nothing that never was.

use proptest::prelude::*;

use super::*;

/// What is done to "f".
#[derive(Clone, Debug)]
enum Step {
    Write(usize, usize),
    SetLen(usize),
    Sync,
    FailedSync,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3000_usize, 1..1500_usize).prop_map(|(offset, len)| Step::Write(offset, len)),
        2 => (0..4000_usize).prop_map(Step::SetLen),
        2 => Just(Step::Sync),
        1 => Just(Step::FailedSync),
    ];
    prop::collection::vec(step, 1..14)
}

/// What a byte may be, and lengths, by a plainer account than the simulation's: all that
/// they were since the last sync.
#[derive(Debug)]
struct Possible {
    bytes: Vec<BTreeSet<u8>>,
    lengths: BTreeSet<usize>,
}

impl Possible {
    fn only(content: &[u8]) -> Self {
        let mut bytes: Vec<_> = content.iter().map(|byte| BTreeSet::from([*byte])).collect();
        bytes.resize(5000, BTreeSet::from([0]));
        let lengths = BTreeSet::from([content.len()]);
        Self { bytes, lengths }
    }

    fn or(&mut self, content: &[u8]) {
        for (at, possible) in self.bytes.iter_mut().enumerate() {
            possible.insert(content.get(at).copied().unwrap_or(0));
        }
        self.lengths.insert(content.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn images_hold_nothing_that_never_was(steps in steps(), seed in any::<u64>()) {
        let content = vec![200; 1000];
        let vfs = SimVfs::with_files(seed, [("f", content.clone())]);
        let file = vfs.open_write(at("f")).unwrap();
        let mut possible = Possible::only(&content);
        let mut lost = false;
        for (step, byte) in steps.iter().zip(1_u8..) {
            match *step {
                Step::Write(offset, len) => {
                    file.write_all_at(&vec![byte; len], offset as u64).unwrap();
                }
                Step::SetLen(len) => file.set_len(len as u64).unwrap(),
                Step::Sync => file.sync_data().unwrap(),
                Step::FailedSync => {
                    let call = vfs.calls();
                    vfs.fail(Fault { call, errno: EIO, extent: Extent::Once, short: false });
                    file.sync_data().unwrap_err();
                    lost = true;
                }
            }
            let now = vfs.content("f").unwrap();
            // After a failed sync nothing is certain any more but what was.
            if matches!(step, Step::Sync) && !lost {
                possible = Possible::only(&now);
            } else {
                possible.or(&now);
            }
            let mut images = 0;
            for image in vfs.crash_images(vfs.operations()) {
                images += 1;
                let found = image.content("f").unwrap();
                prop_assert!(possible.lengths.contains(&found.len()), "{}", image.label());
                for (at, byte) in found.iter().enumerate() {
                    prop_assert!(
                        possible.bytes[at].contains(byte),
                        "{} at {at}, {steps:?}: {byte}", image.label()
                    );
                }
            }
            prop_assert!(images > 0);
            if !lost {
                let all = outcomes(&vfs);
                prop_assert!(all.contains(&Some(now)), "all of it may survive");
            }
        }
    }
}
