//! The run: what is done in which order, and what of it is measured.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures::StreamExt as _;
use hearth_core::control::{ControlReply, ControlRequest};
use hearth_core::function::State;
use hearth_core::name::FunctionName;
use hearth_node::Seams;
use hearth_tests::http::{Connection, signed};
use tokio::sync::mpsc;

use super::client::Controllers;
use super::nodes::{Nodes, resident_bytes};
use super::report::{Catalog, Leader, Rate, Report};
use super::{Scale, cpu};

/// Operations under way at a time, as several gateways would have.
const CONCURRENCY: usize = 256;
/// How often the progress of so many operations is told.
const PROGRESS: usize = 4;
/// Longest wait for a state the bench needs.
const PATIENCE_MS: u64 = 600_000;
/// Watchers of the catalog that are timed, beside all workers.
const WATCHERS: usize = 24;
/// Changes whose way to the watchers is timed.
const CHANGES: usize = 50;
/// How long the leader is watched doing nothing but hearing its workers.
const QUIET: Duration = Duration::from_secs(5);

struct Bench {
    nodes: Nodes,
    controllers: Controllers,
    scale: Scale,
}

pub(crate) async fn run(scale: Scale) -> anyhow::Result<Report> {
    let dir = tempfile::tempdir().context("making a directory")?;
    let nodes = Nodes::start(dir.path(), scale)?;
    let controllers = Controllers::new(&nodes.addresses(), &nodes.ready.account_id)?;
    let mut bench = Bench {
        nodes,
        controllers,
        scale,
    };
    match bench.measure(dir.path()).await {
        Ok(report) => Ok(report),
        Err(error) => {
            let kept = dir.keep();
            Err(error.context(format!("logs are in {}", kept.display())))
        }
    }
}

impl Bench {
    async fn measure(&mut self, dir: &Path) -> anyhow::Result<Report> {
        until("the controllers have a leader", async || {
            let status = self.controllers.cluster(0).await;
            Ok(status.is_ok_and(|s| s.leader.is_some()))
        })
        .await?;
        let first_term = self.controllers.cluster(0).await?.term;
        let pid = self.leader().await?;
        let empty = resident_bytes(pid)?;
        say(&format!("starting {} workers", self.scale.workers));
        let begin = now_ms();
        self.nodes.start_fleet(dir, self.scale.workers)?;
        self.all_workers().await?;
        let fleet_ms = now_ms() - begin;
        let with_workers = resident_bytes(pid)?;
        let quiet_cpu = self.quiet(pid).await?;

        let names = names(self.scale.functions)?;
        let create = self.create(&names).await?;
        let active = self.all_active(&names).await?;
        let with_functions = resident_bytes(pid)?;
        say("reserving concurrency for each");
        let reserve = |name| self.controllers.reserve(name, 1);
        let reserve = self.operations(names.iter().map(reserve).collect()).await?;

        let (decided, invoked) = names.split_at(names.len() / 2);
        say("cold-start decisions");
        let before = cpu::micros(pid)?;
        let decisions = self.decisions(decided).await?;
        let decision_us = cpu::micros(pid)? - before;
        self.nodes.start_gateway(dir)?;
        self.gateway_is_ready().await?;
        say("cold starts through the gateway");
        let before = cpu::micros(pid)?;
        let cold_starts = self.cold_starts(invoked).await?;
        let cold_us = cpu::micros(pid)? - before;
        say("changes of the catalog");
        let catalog = self.catalog(&names[0]).await?;

        let leader = Leader {
            changes: self.controllers.cluster(0).await?.term - first_term,
            bytes_per_worker: per(with_workers.saturating_sub(empty), self.scale.workers),
            bytes_per_function: per(
                with_functions.saturating_sub(with_workers),
                names.len() as u64,
            ),
            resident_bytes: resident_bytes(pid)?,
            quiet_cpu_share: quiet_cpu,
            us_per_decision: per(decision_us, decided.len() as u64),
            us_per_cold_start: per(cold_us, invoked.len() as u64),
        };
        Ok(Report {
            workers: self.scale.workers,
            functions: names.len(),
            fleet_ms,
            create,
            active_ms: active,
            reserve,
            decisions,
            cold_starts,
            catalog,
            leader,
            fleet_bytes_per_worker: per(resident_bytes(self.nodes.fleet_pid)?, self.scale.workers),
            gateway_bytes: resident_bytes(self.nodes.gateway_pid)?,
        })
    }

