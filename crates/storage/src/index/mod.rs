//! An index of the current data records: a sorted map from object ids to positions, in at most
//! sixteen bytes per object.
//!
//! The index is a flat list of leaves, each a sorted run of ids; see [`leaf`] for their layouts.
//! Ids are allocated in ascending order, so most leaves are narrow, full, and filled by
//! appending. The list is short (one leaf for hundreds of objects), so inserting into it is
//! cheap. So is a clone, which is written to a file while commits continue: both share their
//! leaves, and either copies a leaf before changing it.

mod leaf;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use self::leaf::MAX_POSITION;
use self::leaf::{Inserted, Leaf, PAGE_BITS};
use zrs_ids::Oid;

/// The maximum number of objects that [`Index::append_run`] accepts at once.
pub(super) const RUN_MAX: usize = leaf::NARROW_MAX;

/// A map from object ids to positions in the file.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// The lowest id that each leaf may have, in ascending order; the first is 0.
    starts: Vec<u64>,
    /// The leaves, one for each of `starts`; none of them is empty.
    leaves: Vec<Arc<Leaf>>,
    len: usize,
}

impl Index {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the index is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The position of an object.
    pub fn get(&self, oid: Oid) -> Option<u64> {
        let oid = oid.as_u64();
        self.leaves.get(self.leaf_for(oid)?)?.get(oid)
    }

    /// Set the position of an object; returns its previous one. A position above [`MAX_POSITION`]
    /// is stored as [`MAX_POSITION`].
    pub fn insert(&mut self, oid: Oid, position: u64) -> Option<u64> {
        let oid = oid.as_u64();
        loop {
            let Some(at) = self.leaf_for(oid) else {
                self.put_leaf(0, 0, Leaf::single(oid, position));
                self.len += 1;
                return None;
            };
            match self.leaf_mut(at).insert(oid, position) {
                Inserted::Replaced(old) => return Some(old),
                Inserted::Added => {}
                Inserted::Full => {
                    self.split(at, oid);
                    continue;
                }
                Inserted::OtherPage => {
                    if self.lower_next_start(at, oid) {
                        continue;
                    }
                    self.put_beside(at, oid, position);
                }
            }
            self.len += 1;
            return None;
        }
    }

    /// Remove an object; returns its position.
    pub fn remove(&mut self, oid: Oid) -> Option<u64> {
        let oid = oid.as_u64();
        let at = self.leaf_for(oid)?;
        let position = self.leaf_mut(at).remove(oid)?;
        self.len -= 1;
        if self.leaves[at].len() == 0 {
            self.leaves.remove(at);
            self.starts.remove(at);
            if let Some(first) = self.starts.first_mut() {
                *first = 0;
            }
        }
        Some(position)
    }

