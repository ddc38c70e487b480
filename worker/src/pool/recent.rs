//! What changed lately, so that whoever tells changes on looks at that and not at everything there is.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Entries that are kept. Ours: a reader that is behind by more looks at everything once.
const KEPT: usize = 4_096;

/// A list of things that changed, in the order of their first change since anybody looked. Whoever changes a thing notes it
/// under the lock that it was changed under, and a reader looks at the thing under that lock: so nothing is missed.
#[derive(Debug)]
pub(crate) struct Recent<T> {
    list: Mutex<List<T>>,
    /// The end of the list when somebody looked last: what is named behind it need not be named again.
    looked: AtomicU64,
}

#[derive(Debug)]
struct List<T> {
    things: VecDeque<Weak<T>>,
    /// Things ever named.
    end: u64,
}

/// Where in a [`Recent`] a thing was named last. One for each thing and list.
#[derive(Debug, Default)]
pub(crate) struct Named(AtomicU64);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        let list = List {
            things: VecDeque::new(),
            end: 0,
        };
        Self {
            list: Mutex::new(list),
            looked: AtomicU64::new(0),
        }
    }
}

impl<T> Recent<T> {
    /// The thing changed. Cheap, unless it is the first time since somebody looked.
    pub(crate) fn note(&self, named: &Named, thing: &Weak<T>) {
        if named.0.load(Ordering::Relaxed) > self.looked.load(Ordering::SeqCst) {
            return;
        }
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if list.things.len() == KEPT {
            list.things.pop_front();
        }
        list.things.push_back(Weak::clone(thing));
        list.end += 1;
        // The place behind it, so that zero is nowhere.
        named.0.store(list.end, Ordering::Relaxed);
    }

    /// What was named since the reader looked last, and is still there. `None` if that is more than is kept, or if it
    /// never looked.
    pub(crate) fn since(&self, seen: &mut Option<u64>) -> Option<Vec<Arc<T>>> {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        self.looked.store(list.end, Ordering::SeqCst);
        let seen = seen.replace(list.end)?;
        let news = usize::try_from(list.end - seen).unwrap_or(usize::MAX);
        let skipped = list.things.len().checked_sub(news)?;
        let named = list.things.iter().skip(skipped);
        Some(named.filter_map(Weak::upgrade).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Thing {
        number: u32,
        named: Named,
    }

    fn thing(number: u32) -> Arc<Thing> {
        Arc::new(Thing {
            number,
            named: Named::default(),
        })
    }

    fn note(recent: &Recent<Thing>, thing: &Arc<Thing>) {
        recent.note(&thing.named, &Arc::downgrade(thing));
    }

    fn numbers(things: Option<Vec<Arc<Thing>>>) -> Option<Vec<u32>> {
        Some(things?.iter().map(|thing| thing.number).collect())
    }

    #[test]
    fn every_reader_is_told_of_a_thing_once_for_all_its_changes() {
        let recent = Recent::default();
        let (one, two) = (thing(1), thing(2));
        let (mut a, mut b) = (None, None);
        note(&recent, &one);
        assert_eq!(numbers(recent.since(&mut a)), None, "all is new at first");
        assert_eq!(numbers(recent.since(&mut b)), None);
        for changed in [&one, &two, &one, &two] {
            note(&recent, changed);
        }
        assert_eq!(numbers(recent.since(&mut a)), Some(vec![1, 2]));
        note(&recent, &one);
        assert_eq!(numbers(recent.since(&mut a)), Some(vec![1]));
        assert_eq!(numbers(recent.since(&mut a)), Some(vec![]));
        let of_b = numbers(recent.since(&mut b));
        assert_eq!(of_b, Some(vec![1, 2, 1]), "named again for the first");
    }

    #[test]
    fn who_is_far_behind_looks_at_everything_and_what_is_gone_is_not_named() {
        let recent = Recent::default();
        let (one, two) = (thing(1), thing(2));
        let (mut slow, mut fast) = (None, None);
        recent.since(&mut slow);
        for _ in 0..=KEPT {
            note(&recent, &one);
            recent.since(&mut fast);
        }
        assert_eq!(numbers(recent.since(&mut slow)), None);
        note(&recent, &one);
        note(&recent, &two);
        drop(one);
        assert_eq!(numbers(recent.since(&mut slow)), Some(vec![2]));
    }
}
