use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// An operation on an index.
#[derive(Clone, Debug)]
enum Step {
    Insert(u64, u64),
    /// Insert this many consecutive ids.
    Run(u64, u16),
    /// The same, in descending order.
    RunDown(u64, u16),
    Remove(u64),
    /// Remove this many consecutive ids.
    RemoveRun(u64, u16),
}

/// Ids close together in pages, at their borders, at both ends, and anywhere.
fn oid() -> impl Strategy<Value = u64> {
    let near = |base: u64, spread: u64| (0..spread).prop_map(move |low| base.saturating_add(low));
    prop_oneof![
        4 => near(0, 3000),
        3 => near(0xfff0, 0x20),
        2 => near(0, 1 << 20),
        2 => (0..2000_u64).prop_map(|page| page << 16 | 7),
        1 => (0..3000_u64).prop_map(|low| u64::MAX - low),
        2 => any::<u64>(),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (oid(), 0..=MAX_POSITION).prop_map(|(oid, position)| Step::Insert(oid, position)),
        3 => (oid(), 1..6000_u16).prop_map(|(oid, count)| Step::Run(oid, count)),
        2 => (oid(), 1..6000_u16).prop_map(|(oid, count)| Step::RunDown(oid, count)),
        3 => oid().prop_map(Step::Remove),
        2 => (oid(), 1..6000_u16).prop_map(|(oid, count)| Step::RemoveRun(oid, count)),
    ];
    prop::collection::vec(step, 1..60)
}

fn apply(step: &Step, index: &mut Index, model: &mut BTreeMap<u64, u64>) {
    let mut insert = |oid: u64, position| {
        let old = index.insert(Oid::from_u64(oid), position);
        assert_eq!(old, model.insert(oid, position), "insert {oid:#x}");
    };
    match *step {
        Step::Insert(oid, position) => insert(oid, position),
        Step::Run(first, count) => {
            for more in 0..u64::from(count) {
                insert(first.wrapping_add(more), more);
            }
        }
        Step::RunDown(first, count) => {
            for less in 0..u64::from(count) {
                insert(first.wrapping_sub(less), less);
            }
        }
        Step::Remove(oid) => {
            assert_eq!(index.remove(Oid::from_u64(oid)), model.remove(&oid));
        }
        Step::RemoveRun(first, count) => {
            for more in 0..u64::from(count) {
                let oid = first.wrapping_add(more);
                assert_eq!(index.remove(Oid::from_u64(oid)), model.remove(&oid));
            }
        }
    }
}

