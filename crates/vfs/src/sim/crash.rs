//! The disks that a crash may leave.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;

use super::SimVfs;
use super::disk::{Disk, DiskFile, Survival};
use super::log::{Change, FileId};
use super::tree::Tree;

/// A disk after a crash.
#[derive(Clone, Debug)]
pub struct Image {
    tree: Tree,
    label: String,
    seed: u64,
}

impl Image {
    /// Which changes survived, for messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The file system on this disk after a restart.
    pub fn open(&self) -> SimVfs {
        SimVfs::of(self.tree.clone(), self.seed)
    }

    /// The files with their paths.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        let content = |file| self.tree.files.get(file).map_or(&[][..], Vec::as_slice);
        let names = self.tree.names.iter();
        let names = names.filter(|(_, file)| **file != FileId::DIRECTORY);
        names.map(move |(path, file)| (path.as_path(), content(file)))
    }

    /// The content of the file at a path.
    pub fn content(&self, path: impl AsRef<Path>) -> Option<&[u8]> {
        let file = self.tree.names.get(path.as_ref())?;
        self.tree.files.get(file).map(Vec::as_slice)
    }

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for file in self.files() {
            file.hash(&mut hasher);
        }
        // Two names of one file differ from two equal files.
        self.tree
            .names
            .values()
            .for_each(|file| file.hash(&mut hasher));
        hasher.finish()
    }
}

impl SimVfs {
    /// The possible contents of the disk if the power fails after the first `operations` of the
    /// log.
    ///
    /// They always include: no unsynced change, all of them, all except each one, only each one,
    /// each write torn, and each number of name changes. If there are few changes, they include
    /// all combinations; otherwise random ones. Images with the same content are returned once.
    pub fn crash_images(&self, operations: usize) -> CrashImages {
        let state = self.state.lock();
        let seed = self.seed ^ (operations as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let done = &state.log[..operations.min(state.log.len())];
        CrashImages::new(&state.base, done, seed, self.samples)
    }
}

/// Which of the changes that were not durable survive.
#[derive(Clone, Debug)]
enum Plan {
    /// The changes that are true here; a sector has the content that the last of them gave it.
    Subset(Vec<bool>),
    /// All but the sectors that this change touched, which are as before it.
    Stale(usize),
    /// The lengths, and nothing else.
    Lengths,
    /// All, except the sectors of this write that the tear excludes.
    Torn(usize, Tear),
    /// Any combination.
    Random(u64),
}

#[derive(Clone, Copy, Debug)]
enum Tear {
    First,
    Last,
    FirstHalf,
    LastHalf,
    Random(u64),
}

/// The disks that a crash at one moment may leave; see [`SimVfs::crash_images`].
#[derive(Debug)]
pub struct CrashImages {
    disk: Disk,
    /// The pending changes of all files by their places in the log, ascending.
    changes: Vec<usize>,
    plans: std::vec::IntoIter<(Plan, usize)>,
    seen: HashSet<u64>,
    at: usize,
    seed: u64,
}

impl CrashImages {
    pub(super) fn new(base: &Tree, log: &[Change], seed: u64, samples: usize) -> Self {
        let mut disk = Disk::new(base);
        for (number, change) in log.iter().enumerate() {
            disk.apply(number, change);
        }
        let pending = disk.files.values().flat_map(|file| &file.pending);
        let mut changes: Vec<_> = pending.map(|change| change.number).collect();
        changes.sort_unstable();
        let plans = plans(&disk, &changes, seed, samples).into_iter();
        Self {
            disk,
            changes,
            plans,
            seen: HashSet::new(),
            at: log.len(),
            seed,
        }
    }

    fn image(&self, plan: &Plan, names: usize) -> Image {
        let mut random = Random(match plan {
            Plan::Random(seed) => *seed,
            _ => 0,
        });
        let files = self.disk.files.iter();
        let files = files.map(|(id, file)| (*id, self.surviving(file, plan, &mut random)));
        let tree = Tree {
            files: files.collect(),
            names: self.disk.names_after(names),
        };
        let of_names = self.disk.pending_names.len();
        let label = format!(
            "crash after {} operations, {names} of {of_names} name changes, {}",
            self.at,
            self.describe(plan)
        );
        Image {
            tree,
            label,
            seed: self.seed,
        }
    }

