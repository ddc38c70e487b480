//! What is asked of the cluster when its faults are over.

use std::time::Duration;

use super::load::Users;
use super::now_ms;
use super::script::Then;
use crate::chance::Chance;
use crate::history::{Answer, Ask};
use crate::invariants::{no_permit_is_leaked, the_healed_cluster_serves};
use crate::plan::{ACCOUNTS, FunctionPlan, Plan};

/// How long the healed cluster may take to serve everything again, milliseconds.
const SERVE_WITHIN_MS: u64 = 20_000;
/// How long sandboxes that are to be kept may take, milliseconds.
const KEPT_WITHIN_MS: u64 = 10_000;
/// How long a whole limit may take to be used, milliseconds.
const USE_WITHIN_MS: u64 = 15_000;
const BETWEEN_TRIES: Duration = Duration::from_millis(250);
/// The limit that the function of varying limit has at the end.
const LAST_LIMIT: u64 = 3;

/// All probes, one after the other.
pub(crate) async fn run(users: &Users) {
    let mut chance = Chance::new(users.plan.seed ^ 0x960B);
    let until = now_ms() + SERVE_WITHIN_MS;
    let mut failing = Vec::new();
    for gateway in Plan::names('g', users.plan.gateways) {
        if !metadata_works(users, &gateway, until).await {
            failing.push(format!("metadata through {gateway}"));
        }
        for function in &users.plan.functions {
            if !invocation_works(users, &gateway, function, until).await {
                failing.push(format!(
                    "{}/{} through {gateway}",
                    function.account, function.name
                ));
            }
        }
    }
    for function in users
        .plan
        .functions
        .iter()
        .filter(|f| f.is_aliased && !f.is_weighted)
    {
        let until = until.max(now_ms() + KEPT_WITHIN_MS);
        if !users
            .kept_sandboxes_are_ready(function, until, &mut chance)
            .await
        {
            failing.push(format!("sandboxes of {} to be kept", function.name));
        }
    }
    the_healed_cluster_serves::check(&mut users.ledger.seen(), &failing, now_ms());
    for function in &users.plan.functions {
        if let Some(reserved) = function.reserved {
            let mut limit = reserved;
            if function.limit_varies {
                limit = LAST_LIMIT;
                while !users.set_limit(function, limit, &mut chance).await && now_ms() < until {
                    tokio::time::sleep(BETWEEN_TRIES).await;
                }
            }
            use_whole_limit(users, function, limit, &mut chance).await;
        }
    }
}

/// Reads what was written, and writes again. The reads are part of the history.
async fn metadata_works(users: &Users, gateway: &str, until: u64) -> bool {
    for account in ACCOUNTS {
        for name in ["m1", "m2"] {
            while users.ask(gateway, account, name, Ask::Get).await.is_none() {
                if now_ms() > until {
                    return false;
                }
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
        }
        let name = format!("probe-{gateway}");
        let steps = [Ask::Create(1), Ask::Get, Ask::Delete, Ask::Get];
        let wanted = [
            Answer::Done,
            Answer::Value(1),
            Answer::Done,
            Answer::Missing,
        ];
        for (ask, wanted) in steps.into_iter().zip(wanted) {
            while users.ask(gateway, account, &name, ask).await != Some(wanted) {
                if now_ms() > until {
                    return false;
                }
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
        }
    }
    true
}

async fn invocation_works(
    users: &Users,
    gateway: &str,
    function: &FunctionPlan,
    until: u64,
) -> bool {
    while !users
        .invoke_through(gateway, function, 10, Then::Answer)
        .await
    {
        if now_ms() > until {
            return false;
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
    true
}

/// Offers as much as the limit until it was all in use at a time.
async fn use_whole_limit(users: &Users, function: &FunctionPlan, limit: u64, chance: &mut Chance) {
    let key = (function.account.to_owned(), function.name.to_owned());
    users.ledger.seen().peaks.remove(&key);
    let until = now_ms() + USE_WITHIN_MS;
    let peak = || {
        let seen = users.ledger.seen();
        seen.peaks.get(&key).copied().unwrap_or(0)
    };
    while u64::try_from(peak()).unwrap_or(u64::MAX) < limit && now_ms() < until {
        let all = (0..limit).map(|_| {
            let mut chance = chance.fork();
            async move { users.invoke(function, 400, Then::Answer, &mut chance).await }
        });
        futures::future::join_all(all).await;
    }
    no_permit_is_leaked::check(&mut users.ledger.seen(), &key, limit, now_ms());
}
