//! What a worker prepares for cold starts before anybody asks: how many sandboxes of which kind, in which order, and what
//! goes first when memory is short. Keeping them is the worker's matter.

use std::collections::BTreeMap;

use crate::ids::MonotonicMs;

/// Time in which the memory of a start halves.
const HALF_LIFE_MS: u64 = 60_000;

/// A start, in the unit that [`Demand`] counts in.
const ONE: u64 = 1_000;

/// How often a kind was started lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Thousandths of a start, as of `at`.
    amount: u64,
    at: MonotonicMs,
}

impl Demand {
    /// One more start.
    pub fn on_start(&mut self, now: MonotonicMs) {
        self.amount = self.recent(now).saturating_add(ONE);
        self.at = now;
    }

    /// Thousandths of starts, older ones counting less: half for each minute of age, linearly in between.
    pub fn recent(&self, now: MonotonicMs) -> u64 {
        let age = now.since(self.at);
        let halvings = age / HALF_LIFE_MS;
        if halvings >= 64 {
            return 0;
        }
        let halved = self.amount >> halvings;
        halved - halved * (age % HALF_LIFE_MS) / (2 * HALF_LIFE_MS)
    }
}

/// Where one kind stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// See [`Demand::recent`].
    pub recent: u64,
    /// Whether one is kept even if nobody has asked lately.
    pub is_standing: bool,
    /// Memory of one.
    pub memory_mib: u64,
    /// Those that are there or being made.
    pub held: u32,
}

/// Bounds of all kinds together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most of one kind.
    pub each: u32,
    /// Memory that all may take.
    pub memory_mib: u64,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<Id> {
    /// To be made, one after the other.
    pub make: Option<Id>,
    /// To be ended, one of each named.
    pub end: Vec<Id>,
}

/// What to make or end. Kinds get one each in the order of their demand, then a second each, and so on, while the memory
/// lasts; nothing is ended for another of its own kind to be made.
pub fn plan<Id: Clone + Ord>(kinds: &BTreeMap<Id, Kind>, bounds: Bounds) -> Plan<Id> {
    let mut order: Vec<(&Id, &Kind)> = kinds.iter().collect();
    // Stable: kinds alike stay in the order of their names.
    order.sort_by_key(|(_, kind)| std::cmp::Reverse(kind.recent));
    let mut wanted: BTreeMap<&Id, u32> = BTreeMap::new();
    let mut left = bounds.memory_mib;
    for round in 0..bounds.each {
        for (id, kind) in &order {
            if round < appetite(kind) && kind.memory_mib <= left {
                left -= kind.memory_mib;
                *wanted.entry(id).or_default() += 1;
            }
        }
    }
    let of = |id: &Id| wanted.get(id).copied().unwrap_or(0);
    let lacking = order.iter().filter(|(id, kind)| kind.held < of(id));
    // The kind of which the smallest part is there comes first.
    let make = lacking.min_by_key(|(id, kind)| kind.held * 1_000 / of(id));
    let surplus = order.iter().filter(|(id, kind)| kind.held > of(id));
    Plan {
        make: make.map(|(id, _)| (*id).clone()),
        end: surplus.map(|(id, _)| (*id).clone()).collect(),
    }
}

/// How many of a kind are of use: as many as are started in a minute or so, and one beyond.
fn appetite(kind: &Kind) -> u32 {
    let starts = u32::try_from(kind.recent.div_ceil(ONE)).unwrap_or(u32::MAX);
    match (starts, kind.is_standing) {
        (0, false) => 0,
        (starts, _) => starts.saturating_add(1),
    }
}

/// What to end so that `needed_mib` more come free: the least wanted first. `None` if all of it would not do.
pub fn give_way<Id: Clone + Ord>(kinds: &BTreeMap<Id, Kind>, needed_mib: u64) -> Option<Vec<Id>> {
    let mut order: Vec<(&Id, &Kind)> = kinds.iter().filter(|(_, kind)| kind.held > 0).collect();
    order.sort_by_key(|(_, kind)| (kind.recent, std::cmp::Reverse(kind.memory_mib)));
    let mut freed = 0;
    let mut ended = Vec::new();
    for (id, kind) in order {
        for _ in 0..kind.held {
            if freed >= needed_mib {
                return Some(ended);
            }
            freed += kind.memory_mib;
            ended.push(id.clone());
        }
    }
    (freed >= needed_mib).then_some(ended)
}