    fn surviving(&self, file: &DiskFile, plan: &Plan, random: &mut Random) -> Vec<u8> {
        let all = file.pending.len();
        match plan {
            Plan::Subset(kept) => {
                let place =
                    |change: usize| self.changes.binary_search(&file.pending[change].number);
                let kept = |change| place(change).is_ok_and(|place| kept[place]);
                file.surviving(&mut Survival {
                    length: (0..all).rposition(kept).map_or(0, |last| last + 1),
                    versions: &mut |_, versions| {
                        let last = versions.iter().rposition(|version| kept(version.change));
                        last.map_or(0, |last| last + 1)
                    },
                })
            }
            Plan::Lengths => file.surviving(&mut Survival {
                length: all,
                versions: &mut |_, _| 0,
            }),
            Plan::Stale(place) | Plan::Torn(place, _) => {
                let number = self.changes[*place];
                let change = file
                    .pending
                    .iter()
                    .position(|change| change.number == number);
                let sectors = change.map_or(0..0, |change| file.pending[change].sectors.clone());
                file.surviving(&mut Survival {
                    length: all,
                    versions: &mut |sector, versions| {
                        let stale = match plan {
                            Plan::Torn(_, tear) => tear.loses(sector, &sectors),
                            _ => true,
                        };
                        let hit = versions
                            .iter()
                            .position(|version| Some(version.change) == change);
                        hit.filter(|_| stale).unwrap_or(versions.len())
                    },
                })
            }
            Plan::Random(_) => file.surviving(&mut Survival {
                length: random.below(all + 1),
                versions: &mut |_, versions| random.below(versions.len() + 1),
            }),
        }
    }

    fn describe(&self, plan: &Plan) -> String {
        let numbers = |wanted: bool, kept: &[bool]| {
            let places = (0..kept.len()).filter(|place| kept[*place] == wanted);
            places.map(|place| self.changes[place]).collect::<Vec<_>>()
        };
        match plan {
            Plan::Subset(kept) if kept.iter().all(|kept| !kept) => "no data".to_owned(),
            Plan::Subset(kept) => match numbers(false, kept) {
                lost if lost.is_empty() => "all data".to_owned(),
                lost if lost.len() == 1 => format!("all data but change {}", lost[0]),
                _ => format!("data of changes {:?}", numbers(true, kept)),
            },
            Plan::Stale(place) => format!("sectors as before change {}", self.changes[*place]),
            Plan::Lengths => "lengths without data".to_owned(),
            Plan::Torn(place, tear) => format!("change {} torn: {tear:?}", self.changes[*place]),
            Plan::Random(seed) => format!("random sectors {seed:#x}"),
        }
    }
}

impl Iterator for CrashImages {
    type Item = Image;

    fn next(&mut self) -> Option<Image> {
        loop {
            let (plan, names) = self.plans.next()?;
            let image = self.image(&plan, names);
            if self.seen.insert(image.digest()) {
                return Some(image);
            }
        }
    }
}

/// What to try: data plans, each with how many name changes survive.
fn plans(disk: &Disk, changes: &[usize], seed: u64, samples: usize) -> Vec<(Plan, usize)> {
    let count = changes.len();
    let subset = |kept: &dyn Fn(usize) -> bool| Plan::Subset((0..count).map(kept).collect());
    let mut single = vec![Plan::Lengths];
    for (place, number) in changes.iter().enumerate() {
        single.push(subset(&|other| other != place));
        single.push(subset(&|other| other == place));
        single.push(Plan::Stale(place));
        if disk.files.values().any(|file| file.can_tear(*number)) {
            let tears = [Tear::First, Tear::Last, Tear::FirstHalf, Tear::LastHalf];
            let random = Tear::Random(seed ^ place as u64);
            let tears = tears.into_iter().chain([random]);
            single.extend(tears.map(|tear| Plan::Torn(place, tear)));
        }
    }
    let all_names = disk.pending_names.len();
    let names: Vec<_> = (0..=all_names).collect();
    let mut none_and_all = vec![0, all_names];
    none_and_all.dedup();
    let mut plans = product(&[subset(&|_| false), subset(&|_| true)], &names);
    plans.extend(product(&single, &none_and_all));
    if count < 16 && names.len() << count <= samples {
        let subsets = (0..1_u64 << count).map(|bits| subset(&|place| bits >> place & 1 == 1));
        plans.extend(product(&subsets.collect::<Vec<_>>(), &names));
    }
    if count == 0 {
        return plans;
    }
    let mut random = Random(seed);
    for sample in 0..samples {
        let seed = random.next();
        let plan = match sample % 2 {
            0 => subset(&|place| Random(seed ^ place as u64).next() & 1 == 1),
            _ => Plan::Random(seed),
        };
        plans.push((plan, random.below(names.len())));
    }
    plans
}

fn product(data: &[Plan], names: &[usize]) -> Vec<(Plan, usize)> {
    let with_names = |plan: &Plan| {
        names
            .iter()
            .map(|names| (plan.clone(), *names))
            .collect::<Vec<_>>()
    };
    data.iter().flat_map(with_names).collect()
}

impl Tear {
    /// Whether a sector of the torn write did not reach the disk.
    fn loses(self, sector: usize, sectors: &std::ops::Range<usize>) -> bool {
        let middle = sectors.start + sectors.len() / 2;
        match self {
            Self::First => sector == sectors.start,
            Self::Last => sector + 1 == sectors.end,
            Self::FirstHalf => sector < middle,
            Self::LastHalf => sector >= middle,
            Self::Random(seed) => Random(seed ^ sector as u64).next() & 1 == 1,
        }
    }
}

/// Pseudo-random numbers (splitmix64).
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number less than `bound`, or 0.
    fn below(&mut self, bound: usize) -> usize {
        let rest = self.next() % (bound as u64).max(1);
        usize::try_from(rest).unwrap_or_default()
    }
}