    /// Creates all functions.
    async fn create(&self, names: &[FunctionName]) -> anyhow::Result<Rate> {
        say(&format!("creating {} functions", names.len()));
        let code = self.controllers.put(package()?).await?;
        let create = |name| self.controllers.create(name, &code);
        self.operations(names.iter().map(create).collect()).await
    }

    /// Pid of the leader.
    async fn leader(&self) -> anyhow::Result<u32> {
        let status = self.controllers.cluster(0).await?;
        let id = status.leader.context("no leader")?;
        let (pid, _) = self
            .nodes
            .controllers
            .get(&id)
            .context("a strange leader")?;
        Ok(*pid)
    }

    async fn all_workers(&self) -> anyhow::Result<()> {
        until("all workers are in session", async || {
            let status = self.controllers.cluster(0).await?;
            let alive = status
                .nodes
                .iter()
                .filter(|n| n.role == "worker" && n.alive);
            Ok(alive.count() as u64 == self.scale.workers)
        })
        .await
    }

    /// The gateway has a stream to every worker.
    async fn gateway_is_ready(&mut self) -> anyhow::Result<()> {
        let wanted = self.scale.workers.to_string();
        until("the gateway hears all workers", async || {
            self.nodes.all_run()?;
            let metrics = self.nodes.gateway_metrics().await.unwrap_or_default();
            let streams = metrics.lines().find_map(|line| {
                let (name, value) = line.split_once(' ')?;
                name.ends_with("worker_streams").then_some(value)
            });
            Ok(streams == Some(wanted.as_str()))
        })
        .await
    }

    /// Share of one core that the leader needs to hear its workers.
    #[expect(clippy::cast_precision_loss, reason = "a share for reading")]
    async fn quiet(&self, pid: u32) -> anyhow::Result<f64> {
        let (before, begin) = (cpu::micros(pid)?, now_ms());
        tokio::time::sleep(QUIET).await;
        let used = cpu::micros(pid)? - before;
        Ok(used as f64 / ((now_ms() - begin) * 1_000) as f64)
    }

    /// Milliseconds until every function can be invoked.
    async fn all_active(&self, names: &[FunctionName]) -> anyhow::Result<u64> {
        let begin = now_ms();
        let last = names.last().context("no function")?;
        until("all functions are active", async || {
            let mut after = None;
            loop {
                let list = ControlRequest::ListFunctions {
                    account: self.controllers.account.clone(),
                    after: after.take(),
                    limit: 1_000,
                };
                let ControlReply::Functions { functions, more } =
                    self.controllers.execute(1, &list).await?
                else {
                    bail!("a list that is none");
                };
                if functions.iter().any(|f| f.state != State::Active) {
                    return Ok(false);
                }
                after = functions.last().map(|f| f.name.clone());
                if !more {
                    return Ok(after.as_ref() == Some(last));
                }
            }
        })
        .await?;
        Ok(now_ms() - begin)
    }

    async fn operations(&self, requests: Vec<ControlRequest>) -> anyhow::Result<Rate> {
        let controllers = &self.controllers;
        at_once(requests, |turn, request| async move {
            controllers.execute(turn, &request).await.map(drop)
        })
        .await
    }

    async fn decisions(&self, names: &[FunctionName]) -> anyhow::Result<Rate> {
        let controllers = &self.controllers;
        at_once(names.to_vec(), |turn, name| async move {
            controllers.need(turn, &name).await
        })
        .await
    }