/// Whether a program that was started with the environment `stem` may become one that is to have `wanted`: whatever programs
/// read as they start, which `early` names (`NAME`, or `PREFIX*`), must be the same in both.
pub fn may_become(
    early: &[String],
    stem: &[(String, String)],
    wanted: &[(String, String)],
) -> bool {
    let is_early = |name: &str| {
        early.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        })
    };
    let early_of = |env: &[(String, String)]| -> BTreeMap<String, String> {
        env.iter()
            .filter(|(name, _)| is_early(name))
            .cloned()
            .collect()
    };
    early_of(stem) == early_of(wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind(recent: u64, is_standing: bool, memory_mib: u64, held: u32) -> Kind {
        Kind {
            recent,
            is_standing,
            memory_mib,
            held,
        }
    }

    const BOUNDS: Bounds = Bounds {
        each: 4,
        memory_mib: 100,
    };

    #[test]
    fn a_start_is_forgotten_by_halves() {
        let mut demand = Demand::default();
        assert_eq!(demand.recent(MonotonicMs(5)), 0);
        demand.on_start(MonotonicMs(0));
        demand.on_start(MonotonicMs(0));
        let recent = |ms| demand.recent(MonotonicMs(ms));
        assert_eq!(
            (recent(0), recent(30_000), recent(60_000)),
            (2_000, 1_500, 1_000)
        );
        assert_eq!((recent(120_000), recent(u64::MAX)), (500, 0));
    }

    #[test]
    fn what_is_asked_for_is_made_and_what_is_not_is_ended() {
        let cases = [
            // One of each that stands, the cheapest name first.
            (
                [kind(0, true, 10, 0), kind(0, true, 10, 0)],
                Some(0),
                vec![],
            ),
            (
                [kind(0, true, 10, 1), kind(0, true, 10, 0)],
                Some(1),
                vec![],
            ),
            ([kind(0, true, 10, 1), kind(0, false, 10, 0)], None, vec![]),
            ([kind(0, true, 10, 1), kind(0, false, 10, 2)], None, vec![1]),
            // Demand makes more of it, up to the bound.
            (
                [kind(2_000, true, 10, 2), kind(0, true, 10, 1)],
                Some(0),
                vec![],
            ),
            (
                [kind(9_000, true, 10, 4), kind(0, true, 10, 1)],
                None,
                vec![],
            ),
            // Memory: each has one before any has two.
            (
                [kind(9_000, true, 50, 1), kind(1, true, 50, 0)],
                Some(1),
                vec![],
            ),
            (
                [kind(9_000, true, 50, 2), kind(1, true, 50, 0)],
                Some(1),
                vec![0],
            ),
            (
                [kind(9_000, true, 101, 0), kind(0, true, 101, 0)],
                None,
                vec![],
            ),
        ];
        for (kinds, make, end) in cases {
            let kinds = BTreeMap::from_iter(kinds.into_iter().enumerate());
            assert_eq!(plan(&kinds, BOUNDS), Plan { make, end }, "{kinds:?}");
        }
    }

    #[test]
    fn the_least_wanted_gives_way_first() {
        let kinds = BTreeMap::from([
            (1, kind(3_000, true, 10, 2)),
            (2, kind(0, true, 5, 1)),
            (3, kind(0, true, 20, 1)),
            (4, kind(0, true, 90, 0)),
        ]);
        assert_eq!(give_way(&kinds, 0), Some(vec![]));
        assert_eq!(give_way(&kinds, 20), Some(vec![3]));
        assert_eq!(give_way(&kinds, 26), Some(vec![3, 2, 1]));
        assert_eq!(give_way(&kinds, 45), Some(vec![3, 2, 1, 1]));
        assert_eq!(give_way(&kinds, 46), None);
    }

    #[test]
    fn only_what_is_read_late_may_differ() {
        let early: Vec<String> = ["PYTHON*", "TZ"].map(str::to_owned).into();
        let env = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            let owned = pairs
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
            owned.collect()
        };
        let stem = env(&[("TZ", ":UTC"), ("PYTHONPATH", "/x"), ("A", "1")]);
        for (wanted, expected) in [
            (
                env(&[("TZ", ":UTC"), ("PYTHONPATH", "/x"), ("B", "2")]),
                true,
            ),
            (env(&[("PYTHONPATH", "/x"), ("TZ", ":UTC")]), true),
            (env(&[("TZ", "Asia/Tokyo"), ("PYTHONPATH", "/x")]), false),
            (env(&[("PYTHONPATH", "/x")]), false),
            (
                env(&[
                    ("TZ", ":UTC"),
                    ("PYTHONPATH", "/x"),
                    ("PYTHONHASHSEED", "0"),
                ]),
                false,
            ),
        ] {
            assert_eq!(may_become(&early, &stem, &wanted), expected, "{wanted:?}");
        }
    }

    proptest! {
        /// Following the plan ends, within the bounds, and then nothing is to be done.
        #[test]
        fn a_plan_that_is_followed_comes_to_rest(
            kinds in prop::collection::vec((0_u64..9_000, any::<bool>(), 1_u64..60, 0_u32..8), 0..6),
            memory_mib in 0_u64..300, each in 0_u32..5,
        ) {
            let bounds = Bounds { each, memory_mib };
            let kinds = kinds.into_iter().map(|(r, s, m, h)| kind(r, s, m, h));
            let mut kinds = BTreeMap::from_iter(kinds.enumerate());
            for _ in 0..200 {
                let plan = plan(&kinds, bounds);
                for id in &plan.end {
                    kinds.get_mut(id).unwrap().held -= 1;
                }
                if let Some(id) = plan.make {
                    kinds.get_mut(&id).unwrap().held += 1;
                }
            }
            let rest = plan(&kinds, bounds);
            prop_assert_eq!(rest, Plan { make: None, end: vec![] });
            let used: u64 = kinds.values().map(|k| k.memory_mib * u64::from(k.held)).sum();
            prop_assert!(used <= memory_mib);
            prop_assert!(kinds.values().all(|k| k.held <= each));
        }
    }
}
