//! Keeps one Exchange stream to a worker up: connects, reads its frames into the tables, connects again after a loss.
//! HTTP/2 keep-alive finds a dead peer. What is sent is in `outbox`, what the frames mean for waiting invocations in
//! `line` and `worker`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use hearth_core::ids::{MonotonicMs, PoolKey, VersionKey};
use hearth_core::standing::{Answers, Pace};
use hearth_node::shutdown::Shutdown;
use hearth_proto::convert::required_version;
use hearth_proto::internal::v1 as pb;
use pb::gateway_frame::Frame;
use pb::invocations_client::InvocationsClient;
use pb::worker_frame::Frame as FromWorker;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::Invoker;
use super::line::{Free, StartRefusal};
use super::tables::Report;
use super::worker::Worker;
use crate::channel::MESSAGE_MAX_BYTES;

/// Bounds of the pause between attempts to connect; doubled after each failure.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Runs until the worker is removed or the gateway ends.
pub(super) async fn run(invoker: Arc<Invoker>, worker: Arc<Worker>, token: CancellationToken) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let began = invoker.now();
        tokio::select! {
            () = token.cancelled() => break,
            end = exchange(&invoker, &worker) => {
                if let Err(status) = end {
                    debug!(worker = %worker.id, addr = worker.addr, %status, "no stream to worker");
                }
            }
        }
        lost(&invoker, &worker);
        if !worker.tables.is_listed() && !token.is_cancelled() {
            // Drops the token too; this task has ended by itself.
            invoker.remove_worker(worker.id);
            return;
        }
        let lived = invoker.now().since(began);
        backoff = if u128::from(lived) > BACKOFF_MAX.as_millis() {
            BACKOFF_MIN
        } else {
            (backoff * 2).min(BACKOFF_MAX)
        };
        tokio::select! {
            () = token.cancelled() => break,
            () = tokio::time::sleep(backoff) => {}
        }
    }
    lost(&invoker, &worker);
}

fn lost(invoker: &Arc<Invoker>, worker: &Arc<Worker>) {
    if worker.tables.is_connected() {
        info!(worker = %worker.id, "stream to worker lost");
    }
    let lost = worker.tables.set_connected(false);
    invoker.holders.on_lost(lost, worker);
    // Tables first: what is retried now must not come back here.
    invoker.forget_worker(worker.id);
    worker.on_lost();
    invoker.on_connections_changed();
}

async fn exchange(invoker: &Arc<Invoker>, worker: &Arc<Worker>) -> Result<(), tonic::Status> {
    let channel = invoker.dialer.channel(&worker.addr)?;
    let mut client = InvocationsClient::new(channel).max_decoding_message_size(MESSAGE_MAX_BYTES);
    let hello = Frame::Hello(pb::GatewayHello {
        gateway_id: invoker.node_id.0,
        answers_pulses: true,
    });
    let outgoing = worker.outbox.open(hello);
    let mut frames = client.exchange(outgoing).await?.into_inner();
    *worker.answers() = Answers::new(invoker.now());
    worker.tables.set_connected(true);
    invoker.on_connections_changed();
    info!(worker = %worker.id, addr = worker.addr, "stream to worker is up");
    let mut known = HashSet::new();
    while let Some(frame) = frames.message().await? {
        if let Some(frame) = frame.frame {
            on_frame(invoker, worker, &mut known, frame);
        }
    }
    Ok(())
}

fn on_frame(
    invoker: &Arc<Invoker>,
    worker: &Arc<Worker>,
    known: &mut HashSet<VersionKey>,
    frame: FromWorker,
) {
    let now = invoker.now();
    worker.answers().on_heard(now);
    match frame {
        FromWorker::Taken(taken) => worker.on_taken(&taken.ids, now),
        FromWorker::Closing(_) => worker.on_closing(),
        FromWorker::Pulse(pulse) => on_pulse(invoker, worker, pulse.sent_at_ms),
        FromWorker::Response(response) => worker.on_response(response, now),
        FromWorker::Chunk(chunk) => worker.on_chunk(&chunk, now),
        FromWorker::Part(part) => worker.on_part(part),
        FromWorker::Refused(refused) => worker.on_refused(&refused, now),
        FromWorker::Load(load) => on_load(invoker, worker, known, &load, now),
        FromWorker::StartRefused(refused) => on_start_refused(invoker, worker, refused, now),
    }
}