fn check(index: &Index, model: &BTreeMap<u64, u64>, probes: &[u64]) {
    assert_eq!(index.len(), model.len());
    assert_eq!(index.is_empty(), model.is_empty());
    let objects = index.iter().map(|(oid, position)| (oid.as_u64(), position));
    assert!(objects.eq(model.iter().map(|(oid, position)| (*oid, *position))));
    let last = model.keys().next_back();
    assert_eq!(index.max_oid().map(Oid::as_u64), last.copied());
    let number = |(oid, position): (Oid, u64)| (oid.as_u64(), position);
    let first = model.iter().next().map(|(oid, position)| (*oid, *position));
    assert_eq!(index.objects_after(None).next().map(number), first);
    for &probe in probes.iter().chain(model.keys().step_by(97)) {
        let oid = Oid::from_u64(probe);
        assert_eq!(index.get(oid), model.get(&probe).copied());
        let after = (std::ops::Bound::Excluded(probe), std::ops::Bound::Unbounded);
        let next = model.range(after).next();
        let next = next.map(|(oid, position)| (*oid, *position));
        assert_eq!(index.objects_after(Some(oid)).next().map(number), next);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn is_a_sorted_map(steps in steps(), probes in prop::collection::vec(oid(), 100)) {
        let (mut index, mut model) = (Index::new(), BTreeMap::new());
        for step in &steps {
            apply(step, &mut index, &mut model);
        }
        check(&index, &model, &probes);
        prop_assert_eq!(index.iter().collect::<Index>(), index);
    }

    #[test]
    fn an_emptied_index_can_be_filled_again(steps in steps()) {
        let (mut index, mut model) = (Index::new(), BTreeMap::new());
        for step in &steps {
            apply(step, &mut index, &mut model);
        }
        let oids: Vec<_> = index.iter().map(|(oid, _)| oid).collect();
        for oid in oids {
            index.remove(oid);
        }
        prop_assert!(index.is_empty() && index.max_oid().is_none());
        prop_assert_eq!(index.objects_after(None).next(), None);
        model.clear();
        for step in &steps {
            apply(step, &mut index, &mut model);
        }
        check(&index, &model, &[]);
    }
}

/// Distinct numbers that look random (splitmix64).
fn scattered(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(|n| {
        let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    })
}

#[test]
fn an_object_costs_at_most_sixteen_bytes() {
    const COUNT: u64 = 300_000;
    // The reversed bits of a counter: dense ids in a scattered order.
    let shuffled = (0..1_u64 << 18).map(|n| n.reverse_bits() >> 46);
    let hot_and_cold = (0..COUNT).map(|n| if n % 2 == 0 { n } else { n << 40 });
    let cases: [(&str, Box<dyn Iterator<Item = u64>>); 11] = [
        ("dense", Box::new(0..COUNT)),
        ("dense, few", Box::new(0..1000)),
        ("dense, downwards", Box::new((0..COUNT).rev())),
        ("dense, in any order", Box::new(shuffled)),
        ("one in 64", Box::new((0..COUNT).map(|n| n * 64))),
        ("one in 3000", Box::new((0..COUNT).map(|n| n * 3000))),
        (
            "random in 32 bits",
            Box::new(scattered(COUNT).map(|n| n >> 32)),
        ),
        ("random in 64 bits", Box::new(scattered(COUNT))),
        ("one of each page", Box::new((0..COUNT).map(|n| n << 16))),
        (
            "downwards, one of each page",
            Box::new((0..COUNT).rev().map(|n| n << 16)),
        ),
        ("half dense, half far apart", Box::new(hot_and_cold)),
    ];
    for (name, oids) in cases {
        let index: Index = oids
            .map(|oid| (Oid::from_u64(oid), oid % 1_000_003))
            .collect();
        let each = index.heap_bytes() / index.len();
        let last = index.heap_bytes() % index.len();
        assert!(
            each < 16 || each == 16 && last == 0,
            "{name}: more than {each} bytes"
        );
    }
}

#[test]
fn removing_gives_memory_back() {
    let mut index: Index = (0..100_000).map(|n| (Oid::from_u64(n), n)).collect();
    let full = index.heap_bytes();
    for n in (0..100_000).filter(|n| n % 10 != 0) {
        index.remove(Oid::from_u64(n));
    }
    assert_eq!(index.len(), 10_000);
    assert!(index.heap_bytes() < full / 5);
}

#[test]
fn positions_are_kept_up_to_their_limit() {
    let mut index = Index::new();
    for oid in [0, 1 << 60, u64::MAX] {
        index.insert(Oid::from_u64(oid), MAX_POSITION);
        assert_eq!(index.get(Oid::from_u64(oid)), Some(MAX_POSITION));
        index.insert(Oid::from_u64(oid), u64::MAX);
        assert_eq!(index.get(Oid::from_u64(oid)), Some(MAX_POSITION));
    }
}

/// A clone is written to a file while commits continue.
#[test]
fn a_clone_stays_as_it_was() {
    let pairs = || (0..20_000).map(|n| (Oid::from_u64(n << (n % 3 * 20)), n));
    let mut index: Index = pairs().collect();
    let clone = index.clone();
    let before: Vec<_> = index.iter().collect();
    for (oid, position) in pairs().step_by(7) {
        index.insert(oid, position + 1);
        index.remove(Oid::from_u64(oid.as_u64() + 1));
        index.insert(Oid::from_u64(oid.as_u64() + 2), position);
    }
    assert!(clone.iter().eq(before.iter().copied()));
    assert_ne!(clone, index);
}
