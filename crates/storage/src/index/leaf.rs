//! A leaf of the index: a sorted run of object ids with their positions, in one of two
//! layouts. Eight bytes an object where the ids share their upper 48 bits, fourteen
//! where they do not.

/// The highest position that the index keeps, as ZODB's: 256 TiB.
pub const MAX_POSITION: u64 = (1 << 48) - 1;

/// Ids that differ only in so many lower bits are of one page: the unit of ZODB's index
/// files.
pub(super) const PAGE_BITS: u32 = 16;

/// How many objects a narrow leaf holds at most; an insertion moves half of them.
pub(super) const NARROW_MAX: usize = 4096;
/// How many objects a wide leaf holds at most.
const WIDE_MAX: usize = 512;
/// A narrow leaf with fewer objects becomes wide when an id of another page comes; a leaf
/// costs about as much as five objects, so smaller ones would not pay.
const NARROW_MIN: usize = 32;
/// What an allocation costs beside what was asked for.
const ALLOCATION: usize = 16;
/// The counters of who shares a leaf.
const COUNTERS: usize = 2 * size_of::<usize>();

const POSITION_BITS: u32 = 48;

#[derive(Clone, Debug)]
pub(super) enum Leaf {
    /// Ids of one page: each entry is the id's lower 16 bits, then the position.
    Narrow { page: u64, entries: Vec<u64> },
    /// Any ids: the positions stand beside them, big-endian.
    Wide {
        oids: Vec<u64>,
        positions: Vec<[u8; 6]>,
    },
}

/// What came of an insertion.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inserted {
    /// The id was there, with this position.
    Replaced(u64),
    /// The id was not there.
    Added,
    /// The id was not there, and the leaf has no room for it: split it first.
    Full,
    /// The id belongs to another page than a narrow leaf that is worth keeping.
    OtherPage,
}

impl Leaf {
    pub(super) fn single(oid: u64, position: u64) -> Self {
        Self::Narrow {
            page: oid >> PAGE_BITS,
            entries: vec![pack(oid, position)],
        }
    }

    /// A leaf of ids of one page, to be kept only if they are ascending.
    pub(super) fn narrow(page: u64, entries: Vec<u64>) -> Self {
        Self::Narrow { page, entries }
    }

    pub(super) fn is_ascending(&self) -> bool {
        match self {
            Self::Narrow { entries, .. } => {
                entries.is_sorted_by(|one, next| one >> POSITION_BITS < next >> POSITION_BITS)
            }
            Self::Wide { oids, .. } => oids.is_sorted_by(|one, next| one < next),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Narrow { entries, .. } => entries.len(),
            Self::Wide { oids, .. } => oids.len(),
        }
    }

    /// The id and position at an index, if there are so many.
    pub(super) fn entry(&self, at: usize) -> Option<(u64, u64)> {
        match self {
            Self::Narrow { page, entries } => {
                let entry = *entries.get(at)?;
                let oid = page << PAGE_BITS | entry >> POSITION_BITS;
                Some((oid, entry & MAX_POSITION))
            }
            Self::Wide { oids, positions } => Some((*oids.get(at)?, widen(*positions.get(at)?))),
        }
    }

    /// How many ids are lower than `oid`.
    pub(super) fn lower_bound(&self, oid: u64) -> usize {
        match self {
            Self::Narrow { page, entries } => match (oid >> PAGE_BITS).cmp(page) {
                std::cmp::Ordering::Less => 0,
                std::cmp::Ordering::Greater => entries.len(),
                std::cmp::Ordering::Equal => {
                    let lowest = pack(oid, 0);
                    entries.partition_point(|entry| *entry < lowest)
                }
            },
            Self::Wide { oids, .. } => oids.partition_point(|other| *other < oid),
        }
    }

    pub(super) fn get(&self, oid: u64) -> Option<u64> {
        if let Self::Narrow { entries, .. } = self {
            // Where ids follow each other without holes, theirs are the indexes, too.
            let distance = oid.wrapping_sub(self.entry(0)?.0);
            let at = usize::try_from(distance).unwrap_or(usize::MAX);
            if let Some((found, position)) = self.entry(at.min(entries.len() - 1)) {
                if found == oid {
                    return Some(position);
                }
            }
        }
        let (found, position) = self.entry(self.lower_bound(oid))?;
        (found == oid).then_some(position)
    }