fn on_pulse(invoker: &Invoker, worker: &Worker, sent_at_ms: u64) {
    let pace = Pace::of_workers(invoker.workers.load().len());
    // The answer is noted before it can reach the worker, so that the lease is never longer than it is taken for.
    worker.answers().on_pulse(pace, invoker.now());
    let answer = Frame::PulseAnswer(pb::PulseAnswer {
        sent_at_ms,
        pulse_ms: pace.pulse_ms,
    });
    // A worker that takes no frames gets no lease either.
    let _ = worker.outbox.push(answer);
}

fn on_load(
    invoker: &Arc<Invoker>,
    worker: &Arc<Worker>,
    known: &mut HashSet<VersionKey>,
    load: &pb::Load,
    now: MonotonicMs,
) {
    let pool_use = |p: &pb::PoolUse| {
        let key = PoolKey::try_from(p.pool.as_ref()?).ok()?;
        Some((key, p.ceiling, p.in_flight))
    };
    let moved = worker.tables.on_report(Report {
        free_memory_mib: load.free_memory_mib,
        idle_memory_mib: load.idle_memory_mib,
        start_budget: load.start_budget,
        draining: load.draining,
        pools: load.pools.iter().filter_map(pool_use).collect(),
        complete: load.complete,
    });
    for pool in &moved.gained {
        invoker.holders.on_gained(pool, worker);
    }
    invoker.holders.on_lost(moved.lost, worker);
    for used in &load.pools {
        let Some(key) = used.pool.as_ref().and_then(|p| PoolKey::try_from(p).ok()) else {
            continue;
        };
        let slot = worker.tables.pool(&key);
        let others = slot.map_or(0, |slot| slot.on_admitted(used.admitted));
        if others > 0 {
            invoker.catalog.quotas.on_others(&key, others, now);
        }
    }
    let mut named = HashSet::new();
    for version in &load.versions {
        let Ok(key) = required_version(version.version.as_ref()) else {
            continue;
        };
        let free = Free {
            idle: version.idle,
            received: version.received,
        };
        let counts = [version.starting, version.busy];
        let line = invoker.line(&key);
        line.on_begun(worker, version.begun, now);
        line.on_report(worker, free, counts, now);
        named.insert(key);
    }
    if load.complete {
        for gone in known.difference(&named) {
            invoker.line(gone).on_gone(worker);
        }
        known.clear();
    }
    known.extend(named);
    invoker.wake_waiting();
}

fn on_start_refused(
    invoker: &Arc<Invoker>,
    worker: &Arc<Worker>,
    refused: pb::StartRefused,
    now: MonotonicMs,
) {
    use pb::start_refused::Reason;
    let Ok(key) = required_version(refused.version.as_ref()) else {
        return;
    };
    let why = match refused.reason() {
        Reason::UnknownVersion => StartRefusal::UnknownVersion,
        Reason::NotRunnable => StartRefusal::NotRunnable(refused.detail),
        Reason::NoMemory | Reason::Draining | Reason::Unspecified => StartRefusal::NoMemory,
    };
    invoker.line(&key).on_start_refused(worker, why, now);
}

/// Starts the task.
pub(super) fn spawn(
    invoker: &Arc<Invoker>,
    worker: &Arc<Worker>,
    shutdown: &Shutdown,
    token: CancellationToken,
) {
    let task = run(Arc::clone(invoker), Arc::clone(worker), token);
    shutdown.spawn("worker stream", task);
}
