//! Pools as they follow from accounts and reservations, and the longest invocation each may hold. The
//! arithmetic of grants is `hearth_core::permits`.

use std::collections::BTreeMap;

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
}

impl Grants {
    /// The committed grants.
    pub fn table(&self) -> &GrantTable {
        &self.table
    }

    /// Milliseconds the longest invocation of the pool may run.
    pub fn longest_timeout_ms(&self, pool: &PoolKey) -> u64 {
        let seconds = match &pool.function {
            None => self.unreserved_timeouts_s.get(&pool.account),
            Some(name) => self
                .reserved_timeouts_s
                .get(&pool.account)
                .and_then(|names| names.get(name)),
        };
        u64::from(seconds.copied().unwrap_or_default()) * 1_000
    }

    /// A function of the account may run for so long. Its reserved pool, if any, is raised as well.
    pub(super) fn raise_timeout(
        &mut self,
        account: &AccountId,
        reserved: Option<&FunctionName>,
        timeout_s: u32,
    ) {
        let raise = |known: &mut u32| *known = (*known).max(timeout_s);
        raise(
            self.unreserved_timeouts_s
                .entry(account.clone())
                .or_default(),
        );
        if let Some(name) = reserved {
            let names = self.reserved_timeouts_s.entry(account.clone()).or_default();
            raise(names.entry(name.clone()).or_default());
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
        let pool = PoolKey {
            account: account.clone(),
            function: Some(name.clone()),
            provisioned: None,
        };
        match reserved {
            Some(limit) => {
                self.table.set_limit(&pool, limit, sequence);
            }
            None => {
                self.table.remove_pool(&pool, sequence);
            }
        }
        self.drop_old_timeouts(account);
    }

    /// What the account's functions without a reservation share.
    pub(super) fn set_unreserved(
        &mut self,
        account: &AccountId,
        limit: u32,
        sequence: GrantSequence,
    ) {
        let pool = PoolKey {
            account: account.clone(),
            function: None,
            provisioned: None,
        };
        if self.table.limit(&pool) != Some(limit) {
            self.table.set_limit(&pool, limit, sequence);
        }
    }

    /// Timeouts of reserved pools are kept while the pool is, which outlives its function by its grants.
    fn drop_old_timeouts(&mut self, account: &AccountId) {
        let table = &self.table;
        if let Some(names) = self.reserved_timeouts_s.get_mut(account) {
            names.retain(|name, _| {
                let pool = PoolKey {
                    account: account.clone(),
                    function: Some(name.clone()),
                    provisioned: None,
                };
                table.limit(&pool).is_some()
            });
            if names.is_empty() {
                self.reserved_timeouts_s.remove(account);
            }
        }
    }
}