    /// All objects, in ascending order of ids.
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            leaves: &self.leaves,
            at: 0,
        }
    }

    /// The objects with ids above `oid`, or all, in ascending order of ids.
    pub(crate) fn objects_after(&self, oid: Option<Oid>) -> Iter<'_> {
        let Some(oid) = oid else {
            return self.iter();
        };
        match oid.as_u64().checked_add(1) {
            Some(first) => self.iter_from(first),
            None => Iter::default(),
        }
    }

    /// The highest object id.
    pub fn max_oid(&self) -> Option<Oid> {
        let leaf = self.leaves.last()?;
        let (oid, _) = leaf.entry(leaf.len().checked_sub(1)?)?;
        Some(Oid::from_u64(oid))
    }

    /// The number of bytes that the index has allocated, including the allocator's overhead.
    pub fn heap_bytes(&self) -> usize {
        let list = size_of::<u64>() * self.starts.capacity()
            + size_of::<Arc<Leaf>>() * self.leaves.capacity();
        list + self
            .leaves
            .iter()
            .map(|leaf| leaf.heap_bytes())
            .sum::<usize>()
    }

    /// Append at most [`RUN_MAX`] objects of one page, given as lower id halves and positions.
    /// Returns false, with some of the objects appended, unless they are in ascending order and
    /// come after all others.
    pub(super) fn append_run(
        &mut self,
        page: u64,
        objects: impl ExactSizeIterator<Item = (u16, u64)>,
    ) -> bool {
        let base = page << PAGE_BITS;
        let last = self.max_oid().map(Oid::as_u64);
        // A leaf of its own would cost more than a few objects do.
        if objects.len() < RUN_MAX / 8 || objects.len() > RUN_MAX {
            let oids = objects.map(|(suffix, position)| (base | u64::from(suffix), position));
            return self.append_each(last, oids);
        }
        let pack = |(suffix, position)| leaf::pack(u64::from(suffix), position);
        let leaf = Leaf::narrow(page, objects.map(pack).collect());
        let first = leaf.entry(0).map(|(oid, _)| oid);
        if first <= last || !leaf.is_ascending() {
            return false;
        }
        self.len += leaf.len();
        let start = first.filter(|_| last.is_some()).unwrap_or_default();
        self.put_leaf(self.leaves.len(), start, leaf);
        true
    }

    fn append_each(
        &mut self,
        mut last: Option<u64>,
        objects: impl Iterator<Item = (u64, u64)>,
    ) -> bool {
        for (oid, position) in objects {
            if last.is_some_and(|last| oid <= last) {
                return false;
            }
            last = Some(oid);
            self.insert(Oid::from_u64(oid), position);
        }
        true
    }

    fn iter_from(&self, oid: u64) -> Iter<'_> {
        let first = self.leaf_for(oid).unwrap_or_default();
        let leaves = self.leaves.get(first..).unwrap_or_default();
        let at = leaves.first().map_or(0, |leaf| leaf.lower_bound(oid));
        Iter { leaves, at }
    }

    /// The leaf that would have `oid`; `None` if the index is empty.
    fn leaf_for(&self, oid: u64) -> Option<usize> {
        self.starts
            .partition_point(|start| *start <= oid)
            .checked_sub(1)
    }

    fn put_leaf(&mut self, at: usize, start: u64, leaf: Leaf) {
        if self.leaves.len() == self.leaves.capacity() {
            let more = self.leaves.len() / 8 + 1;
            self.leaves.reserve_exact(more);
            self.starts.reserve_exact(more);
        }
        self.starts.insert(at, start);
        self.leaves.insert(at, Arc::new(leaf));
    }

    /// A leaf that will be changed: a copy of it if it is shared with a clone of the index.
    fn leaf_mut(&mut self, at: usize) -> &mut Leaf {
        Arc::make_mut(&mut self.leaves[at])
    }

    /// Make room in a full leaf for `oid`: in its middle, or at its end if that is where the id
    /// belongs, so that leaves filled in order stay full.
    fn split(&mut self, at: usize, oid: u64) {
        let leaf = self.leaf_mut(at);
        let middle = if leaf.lower_bound(oid) == leaf.len() {
            leaf.len() - 1
        } else {
            leaf.len() / 2
        };
        let upper = leaf.split_off(middle);
        if let Some((start, _)) = upper.entry(0) {
            self.put_leaf(at + 1, start, upper);
        }
    }

    /// If `oid` belongs after the leaf at `at` and the next leaf accepts ids of other pages, let
    /// the next leaf start at this id; otherwise return false.
    fn lower_next_start(&mut self, at: usize, oid: u64) -> bool {
        let after = self.leaves[at].lower_bound(oid) == self.leaves[at].len();
        let fits = (self.leaves.get(at + 1)).is_some_and(|next| next.takes_page(oid));
        if after && fits {
            self.starts[at + 1] = page_start(oid);
        }
        after && fits
    }

    /// Insert a leaf for an id of another page before or after the leaf at `at`.
    fn put_beside(&mut self, at: usize, oid: u64, position: u64) {
        let added = Leaf::single(oid, position);
        let lowest = self.leaves[at].entry(0).map_or(0, |(lowest, _)| lowest);
        if oid < lowest {
            let start = self.starts[at];
            self.starts[at] = page_start(lowest);
            self.put_leaf(at, start, added);
        } else {
            self.put_leaf(at + 1, page_start(oid), added);
        }
    }
}

fn page_start(oid: u64) -> u64 {
    oid >> PAGE_BITS << PAGE_BITS
}

impl Extend<(Oid, u64)> for Index {
    fn extend<T: IntoIterator<Item = (Oid, u64)>>(&mut self, objects: T) {
        for (oid, position) in objects {
            self.insert(oid, position);
        }
    }
}

impl FromIterator<(Oid, u64)> for Index {
    fn from_iter<T: IntoIterator<Item = (Oid, u64)>>(objects: T) -> Self {
        let mut index = Self::new();
        index.extend(objects);
        index
    }
}

impl PartialEq for Index {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for Index {}

impl<'a> IntoIterator for &'a Index {
    type Item = (Oid, u64);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The objects of an index in ascending order of ids, with their positions.
#[derive(Clone, Debug, Default)]
pub struct Iter<'a> {
    leaves: &'a [Arc<Leaf>],
    at: usize,
}

impl Iterator for Iter<'_> {
    type Item = (Oid, u64);

    fn next(&mut self) -> Option<(Oid, u64)> {
        loop {
            let (leaf, rest) = self.leaves.split_first()?;
            if let Some((oid, position)) = leaf.entry(self.at) {
                self.at += 1;
                return Some((Oid::from_u64(oid), position));
            }
            self.leaves = rest;
            self.at = 0;
        }
    }
}
