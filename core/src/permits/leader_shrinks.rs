//! Which shares are to fall, and how the workers are asked. The other half of the leader's rules is in `leader`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Key, LeaderPermits, PermitAction};
use crate::ids::{MonotonicMs, NodeId, PoolKey};
use crate::permits::{GrantOutcome, GrantTable, Shrink};

impl LeaderPermits {
    /// The committed share is what is still in flight and more than is wanted: the worker is told of it as a further
    /// shrink. A grant would raise its ceiling, and what ends would be admitted anew for ever.
    pub(super) fn shrink_on(&self, key: &Key, outcome: &GrantOutcome) -> Option<PermitAction> {
        let n = *self.shrinking.get(key).filter(|n| **n < outcome.n)?;
        let heard = self.workers.get(&key.0)?;
        let is_same_life = heard.incarnation == outcome.incarnation;
        let session = heard.session.filter(|_| is_same_life)?;
        Some(PermitAction::SendShrink {
            worker: key.0,
            shrink: Shrink {
                pool: key.1.clone(),
                n,
                base: outcome.sequence,
                incarnation: outcome.incarnation,
                session,
            },
        })
    }

    /// The limit of a pool was changed. If it was lowered, the shrinks that follow wait for nothing.
    pub fn on_limit_changed(&mut self, table: &GrantTable, pool: &PoolKey) -> bool {
        let is_lower = !table.excess(pool).is_empty();
        if is_lower {
            self.attempted.retain(|(_, p), _| p != pool);
        }
        is_lower
    }

    /// Shares that should be smaller: over a lowered limit, on a draining worker, a whole pool in one hand,
    /// or idle and wanted elsewhere. Repeats a question that has not had its effect after `resend_ms`.
    pub fn plan_shrinks(&mut self, table: &GrantTable, now: MonotonicMs) -> Vec<PermitAction> {
        self.moves.retain(|_, (_, until)| now < *until);
        self.uneven.retain(|pool, _| table.limit(pool).is_some());
        let wanted = if self.is_settled(now) {
            self.wanted_sizes(table, now)
        } else {
            BTreeMap::new()
        };
        self.shrinking.clone_from(&wanted);
        let mut actions = Vec::new();
        for (key, n) in wanted {
            let Some(granted) = table.granted(key.0, &key.1) else {
                continue;
            };
            if self.is_recent(&key, now) || !self.is_live(key.0, now) {
                continue;
            }
            let Some(session) = self.workers.get(&key.0).and_then(|h| h.session) else {
                continue;
            };
            self.attempted.insert(key.clone(), now);
            actions.push(PermitAction::SendShrink {
                worker: key.0,
                shrink: Shrink {
                    pool: key.1,
                    n,
                    base: granted.sequence,
                    incarnation: granted.incarnation,
                    session,
                },
            });
        }
        actions
    }

    /// The smallest size any reason asks for, for each share that is larger.
    fn wanted_sizes(&self, table: &GrantTable, now: MonotonicMs) -> BTreeMap<Key, u32> {
        let mut wanted = BTreeMap::new();
        let mut want = |key: Key, has: u32, n: u32| {
            if n < has {
                let smallest: &mut u32 = wanted.entry(key).or_insert(n);
                *smallest = n.min(*smallest);
            }
        };
        let live: BTreeSet<NodeId> = self
            .workers
            .keys()
            .filter(|w| self.is_live(**w, now) && !self.draining.contains(w))
            .copied()
            .collect();
        for (pool, limit) in table.pools() {
            for excess in table.excess(pool) {
                want((excess.worker, pool.clone()), u32::MAX, excess.n);
            }
            for (worker, granted) in table.shares(pool) {
                let key = (worker, pool.clone());
                if self.draining.contains(&worker) {
                    want(key.clone(), granted.n, 0);
                }
                let has_other = live.iter().any(|w| *w != worker);
                // Provisioned shares have a rule of their own (`provision`): each is a sandbox that is wanted.
                let is_movable = pool.provisioned.is_none();
                if is_movable && limit > 1 && granted.n >= limit && has_other {
                    want(key.clone(), granted.n, limit - 1);
                }
                if let Some((n, _)) = self.moves.get(&key) {
                    want(key, granted.n, *n);
                }
            }
        }
        wanted
    }
}
