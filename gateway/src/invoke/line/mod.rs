//! The waiting line of one function version and what this gateway knows of its sandboxes. One lock per version, held
//! for a few lines and never over an await. Which worker is taken and how many sandboxes are made is decided by
//! `core::{routing, queue, placement}`; here their tables are kept and their answers carried out.

mod limits;
mod row;
mod slot;
mod starts;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_core::ids::{MonotonicMs, NodeId, PoolKey, VersionKey};
use hearth_core::limits::{MEMORY_DEFAULT_MIB, QUEUE_PER_FUNCTION};
use hearth_core::overload::ServiceRate;
use hearth_core::queue::{Ticket, WaitQueue};
use hearth_core::routing::{Candidate, pick_warm};
use hearth_core::versions::Pools;
use tokio::sync::{Notify, oneshot};

use self::row::Row;
use self::slot::Picked;
use super::quota::{PoolQuota, ScaleOut};
use super::worker::Worker;
use super::{InvokeError, STALE_AFTER_MS};

pub(crate) use self::row::Free;
pub(crate) use self::slot::Slot;

/// A start that shows in no report within this time is taken as lost and asked for again.
const START_ASK_TTL_MS: u64 = 1_000;

/// Rows of workers of which nothing is known that are kept while nobody waits, and while somebody does. In a cluster of so
/// few workers all are looked at each time.
const BLANK_ROWS_IDLE: usize = 16;
const BLANK_ROWS_MAX: usize = 96;

/// How long a worker that refused a start is left alone, by the reason.
const NO_MEMORY_PAUSE_MS: u64 = 250;
const UNKNOWN_VERSION_PAUSE_MS: u64 = 50;
const NOT_RUNNABLE_PAUSE_MS: u64 = 2_000;

/// Why a worker does not start a sandbox of this version now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StartRefusal {
    NoMemory,
    UnknownVersion,
    NotRunnable(String),
}

/// What the catalog says about a version, as far as it matters here; a line made from a load report learns it with
/// the first invocation.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// What its invocations draw from.
    pub(crate) pools: Arc<Pools>,
    /// Memory of a sandbox, MB.
    pub(crate) memory_mib: u32,
    /// The pool's rate, and the leader's last word on it.
    pub(crate) quota: Arc<PoolQuota>,
    /// How many sandboxes may be added.
    pub(crate) scale_out: Arc<ScaleOut>,
}

type Waiter = oneshot::Sender<Result<Slot, InvokeError>>;

#[derive(Debug)]
struct State {
    queue: WaitQueue,
    waiters: BTreeMap<Ticket, Waiter>,
    rows: BTreeMap<NodeId, Row>,
    terms: Terms,
    /// A task looks after the waiting.
    tended: bool,
    /// Since when no sandbox can be added for those who wait: the memory of all workers is at work.
    saturated: Option<MonotonicMs>,
    served: ServiceRate,
    /// Rows made so far.
    streams: u64,
}

/// What an invocation gets when it asks for a sandbox.
#[derive(Debug)]
pub(crate) enum Grab {
    Slot(Slot),
    /// In line; `tend` says that the caller must start the task that looks after it.
    Waiting {
        ticket: Ticket,
        slot: oneshot::Receiver<Result<Slot, InvokeError>>,
        tend: bool,
    },
    /// Nobody can wait now.
    Refused(InvokeError),
}

/// What the task that looks after the line has to do.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) starts: Vec<(Arc<Worker>, u32)>,
    pub(crate) need: Option<Need>,
}

/// Permits that are lacking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) pool: Arc<PoolKey>,
    pub(crate) wanted: u32,
    /// Of a sandbox.
    pub(crate) memory_mib: u32,
    pub(crate) refused_by: Vec<NodeId>,
    /// Those of them that do not keep up.
    pub(crate) ejected: Vec<NodeId>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) key: VersionKey,
    /// Wakes the tending task.
    pub(crate) changed: Notify,
    /// The leader is being asked for permits on behalf of this line.
    pub(crate) asking: AtomicBool,
    state: Mutex<State>,
}

