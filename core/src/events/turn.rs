//! In what order due events are leased: one of each account in turn, and within an account one of each function in turn, so
//! that neither a busy account nor a busy function delays others by more than a round. Within a function the one that is due
//! for longest is first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

use serde::{Deserialize, Serialize};

use super::entry::FunctionKey;
use super::index::Index;
use crate::ids::{AccountId, UnixMs};
use crate::name::FunctionName;

/// Who was served last, so that the next lease goes on after it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Turn {
    /// The account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account: Option<AccountId>,
    /// The function of each account that has a line.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    functions: BTreeMap<AccountId, FunctionName>,
}

/// An account with those of its functions that have due events, in their order.
#[derive(Debug)]
struct Due {
    account: AccountId,
    functions: VecDeque<FunctionName>,
}

/// The order of one lease.
#[derive(Debug)]
pub(super) struct Round(VecDeque<Due>);

/// All of a map, beginning after a key.
fn after<'a, K: Ord, V>(
    map: &'a BTreeMap<K, V>,
    key: Option<&'a K>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    let (later, earlier) = match key {
        Some(key) => (
            map.range((Excluded(key), Unbounded)),
            Some(map.range(..=key)),
        ),
        None => (map.range(..), None),
    };
    later.chain(earlier.into_iter().flatten())
}

impl Turn {
    /// Who is due at `now`, beginning after who was served last. One lease of `count` events serves no more accounts and
    /// functions than that, so no more are looked for.
    pub(super) fn round(
        &self,
        index: &Index,
        skip: &BTreeSet<FunctionKey>,
        count: usize,
        now: UnixMs,
    ) -> Round {
        let accounts = after(&index.lines, self.account.as_ref()).filter_map(|(account, lines)| {
            let is_skipped = |function: &FunctionName| {
                !skip.is_empty()
                    && skip.contains(&FunctionKey {
                        account: account.clone(),
                        function: function.clone(),
                    })
            };
            let functions: VecDeque<FunctionName> = after(lines, self.functions.get(account))
                .filter(|(function, line)| line.first_due(now).is_some() && !is_skipped(function))
                .map(|(function, _)| function.clone())
                .take(count)
                .collect();
            (!functions.is_empty()).then(|| Due {
                account: account.clone(),
                functions,
            })
        });
        Round(accounts.take(count).collect())
    }

    /// This one was served.
    pub(super) fn served(&mut self, key: &FunctionKey) {
        self.account = Some(key.account.clone());
        self.functions
            .insert(key.account.clone(), key.function.clone());
    }

    /// Keeps nothing of accounts without a line.
    pub(super) fn forget_without_line(&mut self, account: &AccountId, index: &Index) {
        if !index.lines.contains_key(account) {
            self.functions.remove(account);
        }
    }
}

impl Round {
    /// Whose turn it is; it has its next one after all others, if it is given back.
    pub(super) fn next(&mut self) -> Option<FunctionKey> {
        let due = self.0.front_mut()?;
        let function = due.functions.pop_front()?;
        Some(FunctionKey {
            account: due.account.clone(),
            function,
        })
    }

    /// Ends the turn of the account that was served. `again` is its function if that has more due events.
    pub(super) fn end_turn(&mut self, again: Option<FunctionName>) {
        let Some(mut due) = self.0.pop_front() else {
            return;
        };
        due.functions.extend(again);
        if !due.functions.is_empty() {
            self.0.push_back(due);
        }
    }
}
