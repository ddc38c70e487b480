//! Notices workers that do not keep up, by their own answers, and takes back what they have not begun. The rules are
//! `core::standing`; what a standing means for an invocation is decided in `core::routing`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hearth_core::ids::{MonotonicMs, NodeId};
use hearth_core::standing::{Case, Record, Standing, judge};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Invoker;
use super::worker::Worker;

/// Workers are judged this often.
const EVERY: Duration = Duration::from_millis(50);
/// A gateway that comes round so late has been stopped or starved itself: the answers of workers wait in its own queues,
/// and it judges nobody until it has read them.
const OWN_HICCUP_MS: u64 = 150;

impl Invoker {
    /// Judges the workers until the gateway ends.
    pub(crate) async fn watch_standing(self: Arc<Self>, token: CancellationToken) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut records = HashMap::new();
        let mut last = self.now();
        loop {
            tokio::select! {
                () = token.cancelled() => return,
                _ = tick.tick() => {}
            }
            self.drop_unlisted();
            let now = self.now();
            if now.since(last) < OWN_HICCUP_MS {
                self.judge_workers(&mut records, now);
            }
            last = now;
        }
    }

    fn judge_workers(&self, records: &mut HashMap<NodeId, Record>, now: MonotonicMs) {
        let workers = self.workers.load();
        let by_id: HashMap<NodeId, &Arc<Worker>> =
            workers.iter().map(|worker| (worker.id, worker)).collect();
        records.retain(|id, _| by_id.contains_key(id));
        let connected = || workers.iter().filter(|w| w.tables.is_connected());
        let mut cases: Vec<Case> = connected()
            .map(|worker| Case {
                worker: worker.id,
                record: records.get(&worker.id).copied().unwrap_or_default(),
                lag_ms: worker.lag_ms(now),
            })
            .collect();
        judge(&mut cases, now);
        let mut has_changed = false;
        for case in &cases {
            records.insert(case.worker, case.record);
            let Some(worker) = by_id.get(&case.worker) else {
                continue;
            };
            let before = worker.tables.standing();
            if before != case.record.standing {
                has_changed = true;
                worker.tables.set_standing(case.record.standing);
                tell(worker, case, before);
            }
        }
        for worker in connected() {
            let recalled = worker.recall(now);
            self.metrics
                .recalled
                .inc_by(u64::try_from(recalled).unwrap_or(u64::MAX));
        }
        let ejected = cases
            .iter()
            .filter(|case| case.record.standing == Standing::Ejected)
            .count();
        self.metrics
            .ejected
            .set(i64::try_from(ejected).unwrap_or(i64::MAX));
        if has_changed {
            self.wake_waiting();
        }
    }
}

fn tell(worker: &Worker, case: &Case, before: Standing) {
    let (worker, lag_ms) = (worker.id, case.lag_ms);
    match case.record.standing {
        Standing::Ejected => warn!(%worker, lag_ms, "worker does not keep up; sending it nothing"),
        Standing::Probing => info!(%worker, lag_ms, "worker is well again; probing it"),
        Standing::Well => info!(%worker, lag_ms, ?before, "worker is sent to as any other"),
    }
}
