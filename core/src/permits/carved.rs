//! Pools that are carved out of others: a version's provisioned concurrency out of the function's reserved or the
//! account's unreserved pool. The limits of a whole that is left and of its parts add up to what the whole was, and so
//! must what is granted: a part that was just made finds what workers still hold of the whole.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::as_pairs;
use crate::ids::PoolKey;

/// Which pool each part was carved out of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Carved {
    #[serde(with = "as_pairs")]
    whole_of: BTreeMap<PoolKey, PoolKey>,
}

impl Carved {
    pub(super) fn is_empty(&self) -> bool {
        self.whole_of.is_empty()
    }

    /// Notes that `part` is carved out of `whole` from now on. Returns whether that is new.
    pub(super) fn set(&mut self, part: &PoolKey, whole: &PoolKey) -> bool {
        self.whole_of.insert(part.clone(), whole.clone()).as_ref() != Some(whole)
    }

    /// The part is gone.
    pub(super) fn remove(&mut self, part: &PoolKey) {
        self.whole_of.remove(part);
    }

    /// Keeps those parts alone.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&PoolKey) -> bool) {
        self.whole_of.retain(|part, _| is_kept(part));
    }

    /// All parts.
    pub(super) fn parts(&self) -> impl Iterator<Item = &PoolKey> {
        self.whole_of.keys()
    }

    /// All pools that parts are carved out of.
    pub(super) fn wholes(&self) -> impl Iterator<Item = &PoolKey> {
        let wholes: BTreeSet<&PoolKey> = self.whole_of.values().collect();
        wholes.into_iter()
    }

    /// The pool, what it was carved out of and everything else that was. `None` for a pool that shares with no other.
    pub(super) fn family<'a>(&'a self, pool: &'a PoolKey) -> Option<Vec<&'a PoolKey>> {
        let whole = self.whole_of.get(pool).unwrap_or(pool);
        let first = PoolKey::unreserved(&whole.account);
        let of_account = self
            .whole_of
            .range(first..)
            .take_while(|(part, _)| part.account == whole.account);
        let parts = of_account
            .filter(|(_, w)| *w == whole)
            .map(|(part, _)| part);
        let family: Vec<&PoolKey> = std::iter::once(whole).chain(parts).collect();
        (family.len() > 1).then_some(family)
    }
}
