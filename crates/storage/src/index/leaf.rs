//! A leaf of the index: a sorted run of object ids with their positions, in one of two layouts.
//! An object takes eight bytes if the ids share their upper 48 bits, otherwise fourteen.

/// The highest position that the index can store, as in ZODB's: 256 TiB.
pub const MAX_POSITION: u64 = (1 << 48) - 1;

/// Ids that differ only in this many lower bits belong to one page, the unit of ZODB's index
/// files.
pub(super) const PAGE_BITS: u32 = 16;

/// The maximum number of objects of a narrow leaf; an insertion moves half of them.
pub(super) const NARROW_MAX: usize = 4096;
/// The maximum number of objects of a wide leaf.
const WIDE_MAX: usize = 512;
/// A narrow leaf with fewer objects becomes wide when an id of another page is inserted; a leaf
/// takes about as much memory as five objects, so smaller leaves would not pay.
const NARROW_MIN: usize = 32;
/// The overhead of an allocation.
const ALLOCATION: usize = 16;
/// The reference counters of a shared leaf.
const COUNTERS: usize = 2 * size_of::<usize>();

const POSITION_BITS: u32 = 48;

#[derive(Clone, Debug)]
pub(super) enum Leaf {
    /// Ids of one page: each entry has the id's lower 16 bits, then the position.
    Narrow { page: u64, entries: Vec<u64> },
    /// Any ids: the positions are stored separately, big-endian.
    Wide {
        oids: Vec<u64>,
        positions: Vec<[u8; 6]>,
    },
}

/// The result of an insertion.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inserted {
    /// The id was present, with this position.
    Replaced(u64),
    /// The id was not present.
    Added,
    /// The id was not present, and the leaf is full: split it first.
    Full,
    /// The id belongs to another page, and the narrow leaf is too large to be widened.
    OtherPage,
}

impl Leaf {
    pub(super) fn single(oid: u64, position: u64) -> Self {
        Self::Narrow {
            page: oid >> PAGE_BITS,
            entries: vec![pack(oid, position)],
        }
    }

    /// A leaf of ids of one page; valid only if they are in ascending order.
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

    /// The id and position at an index; `None` beyond the end.
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

    /// The number of ids that are lower than `oid`.
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
            // If the ids are consecutive, the index follows from the id.
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

    /// Whether the leaf accepts ids of the page of `oid`.
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

    /// Move the ids from the index `at` on to a new leaf.
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

    /// The number of bytes that the leaf has allocated, itself included.
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

/// An entry of a narrow leaf. A position above the limit is stored as the limit.
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

/// Make room for one more item, and for `1 / fraction` of the present number: doubling would
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