impl Line {
    pub(crate) fn new(key: VersionKey) -> Self {
        let terms = Terms {
            pools: Arc::new(Pools {
                provisioned: None,
                on_demand: PoolKey::unreserved(&key.account),
            }),
            memory_mib: MEMORY_DEFAULT_MIB,
            quota: Arc::default(),
            scale_out: Arc::default(),
        };
        Self {
            key,
            changed: Notify::new(),
            asking: AtomicBool::new(false),
            state: Mutex::new(State {
                queue: WaitQueue::new(QUEUE_PER_FUNCTION),
                waiters: BTreeMap::new(),
                rows: BTreeMap::new(),
                terms,
                tended: false,
                saturated: None,
                served: ServiceRate::default(),
                streams: 0,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A free sandbox, or a place in line until `deadline`: the last, or for one that was in line before the first.
    pub(crate) fn grab(
        self: &Arc<Self>,
        terms: &Terms,
        again: bool,
        deadline: MonotonicMs,
        now: MonotonicMs,
        draws: [u64; 2],
    ) -> Grab {
        let mut state = self.state();
        if !Arc::ptr_eq(&state.terms.pools, &terms.pools) {
            state.terms = terms.clone();
        }
        if (again || state.queue.is_empty())
            && let Some(picked) = state.take(&[], now, draws)
        {
            return Grab::Slot(picked.promise(self));
        }
        let ticket = if again {
            state.queue.enqueue_first(deadline)
        } else if let Some(error) = state.refusal(deadline, now) {
            return Grab::Refused(error);
        } else if let Ok(ticket) = state.queue.enqueue(deadline) {
            ticket
        } else {
            return Grab::Refused(state.too_many());
        };
        let (sender, slot) = oneshot::channel();
        state.waiters.insert(ticket, sender);
        let tend = !std::mem::replace(&mut state.tended, true);
        drop(state);
        self.changed.notify_one();
        Grab::Waiting { ticket, slot, tend }
    }

    /// A free sandbox on a worker that was not tried, for an invocation that was refused.
    pub(crate) fn grab_other(
        self: &Arc<Self>,
        tried: &[NodeId],
        now: MonotonicMs,
        draws: [u64; 2],
    ) -> Option<Slot> {
        let picked = self.state().take(tried, now, draws)?;
        Some(picked.promise(self))
    }

    /// The caller of a waiting invocation is gone.
    pub(crate) fn leave(&self, ticket: Ticket) {
        let mut state = self.state();
        state.queue.cancel(ticket);
        state.waiters.remove(&ticket);
    }

    /// A report about this version on a worker: sandboxes that are free, starting and at work.
    pub(crate) fn on_report(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        free: Free,
        [starting, busy]: [u32; 2],
        now: MonotonicMs,
    ) {
        let mut state = self.state();
        let row = state.row(worker);
        let before = row.reported + row.starting + row.busy;
        let after = free.idle.saturating_add(starting).saturating_add(busy);
        row.asked = row.asked.saturating_sub(after.saturating_sub(before));
        row.on_free(free);
        (row.starting, row.busy) = (starting, busy);
        state.serve(self, now);
        drop(state);
        self.changed.notify_one();
    }

    /// An invocation ended or was refused there, which left so many free.
    pub(crate) fn on_ended(self: &Arc<Self>, worker: &Arc<Worker>, free: Free, now: MonotonicMs) {
        let mut state = self.state();
        let row = state.row(worker);
        row.on_free(free);
        row.busy = row.busy.saturating_sub(1);
        state.serve(self, now);
    }

    /// The worker has no sandbox of the version any more. What was sent there before is still counted.
    pub(crate) fn on_gone(&self, worker: &Arc<Worker>) {
        let mut state = self.state();
        let row = state.row(worker);
        (row.reported, row.starting, row.busy) = (0, 0, 0);
        drop(state);
        self.changed.notify_one();
    }

    /// A promised sandbox was not used.
    pub(crate) fn take_back(&self, stream: u64) {
        let mut state = self.state();
        if let Some(row) = state.rows.values_mut().find(|row| row.stream == stream) {
            row.sent = row.sent.saturating_sub(1);
            row.busy = row.busy.saturating_sub(1);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// The worker does not start a sandbox now.
    pub(crate) fn on_start_refused(
        &self,
        worker: &Arc<Worker>,
        why: StartRefusal,
        now: MonotonicMs,
    ) {
        let mut state = self.state();
        let row = state.row(worker);
        row.forget_asked();
        let pause = match why {
            StartRefusal::NoMemory => NO_MEMORY_PAUSE_MS,
            StartRefusal::UnknownVersion => UNKNOWN_VERSION_PAUSE_MS,
            StartRefusal::NotRunnable(_) => NOT_RUNNABLE_PAUSE_MS,
        };
        row.refused = Some((why, now.plus(pause)));
        drop(state);
        self.changed.notify_one();
    }

    /// The worker is gone: nothing is known of it any more.
    pub(crate) fn forget(&self, worker: NodeId) {
        self.state().rows.remove(&worker);
        self.changed.notify_one();
    }

    /// Serves who can be served, gives up who waited too long, and says what to do for the others. `None` when
    /// nobody waits: the tending ends. `workers` are all there are, `nearby` those that are looked at for a place.
    pub(crate) fn plan(
        self: &Arc<Self>,
        workers: &[Arc<Worker>],
        nearby: &[Arc<Worker>],
        now: MonotonicMs,
    ) -> Option<Plan> {
        let mut state = self.state();
        for ticket in state.queue.expire(now) {
            state.refuse(ticket, InvokeError::WaitedTooLong);
        }
        state.forget_gone();
        state.serve(self, now);
        if let Some(detail) = state.not_runnable(workers, now) {
            state.refuse_all(|| InvokeError::NotRunnable(detail.clone()));
        }
        if state.queue.is_empty() {
            (state.tended, state.saturated) = (false, None);
            state.drop_blank_rows(BLANK_ROWS_IDLE, now);
            return None;
        }
        for worker in nearby.iter().filter(|w| w.tables.is_connected()) {
            state.row(worker);
        }
        let plan = state.plan_starts(now);
        state.shed(now);
        state.drop_blank_rows(BLANK_ROWS_MAX, now);
        Some(plan)
    }

    /// What its invocations draw from.
    pub(crate) fn pools(&self) -> Arc<Pools> {
        Arc::clone(&self.state().terms.pools)
    }

    /// The leader says that the pool's limit is reached: those for whom no permit is free are refused, the last first.
    pub(crate) fn throttle(&self, workers: &[Arc<Worker>], reason: &str, now: MonotonicMs) {
        let mut state = self.state();
        state.terms.quota.on_refused(now);
        let pools = Arc::clone(&state.terms.pools);
        let free: u32 = workers.iter().map(|w| w.tables.permits_free(&pools)).sum();
        let kept = usize::try_from(free).unwrap_or(usize::MAX);
        state.refuse_beyond(kept, || InvokeError::Throttled {
            reason: reason.to_owned(),
        });
    }

    /// Refuses all who wait.
    pub(crate) fn refuse_all(&self, error: impl Fn() -> InvokeError) {
        self.state().refuse_all(error);
    }

    /// Whether nothing would be lost with this line.
    pub(crate) fn is_unused(&self) -> bool {
        let state = self.state();
        state.queue.is_empty()
            && !state.tended
            && state
                .rows
                .values()
                .all(|row| row.reported + row.starting + row.busy + row.asked == 0)
    }

    /// Whether a task looks after it.
    pub(crate) fn is_tended(&self) -> bool {
        self.state().tended
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.state().queue.len()
    }
}

impl State {
    fn row(&mut self, worker: &Arc<Worker>) -> &mut Row {
        // A new incarnation of the worker is another `Worker`; the row of the old one is void.
        let streams = &mut self.streams;
        let mut make = || {
            *streams += 1;
            Row::new(Arc::clone(worker), *streams)
        };
        match self.rows.entry(worker.id) {
            Entry::Vacant(vacant) => vacant.insert(make()),
            Entry::Occupied(mut known) => {
                if !Arc::ptr_eq(&known.get().worker, worker) {
                    known.insert(make());
                }
                known.into_mut()
            }
        }
    }

    /// Rows that say nothing are made again when they are looked at: of those there are at most so many.
    fn drop_blank_rows(&mut self, most: usize, now: MonotonicMs) {
        if self.rows.len() > most {
            self.rows.retain(|_, row| !row.is_blank(now));
        }
    }

    /// The best free sandbox, promised.
    fn take(&mut self, tried: &[NodeId], now: MonotonicMs, draws: [u64; 2]) -> Option<Picked> {
        let pools = Arc::clone(&self.terms.pools);
        let (mut candidates, mut doubtful) = (Vec::new(), Vec::new());
        for row in self.rows.values() {
            let is_open = row.idle() > 0 && row.worker.tables.is_connected();
            if !is_open || tried.contains(&row.worker.id) {
                continue;
            }
            let candidate = row.candidate(&pools, now);
            if candidate.permits_free > 0 {
                candidates.push(candidate);
            } else if row.worker.tables.may_be_free(&pools) {
                doubtful.push(Candidate {
                    permits_free: 1,
                    ..candidate
                });
            }
        }
        let id = pick_warm(&candidates, now, STALE_AFTER_MS, draws)
            .or_else(|| pick_warm(&doubtful, now, STALE_AFTER_MS, draws))?;
        let row = self.rows.get_mut(&id)?;
        row.sent += 1;
        row.busy += 1;
        self.served.on_served(now);
        Some(Picked {
            worker: Arc::clone(&row.worker),
            stream: row.stream,
        })
    }

    /// Binds those who wait to free sandboxes, in order.
    fn serve(&mut self, line: &Arc<Line>, now: MonotonicMs) {
        // The draws only break herds of many gateways on fresh sandboxes; here the sandbox has just come free.
        while !self.queue.is_empty() {
            let Some(picked) = self.take(&[], now, [0, 1]) else {
                return;
            };
            if !self.give(picked.promise(line), now) {
                return;
            }
        }
    }

    /// Gives the sandbox to the first who still waits.
    fn give(&mut self, mut slot: Slot, now: MonotonicMs) -> bool {
        while let Some(ticket) = self.queue.bind(now) {
            let Some(waiter) = self.waiters.remove(&ticket) else {
                continue;
            };
            match waiter.send(Ok(slot)) {
                Ok(()) => return true,
                Err(Ok(back)) => slot = back,
                Err(Err(_)) => return false,
            }
        }
        // Nobody was left. The lock is held, so the promise is taken back here and not by the drop.
        slot.line = None;
        let row = self.row(&Arc::clone(&slot.worker));
        row.sent = row.sent.saturating_sub(1);
        row.busy = row.busy.saturating_sub(1);
        false
    }

    fn refuse(&mut self, ticket: Ticket, error: InvokeError) {
        if let Some(waiter) = self.waiters.remove(&ticket) {
            // A caller that is gone needs no answer.
            let _ = waiter.send(Err(error));
        }
    }

    /// Refuses the last of those who wait, so that so many are kept.
    fn refuse_beyond(&mut self, kept: usize, error: impl Fn() -> InvokeError) {
        let surplus = self.queue.len().saturating_sub(kept);
        let last: Vec<Ticket> = self.waiters.keys().rev().take(surplus).copied().collect();
        for ticket in last {
            self.queue.cancel(ticket);
            self.refuse(ticket, error());
        }
    }

    /// Callers that left without a word give up their places too: a line of places alone would never be empty, and whoever
    /// refuses all who wait would have nobody to refuse.
    fn forget_gone(&mut self) {
        let queue = &mut self.queue;
        self.waiters.retain(|ticket, waiter| {
            let is_gone = waiter.is_closed();
            if is_gone {
                queue.cancel(*ticket);
            }
            !is_gone
        });
    }

    fn refuse_all(&mut self, error: impl Fn() -> InvokeError) {
        for (ticket, waiter) in std::mem::take(&mut self.waiters) {
            self.queue.cancel(ticket);
            let _ = waiter.send(Err(error()));
        }
    }
}

#[cfg(test)]
mod tests;
