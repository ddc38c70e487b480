//! Asks the leader for permits, once at a time per pool however many wait, and remembers a refusal for a moment, so
//! that a storm of throttled requests costs the controllers nothing. How a refusal is answered is not decided here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use hearth_core::ids::{MonotonicMs, NodeId, PoolKey};
use hearth_core::name::FunctionName;
use hearth_proto::internal::v1 as pb;
use pb::need_capacity_reply::Outcome as Said;

use super::line::Need;
use crate::controllers::Controllers;

/// How long "the limit is reached" is taken as still true.
pub(super) const REFUSAL_TTL_MS: u64 = 100;
/// Pools of which something is remembered; beyond, what is over is forgotten first.
const POOLS_MAX: usize = 4_096;

/// The leader's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// These hold permits by now.
    Granted(Vec<NodeId>),
    /// The pool's limit is reached; AWS's reason.
    AtLimit { reason: String },
    /// There are permits and no worker to give them to.
    NoWorker,
    /// No such function.
    NotFound,
    /// No leader could be asked.
    Unreachable,
}

type Asking = Shared<BoxFuture<'static, Outcome>>;

#[derive(Debug)]
enum Entry {
    Asking(Asking),
    Refused { reason: String, until: MonotonicMs },
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Capacity {
    controllers: Arc<Controllers>,
    pools: Mutex<HashMap<PoolKey, Entry>>,
}

impl Capacity {
    pub(crate) fn new(controllers: Arc<Controllers>) -> Self {
        Self {
            controllers,
            pools: Mutex::default(),
        }
    }

    fn pools(&self) -> MutexGuard<'_, HashMap<PoolKey, Entry>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn ask(
        &self,
        gateway: NodeId,
        function: &FunctionName,
        need: Need,
        now: MonotonicMs,
    ) -> Outcome {
        let pool = Arc::clone(&need.pool);
        let asking = {
            let mut pools = self.pools();
            match pools.get(&*pool) {
                Some(Entry::Refused { reason, until }) if now < *until => {
                    return Outcome::AtLimit {
                        reason: reason.clone(),
                    };
                }
                Some(Entry::Asking(asking)) => asking.clone(),
                Some(Entry::Refused { .. }) | None => {
                    let asking = self.begin(gateway, function, need);
                    make_room(&mut pools, now);
                    pools.insert(PoolKey::clone(&pool), Entry::Asking(asking.clone()));
                    asking
                }
            }
        };
        let outcome = asking.clone().await;
        let mut pools = self.pools();
        if matches!(pools.get(&*pool), Some(Entry::Asking(current)) if current.ptr_eq(&asking)) {
            match &outcome {
                Outcome::AtLimit { reason } => {
                    let (reason, until) = (reason.clone(), now.plus(REFUSAL_TTL_MS));
                    pools.insert(PoolKey::clone(&pool), Entry::Refused { reason, until });
                }
                _ => {
                    pools.remove(&*pool);
                }
            }
        }
        outcome
    }

    fn begin(&self, gateway: NodeId, function: &FunctionName, need: Need) -> Asking {
        let request = pb::NeedCapacityRequest {
            gateway_id: gateway.0,
            account: need.pool.account.to_string(),
            function: function.to_string(),
            wanted: need.wanted,
            memory_mib: need.memory_mib,
            refused_by: need.refused_by.iter().map(|id| id.0).collect(),
            ejected: need.ejected.iter().map(|id| id.0).collect(),
        };
        let controllers = Arc::clone(&self.controllers);
        let asking = async move {
            match controllers.need_capacity(request).await {
                Ok(reply) => outcome(reply),
                Err(_) => Outcome::Unreachable,
            }
        };
        asking.boxed().shared()
    }
}

fn make_room(pools: &mut HashMap<PoolKey, Entry>, now: MonotonicMs) {
    if pools.len() >= POOLS_MAX {
        pools.retain(|_, entry| match entry {
            Entry::Asking(_) => true,
            Entry::Refused { until, .. } => now < *until,
        });
    }
}

fn outcome(reply: pb::NeedCapacityReply) -> Outcome {
    match reply.outcome() {
        Said::Granted => Outcome::Granted(reply.workers.into_iter().map(NodeId).collect()),
        Said::AtLimit => Outcome::AtLimit {
            reason: reply.reason,
        },
        Said::NoWorker => Outcome::NoWorker,
        Said::NotFound => Outcome::NotFound,
        Said::Unspecified => Outcome::Unreachable,
    }
}