    pub(super) fn insert(&mut self, oid: u64, position: u64) -> Inserted {
        let at = self.lower_bound(oid);
        if let Some((_, old)) = self.entry(at).filter(|(found, _)| *found == oid) {
            match self {
                Self::Narrow { entries, .. } => entries[at] = pack(oid, position),
                Self::Wide { positions, .. } => positions[at] = narrow(position),
            }
            return Inserted::Replaced(old);
        }
        match self {
            Self::Narrow { page, entries } if *page == oid >> PAGE_BITS => {
                if entries.len() >= NARROW_MAX {
                    return Inserted::Full;
                }
                grow(entries, 8);
                entries.insert(at, pack(oid, position));
            }
            Self::Narrow { entries, .. } if entries.len() >= NARROW_MIN => {
                return Inserted::OtherPage;
            }
            Self::Narrow { .. } => {
                self.widen();
                return self.insert(oid, position);
            }
            Self::Wide { oids, positions } => {
                if oids.len() >= WIDE_MAX {
                    return Inserted::Full;
                }
                grow(oids, 16);
                grow(positions, 16);
                oids.insert(at, oid);
                positions.insert(at, narrow(position));
            }
        }
        Inserted::Added
    }

    /// Whether the leaf takes ids of the page of `oid`.
    pub(super) fn takes_page(&self, oid: u64) -> bool {
        match self {
            Self::Narrow { page, entries } => {
                *page == oid >> PAGE_BITS || entries.len() < NARROW_MIN
            }
            Self::Wide { .. } => true,
        }
    }

    pub(super) fn remove(&mut self, oid: u64) -> Option<u64> {
        let at = self.lower_bound(oid);
        let (found, position) = self.entry(at)?;
        if found != oid {
            return None;
        }
        match self {
            Self::Narrow { entries, .. } => {
                entries.remove(at);
                shrink(entries);
            }
            Self::Wide { oids, positions } => {
                oids.remove(at);
                positions.remove(at);
                shrink(oids);
                shrink(positions);
            }
        }
        Some(position)
    }

    /// Move the upper ids, from the index `at` on, to a leaf of their own.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        match self {
            Self::Narrow { page, entries } => {
                let upper = entries.split_off(at);
                entries.shrink_to_fit();
                Self::narrow(*page, upper)
            }
            Self::Wide { oids, positions } => {
                let mut upper = Self::Wide {
                    oids: oids.split_off(at),
                    positions: positions.split_off(at),
                };
                oids.shrink_to_fit();
                positions.shrink_to_fit();
                upper.narrow_if_possible();
                self.narrow_if_possible();
                upper
            }
        }
    }

    fn entries(&self) -> impl Iterator<Item = (u64, u64)> {
        (0..self.len()).filter_map(|at| self.entry(at))
    }

    fn widen(&mut self) {
        let oids = self.entries().map(|(oid, _)| oid).collect();
        let positions = self.entries().map(|entry| narrow(entry.1)).collect();
        *self = Self::Wide { oids, positions };
    }

    fn narrow_if_possible(&mut self) {
        let page_at = |at| Some(self.entry(at)?.0 >> PAGE_BITS);
        let first = page_at(0);
        if let Some(page) = first.filter(|_| first == page_at(self.len().saturating_sub(1))) {
            let entries = self.entries().map(|(oid, at)| pack(oid, at)).collect();
            *self = Self::narrow(page, entries);
        }
    }

    /// The bytes that the leaf has allocated, its own included.
    pub(super) fn heap_bytes(&self) -> usize {
        let own = size_of::<Self>() + COUNTERS + ALLOCATION;
        own + match self {
            Self::Narrow { entries, .. } => size_of::<u64>() * entries.capacity() + ALLOCATION,
            Self::Wide { oids, positions } => {
                let ids = size_of::<u64>() * oids.capacity();
                ids + size_of::<[u8; 6]>() * positions.capacity() + 2 * ALLOCATION
            }
        }
    }
}

/// A narrow leaf's entry. A position beyond the limit becomes the limit.
pub(super) fn pack(oid: u64, position: u64) -> u64 {
    oid << POSITION_BITS | position.min(MAX_POSITION)
}

fn narrow(position: u64) -> [u8; 6] {
    let [_, _, rest @ ..] = position.min(MAX_POSITION).to_be_bytes();
    rest
}

fn widen(position: [u8; 6]) -> u64 {
    let mut wide = [0; 8];
    wide[2..].copy_from_slice(&position);
    u64::from_be_bytes(wide)
}

/// Make room for one more, and for one in so many of those that are there: doubling would
/// leave half of the memory unused.
fn grow<T>(items: &mut Vec<T>, fraction: usize) {
    if items.len() == items.capacity() {
        items.reserve_exact((items.len() / fraction).max(2));
    }
}

fn shrink<T>(items: &mut Vec<T>) {
    if items.capacity() - items.len() > items.len() / 4 + 8 {
        items.shrink_to(items.len() + items.len() / 8);
    }
}
