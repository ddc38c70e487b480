//! Tells one gateway how this worker stands: everything at first and now and then, what changed soon after it changed.

use std::sync::Arc;
use std::time::Duration;

use hearth_core::ids::PoolKey;
use hearth_core::permits::PoolReport;
use hearth_core::pool::PoolCounts;
use hearth_proto::internal::v1 as pb;
use pb::worker_frame::Frame;
use tokio::sync::broadcast::error::RecvError;

use super::outbox::Outbox;
use crate::pool::Engine;
use crate::pool::version::VersionPool;

/// Changes of this span are told together. Ours: long against a warm invocation, which needs no report. A sandbox that
/// was started is told at once, since somebody waits for it.
const COALESCE: Duration = Duration::from_millis(20);

/// Everything is told again after this long, whatever was missed.
const COMPLETE_EVERY: Duration = Duration::from_secs(2);

/// Reports for as long as the stream lives.
pub(super) async fn report(engine: Arc<Engine>, outbox: Arc<Outbox>) {
    let mut changes = engine.changes.reader();
    loop {
        // A report that finds a gateway not reading adds nothing to the queue.
        outbox.room().await;
        changes.turn();
        outbox.say(Frame::Load(load(&engine, &outbox, None)));
        let next_complete = tokio::time::sleep(COMPLETE_EVERY);
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
            let since = changes.turn();
            outbox.say(Frame::Load(load(&engine, &outbox, Some(since))));
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

/// How the worker stands; only what changed since a mark, if there is one.
fn load(engine: &Engine, outbox: &Outbox, since: Option<u64>) -> pb::Load {
    let all = engine.all_pools();
    let idle_memory_mib = all.iter().map(|pool| pool.idle_memory_mib()).sum();
    let changed = all
        .into_iter()
        .filter(|pool| since.is_none_or(|mark| pool.changed_since(mark)));
    let pools = engine.gates.changed_since(since.unwrap_or(0));
    pb::Load {
        incarnation: engine.incarnation,
        free_memory_mib: engine.memory.free_mib(),
        idle_memory_mib,
        start_budget: u32::try_from(engine.start_slots.available_permits()).unwrap_or(u32::MAX),
        draining: engine.is_draining(),
        versions: changed.map(|pool| version_load(&pool, outbox)).collect(),
        pools: pools
            .iter()
            .map(|(key, report, admitted)| pb::PoolUse {
                admitted: *admitted,
                ..pool_use(key, report)
            })
            .collect(),
        complete: since.is_none(),
    }
}

fn version_load(pool: &VersionPool, outbox: &Outbox) -> pb::VersionLoad {
    let mut counts = PoolCounts::default();
    let free = outbox.received(&pool.key).with(|| {
        counts = pool.counts();
        counts.idle
    });
    pb::VersionLoad {
        version: Some((&pool.key).into()),
        idle: free.idle,
        starting: counts.starting,
        busy: counts.busy,
        received: free.received,
        begun: pool.begun(),
    }
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