    /// Each function once, over keep-alive connections.
    async fn cold_starts(&self, names: &[FunctionName]) -> anyhow::Result<Rate> {
        let ready = &self.nodes.ready;
        let connections: Vec<_> = (0..CONCURRENCY)
            .map(|_| tokio::sync::Mutex::new(None))
            .collect();
        let connections = &connections;
        at_once(names.to_vec(), |turn, name| async move {
            let path = format!("/2015-03-31/functions/{name}/invocations");
            let request = signed(ready, "POST", &path, b"{}")?;
            let mut place = connections[turn % CONCURRENCY].lock().await;
            if place.is_none() {
                *place = Some(Connection::open(&ready.endpoint).await?);
            }
            let connection = place.as_mut().context("opened above")?;
            let answer = connection.send(&request).await?;
            ensure!(
                answer.status == 200,
                "{name}: {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
            Ok(())
        })
        .await
    }

    /// How long a change takes to its acknowledgement and to every watcher.
    async fn catalog(&self, name: &FunctionName) -> anyhow::Result<Catalog> {
        let (seen, mut arrivals) = mpsc::channel(WATCHERS * CHANGES);
        let ready = Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for turn in 0..WATCHERS {
            let stream = self.controllers.watch(turn).await?;
            tasks.spawn(watch(
                stream,
                name.to_string(),
                Arc::clone(&ready),
                seen.clone(),
            ));
        }
        until("the watchers have the full picture", async || {
            Ok(ready.load(Ordering::SeqCst) == WATCHERS)
        })
        .await?;
        let (mut acknowledged, mut everywhere) = (Vec::new(), Vec::new());
        for change in 0..CHANGES {
            let value = format!("change-{change}");
            let tag = ControlRequest::TagFunction {
                account: self.controllers.account.clone(),
                name: name.clone(),
                set: BTreeMap::from([("bench".to_owned(), value.clone())]),
                remove: Vec::new(),
            };
            let begin = now();
            self.controllers.execute(change, &tag).await?;
            acknowledged.push(micros(begin));
            let mut left = WATCHERS;
            while left > 0 {
                let value_seen = tokio::time::timeout(Duration::from_secs(30), arrivals.recv())
                    .await
                    .context("a change that does not arrive")?;
                left -= usize::from(value_seen.as_deref() == Some(value.as_str()));
            }
            everywhere.push(micros(begin));
        }
        tasks.shutdown().await;
        Ok(Catalog::of(acknowledged, everywhere))
    }
}

/// Says when the full picture is there and, from then on, each new tag of the function.
async fn watch(
    mut stream: tonic::Streaming<hearth_proto::internal::v1::CatalogUpdate>,
    name: String,
    ready: Arc<AtomicUsize>,
    seen: mpsc::Sender<String>,
) -> anyhow::Result<()> {
    let mut is_complete = false;
    while let Some(update) = stream.message().await.context("the catalog's stream")? {
        for function in &update.functions {
            let function: hearth_core::function::Function =
                serde_json::from_slice(function).context("reading a function")?;
            if let Some(value) = function.tags.get("bench")
                && function.name.as_str() == name
            {
                seen.send(value.clone())
                    .await
                    .context("the bench is gone")?;
            }
        }
        if update.complete && !is_complete {
            is_complete = true;
            ready.fetch_add(1, Ordering::SeqCst);
        }
    }
    Ok(())
}

fn per(total: u64, count: u64) -> u64 {
    total / count.max(1)
}

/// Runs all, so many at a time; the first failure ends it.
async fn at_once<T, F>(items: Vec<T>, work: impl Fn(usize, T) -> F) -> anyhow::Result<Rate>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let begin = now();
    let (total, mut done) = (items.len(), 0);
    let results: Vec<anyhow::Result<u64>> = futures::stream::iter(items.into_iter().enumerate())
        .map(|(turn, item)| {
            let running = work(turn, item);
            async move {
                let begin = now();
                running.await?;
                Ok(micros(begin))
            }
        })
        .buffer_unordered(CONCURRENCY)
        .inspect(|_| {
            done += 1;
            if done % total.div_ceil(PROGRESS) == 0 {
                let seconds = begin.elapsed().as_secs_f64();
                say(&format!("  {done} of {total} in {seconds:.1} s"));
            }
        })
        .collect()
        .await;
    let took = begin.elapsed();
    let latencies = results.into_iter().collect::<anyhow::Result<Vec<u64>>>()?;
    Ok(Rate::of(latencies, took))
}

fn names(count: usize) -> anyhow::Result<Vec<FunctionName>> {
    (0..count)
        .map(|n| format!("f{n:06}").parse().context("naming a function"))
        .collect()
}

fn package() -> anyhow::Result<Vec<u8>> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().unix_permissions(0o755);
    archive
        .start_file("bootstrap", options)
        .context("writing an archive")?;
    archive
        .write_all(b"played by the driver")
        .context("writing an archive")?;
    Ok(archive.finish().context("writing an archive")?.into_inner())
}

fn say(what: &str) {
    eprintln!("control plane: {what}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures with microseconds, which the clock seam does not give"
)]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

fn micros(begin: std::time::Instant) -> u64 {
    u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn now_ms() -> u64 {
    Seams::system().clock.monotonic_ms()
}

async fn until(
    what: &str,
    mut condition: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let begin = now_ms();
    while !condition().await? {
        if now_ms() - begin > PATIENCE_MS {
            bail!("not in time: {what}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
