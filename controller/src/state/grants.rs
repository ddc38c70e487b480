//! Pools as they follow from accounts and reservations, and the longest invocation each may hold. The
//! arithmetic of grants is `hearth_core::permits`.

use std::collections::BTreeMap;

use hearth_core::function::Function;
use hearth_core::ids::{AccountId, GrantSequence, PoolKey};
use hearth_core::name::FunctionName;
use hearth_core::permits::GrantTable;
use serde::{Deserialize, Serialize};

/// Pools and grants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    pub(super) table: GrantTable,
    /// The longest timeout ever set of a function that drew from the pool, seconds: a silent worker's share
    /// is taken only when an invocation of that length must have ended. A timeout that is lowered does not
    /// lower it, since longer invocations may still run.
    unreserved_timeouts_s: BTreeMap<AccountId, u32>,
    reserved_timeouts_s: BTreeMap<AccountId, BTreeMap<FunctionName, u32>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    provisioned_timeouts_s: BTreeMap<AccountId, BTreeMap<FunctionName, u32>>,
}

impl Grants {
    /// The committed grants.
    pub fn table(&self) -> &GrantTable {
        &self.table
    }

    /// Milliseconds the longest invocation of the pool may run.
    pub fn longest_timeout_ms(&self, pool: &PoolKey) -> u64 {
        let by_name = match (&pool.function, pool.provisioned) {
            (None, _) => None,
            (Some(name), None) => Some((&self.reserved_timeouts_s, name)),
            (Some(name), Some(_)) => Some((&self.provisioned_timeouts_s, name)),
        };
        let seconds = match by_name {
            None => self.unreserved_timeouts_s.get(&pool.account),
            Some((timeouts, name)) => timeouts
                .get(&pool.account)
                .and_then(|names| names.get(name)),
        };
        u64::from(seconds.copied().unwrap_or_default()) * 1_000
    }

    /// The function may run for so long, on whatever pools it has.
    pub(super) fn raise_timeout(&mut self, function: &Function) {
        let timeout_s = function.longest_timeout_s();
        let raise = |known: &mut u32| *known = (*known).max(timeout_s);
        let account = &function.account;
        raise(
            self.unreserved_timeouts_s
                .entry(account.clone())
                .or_default(),
        );
        for (has_pool, timeouts) in [
            (
                function.reserved_concurrency.is_some(),
                &mut self.reserved_timeouts_s,
            ),
            (
                !function.provisioned.is_empty(),
                &mut self.provisioned_timeouts_s,
            ),
        ] {
            if has_pool {
                let names = timeouts.entry(account.clone()).or_default();
                raise(names.entry(function.name.clone()).or_default());
            }
        }
    }

    /// Makes a function's pool or changes its limit; `None` takes it away.
    pub(super) fn set_reserved(
        &mut self,
        account: &AccountId,
        name: &FunctionName,
        reserved: Option<u32>,
        sequence: GrantSequence,
    ) {
        let pool = PoolKey::reserved(account, name);
        match reserved {
            Some(limit) => {
                self.table.set_limit(&pool, limit, sequence);
            }
            None => {
                self.table.remove_pool(&pool, sequence);
            }
        }
        self.drop_old_timeouts(account, name);
    }

    /// What the account's functions without a reservation share.
    pub(super) fn set_unreserved(
        &mut self,
        account: &AccountId,
        limit: u32,
        sequence: GrantSequence,
    ) {
        let pool = PoolKey::unreserved(account);
        if self.table.limit(&pool) != Some(limit) {
            self.table.set_limit(&pool, limit, sequence);
        }
    }

    /// Makes the pools of the function's provisioned concurrency what they are wanted to be, all carved out of
    /// `whole`, and takes away those that are not wanted any more.
    pub(super) fn set_provisioned(
        &mut self,
        account: &AccountId,
        name: &FunctionName,
        whole: &PoolKey,
        wanted: &BTreeMap<u64, u32>,
        sequence: GrantSequence,
    ) {
        for (version, limit) in wanted {
            let part = PoolKey::provisioned(account, name, *version);
            self.table.set_part(&part, whole, *limit, sequence);
        }
        let is_gone = |pool: &PoolKey| pool.provisioned.is_some_and(|v| !wanted.contains_key(&v));
        for pool in self.table.pools_of(account, name) {
            if is_gone(&pool) {
                self.table.remove_pool(&pool, sequence);
            }
        }
        self.drop_old_timeouts(account, name);
    }

    /// Pools may have disappeared: what was kept about them is of no interest any more. For the end of each command.
    pub(super) fn forget_gone(&mut self) {
        for pool in self.table.take_gone() {
            if let Some(name) = &pool.function {
                self.drop_old_timeouts(&pool.account, name);
            }
        }
    }

    /// Timeouts of a function's pools are kept while the pools are, which outlive it by their grants.
    fn drop_old_timeouts(&mut self, account: &AccountId, name: &FunctionName) {
        let pools = self.table.pools_of(account, name);
        for (provisioned, timeouts) in [
            (false, &mut self.reserved_timeouts_s),
            (true, &mut self.provisioned_timeouts_s),
        ] {
            let is_kept = pools.iter().any(|p| p.provisioned.is_some() == provisioned);
            if is_kept {
                continue;
            }
            if let Some(names) = timeouts.get_mut(account) {
                names.remove(name);
                if names.is_empty() {
                    timeouts.remove(account);
                }
            }
        }
    }
}
