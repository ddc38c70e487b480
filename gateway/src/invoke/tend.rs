//! Looks after a line while invocations wait in it: asks workers for sandboxes and the leader for permits, and gives
//! up those who waited too long. What to ask for is decided in `line`; the task ends when nobody waits.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_core::ids::VersionKey;
use hearth_core::queue::look_again_ms;

use super::capacity::Outcome;
use super::line::{Line, Need, Plan};
use super::{InvokeError, Invoker};

/// Lines woken by what changed elsewhere.
const WOKEN_MAX: usize = 16;

/// Pause before the leader is asked again: after a grant the worker's report is on its way; without a worker or a
/// leader something must change first. After a refusal there is none: `capacity` remembers it.
const AFTER_GRANT: Duration = Duration::from_millis(20);
const AFTER_NOTHING: Duration = Duration::from_millis(200);

impl Invoker {
    /// Starts the task for a line. `traceparent` is of the invocation that began to wait.
    pub(super) fn tend(self: &Arc<Self>, line: Arc<Line>, traceparent: String) {
        self.tended().insert(line.key.clone(), Arc::clone(&line));
        let invoker = Arc::clone(self);
        self.shutdown.spawn("waiting line", async move {
            invoker.look_after(&line, &traceparent).await;
            let mut tended = invoker.tended();
            // A new invocation may have started the next task meanwhile.
            if !line.is_tended() {
                tended.remove(&line.key);
            }
        });
    }

    async fn look_after(self: &Arc<Self>, line: &Arc<Line>, traceparent: &str) {
        while let Some(plan) = self.plan(line) {
            // Nobody makes sandboxes of a version that does not serve any more: who waits for one follows the function.
            if self
                .catalog
                .serving(&line.key)
                .is_none_or(|entry| entry.key != line.key)
            {
                line.refuse_all(|| InvokeError::Superseded);
                continue;
            }
            for (worker, count) in plan.starts {
                self.metrics.starts_asked.inc_by(u64::from(count));
                worker.start_sandboxes(&line.key, count, traceparent);
            }
            if let Some(need) = plan.need
                && !line.asking.swap(true, Ordering::AcqRel)
            {
                self.ask_leader(line, need);
            }
            tokio::select! {
                () = line.changed.notified() => {}
                () = tokio::time::sleep(self.until_next_look()) => {}
            }
        }
    }

    fn tended(&self) -> MutexGuard<'_, HashMap<VersionKey, Arc<Line>>> {
        self.tended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line is looked at again after this long even if nothing was heard.
    fn until_next_look(&self) -> Duration {
        Duration::from_millis(look_again_ms(self.tended().len()))
    }

    fn plan(&self, line: &Arc<Line>) -> Option<Plan> {
        let (workers, turn) = (self.workers.load(), self.seams.random.u64());
        let nearby = self.holders.nearby(&line.pools(), &workers, turn);
        line.plan(&workers, &nearby, self.now())
    }

    fn ask_leader(self: &Arc<Self>, line: &Arc<Line>, need: Need) {
        let (invoker, line) = (Arc::clone(self), Arc::clone(line));
        self.shutdown
            .spawn("permits for a waiting line", async move {
                let pause = invoker.obtain(&line, need).await;
                line.changed.notify_one();
                if let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                }
                line.asking.store(false, Ordering::Release);
                line.changed.notify_one();
            });
    }

    /// Asks and tells the line; returns how long not to ask again.
    async fn obtain(&self, line: &Line, need: Need) -> Option<Duration> {
        let pool = Arc::clone(&need.pool);
        match self
            .capacity
            .ask(self.node_id, &line.key.function, need, self.now())
            .await
        {
            Outcome::Granted(workers) => {
                for worker in self
                    .workers
                    .load()
                    .iter()
                    .filter(|w| workers.contains(&w.id))
                {
                    worker.tables.on_granted(&pool);
                    self.holders.on_gained(&pool, worker);
                }
                Some(AFTER_GRANT)
            }
            Outcome::AtLimit { reason } => {
                let holders = self.holders.of(&line.pools());
                line.throttle(&holders, &reason, self.now());
                // For those who stay a permit seems free. The answer is remembered for a while, so that asking again at
                // once would be answered at once, without end.
                (line.waiting() > 0).then_some(AFTER_NOTHING)
            }
            Outcome::NotFound => {
                line.refuse_all(|| InvokeError::Gone);
                None
            }
            // Permits that are in use come free; a leader is elected; a worker joins.
            Outcome::NoWorker | Outcome::Unreachable => Some(AFTER_NOTHING),
        }
    }

    /// Something changed on a worker: those who wait may be helped. When many lines wait, they look by themselves soon enough:
    /// each report would have each of them look.
    pub(super) fn wake_waiting(&self) {
        let tended = self.tended();
        if tended.len() <= WOKEN_MAX {
            tended.values().for_each(|line| line.changed.notify_one());
        }
    }
}
