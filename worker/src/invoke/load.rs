//! Tells one gateway how this worker stands: everything at first and now and then, what changed soon after it changed.

use std::sync::Arc;
use std::time::Duration;

use hearth_core::ids::PoolKey;
use hearth_core::permits::PoolReport;
use hearth_core::pool::PoolCounts;
use hearth_proto::internal::v1 as pb;
use pb::worker_frame::Frame;
use tokio::sync::broadcast::error::RecvError;

use super::outbox::{Outbox, Received};
use crate::pool::Engine;
use crate::pool::changes::News;
use crate::pool::version::VersionPool;

/// Changes of this span are told together. Ours: long against a warm invocation, which needs no report. A sandbox that
/// was started is told at once, since somebody waits for it.
const COALESCE: Duration = Duration::from_millis(20);

/// Everything is told again after this long and a while for each version and pool, whatever was missed: so that the telling
/// costs next to nothing whatever their number.
const COMPLETE_EVERY: Duration = Duration::from_secs(2);
const COMPLETE_EACH: Duration = Duration::from_millis(4);
const COMPLETE_MAX: Duration = Duration::from_secs(10);

/// And after this long, if the gateway is known to have missed something.
const COMPLETE_IN_DOUBT: Duration = Duration::from_millis(200);

/// Reports for as long as the stream lives.
pub(super) async fn report(engine: Arc<Engine>, outbox: Arc<Outbox>) {
    let mut changes = engine.changes.reader();
    loop {
        // A report that finds a gateway not reading adds nothing to the queue.
        outbox.room().await;
        let mut is_in_doubt = false;
        outbox.take_doubt();
        changes.turn();
        let told = say(&engine, &outbox, News::default());
        let pause = COMPLETE_EACH.saturating_mul(u32::try_from(told).unwrap_or(u32::MAX));
        let next_complete = tokio::time::sleep((COMPLETE_EVERY + pause).min(COMPLETE_MAX));
        tokio::pin!(next_complete);
        loop {
            tokio::select! {
                () = &mut next_complete => break,
                () = changes.changed() => {}
            }
            tokio::select! {
                () = tokio::time::sleep(COALESCE) => {}
                () = changes.hurried() => {}
            }
            outbox.room().await;
            say(&engine, &outbox, changes.turn());
            if !is_in_doubt && outbox.take_doubt() {
                is_in_doubt = true;
                next_complete.set(tokio::time::sleep(COMPLETE_IN_DOUBT));
            }
        }
    }
}

/// Passes on starts that came to nothing, for as long as the stream lives.
pub(super) async fn refusals(engine: &Engine, outbox: &Outbox) {
    let mut refusals = engine.refusals.subscribe();
    loop {
        match refusals.recv().await {
            Ok(refused) => {
                outbox.room().await;
                outbox.say(Frame::StartRefused(refused));
            }
            // The gateway asks again after a while, and hears again.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Says how the worker stands: all of it, or what changed and the gateway does not know. Returns how many versions and pools
/// were looked at.
fn say(engine: &Engine, outbox: &Outbox, news: News) -> usize {
    let complete = news.versions.is_none() || news.gates.is_none();
    let news = if complete { News::default() } else { news };
    let pools = news.versions.unwrap_or_else(|| engine.all_pools());
    pools.iter().for_each(|pool| pool.count_idle_memory());
    let gates = engine.gates.reports(news.gates);
    let looked_at = pools.len() + gates.len();
    let versions = pools.iter().map(|pool| version_load(pool, outbox));
    let versions = versions.collect();
    let load = pb::Load {
        incarnation: engine.incarnation,
        free_memory_mib: engine.memory.free_mib(),
        idle_memory_mib: engine.memory.idle_mib(),
        start_budget: u32::try_from(engine.start_slots.available_permits()).unwrap_or(u32::MAX),
        draining: engine.is_draining(),
        versions: Vec::new(),
        pools: gates
            .iter()
            .map(|(key, report, admitted)| pb::PoolUse {
                admitted: *admitted,
                ..pool_use(key, report)
            })
            .collect(),
        complete,
    };
    outbox.say_load(load, versions);
    looked_at
}

fn version_load(pool: &VersionPool, outbox: &Outbox) -> (Received, pb::VersionLoad) {
    let mut counts = PoolCounts::default();
    let received = outbox.received(&pool.key);
    let free = received.with(|| {
        counts = pool.counts();
        counts.idle
    });
    let load = pb::VersionLoad {
        version: Some((&pool.key).into()),
        idle: free.idle,
        starting: counts.starting,
        busy: counts.busy,
        received: free.received,
        begun: pool.begun(),
    };
    (received, load)
}

/// As it travels.
pub(crate) fn pool_use(key: &PoolKey, report: &PoolReport) -> pb::PoolUse {
    pb::PoolUse {
        pool: Some(key.into()),
        ceiling: report.ceiling,
        in_flight: report.in_flight,
        sequence: report.sequence.0,
        admitted: 0,
    }
}
