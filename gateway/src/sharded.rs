//! A map that is read without locks and changed by copying one shard of it: for tables that are read by each
//! request and change when a function does. What is kept in it is not known here.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

/// Enough that a change copies little at 100,000 keys, few enough that an empty map is small.
const SHARDS: usize = 64;

struct Shard<K, V> {
    map: ArcSwap<HashMap<K, V>>,
    /// Held while a copy is made and put in place.
    writing: Mutex<()>,
}

/// See the module's text. Values are shared pointers: they are cloned with their shard.
pub(crate) struct Sharded<K, V> {
    shards: Vec<Shard<K, V>>,
    hasher: RandomState,
}

impl<K, V> fmt::Debug for Sharded<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharded").finish_non_exhaustive()
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Default for Sharded<K, V> {
    fn default() -> Self {
        let shard = || Shard {
            map: ArcSwap::from_pointee(HashMap::new()),
            writing: Mutex::new(()),
        };
        Self {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Sharded<K, V> {
    fn index(&self, key: &K) -> usize {
        let hash = self.hasher.hash_one(key) % SHARDS as u64;
        usize::try_from(hash).expect("less than SHARDS")
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.shards[self.index(key)].map.load().get(key).cloned()
    }

    /// Lets `change` work on a copy of the shard of `key` and puts the copy in place.
    pub(crate) fn update<R>(&self, key: &K, change: impl FnOnce(&mut HashMap<K, V>) -> R) -> R {
        let shard = &self.shards[self.index(key)];
        let _writing = shard.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut copy = HashMap::clone(&shard.map.load());
        let result = change(&mut copy);
        shard.map.store(Arc::new(copy));
        result
    }

    /// The value of a key, made if there is none.
    pub(crate) fn get_or_insert_with(&self, key: &K, make: impl FnOnce() -> V) -> V {
        if let Some(value) = self.get(key) {
            return value;
        }
        self.update(key, |map| {
            map.entry(key.clone()).or_insert_with(make).clone()
        })
    }

    /// Changes many keys, each shard copied once.
    pub(crate) fn update_many<T>(
        &self,
        items: Vec<(K, T)>,
        mut change: impl FnMut(&mut HashMap<K, V>, K, T),
    ) {
        let mut by_shard: HashMap<usize, Vec<(K, T)>> = HashMap::new();
        for (key, item) in items {
            by_shard
                .entry(self.index(&key))
                .or_default()
                .push((key, item));
        }
        for items in by_shard.into_values() {
            let first = items[0].0.clone();
            self.update(&first, |map| {
                for (key, item) in items {
                    change(map, key, item);
                }
            });
        }
    }

    /// Keeps what `keep` says; shards which lose nothing are not copied.
    pub(crate) fn retain(&self, mut keep: impl FnMut(&K, &V) -> bool) {
        for shard in &self.shards {
            let _writing = shard.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let old = shard.map.load();
            let kept: HashMap<K, V> = old
                .iter()
                .filter(|(key, value)| keep(key, value))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            if kept.len() < old.len() {
                shard.map.store(Arc::new(kept));
            }
        }
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.map.load().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_changed_and_forgotten() {
        let map: Sharded<u32, Arc<u32>> = Sharded::default();
        map.update_many(
            (0..500).map(|n| (n, Arc::new(n))).collect(),
            |map, key, value| {
                map.insert(key, value);
            },
        );
        assert_eq!(map.len(), 500);
        assert_eq!(map.get(&77).as_deref(), Some(&77));
        assert_eq!(*map.get_or_insert_with(&77, || Arc::new(1)), 77);
        assert_eq!(*map.get_or_insert_with(&1_000, || Arc::new(1)), 1);
        map.retain(|key, _| key % 2 == 0);
        assert_eq!(map.len(), 251);
        assert_eq!(map.get(&77), None);
    }
}
