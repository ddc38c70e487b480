//! Ten times what a cluster can do, for a minute, beside what it can do in the same run: how much of it goes on, and how
//! soon all is well again.

use std::time::Duration;

use anyhow::Context as _;
use hearth_tests::cluster::{Running, TestCluster, repository};
use hearth_tests::http::signed;
use serde::Serialize;

use super::functions::{Kind, deploy, invoke_path};
use super::load;
use super::open::{Outcome, Sent, drive};
use super::report::write_json;

/// Sandboxes there is memory for; with one function of 128 MB their number is the capacity.
const SANDBOXES: usize = 16;
const MEMORY_MIB: u32 = 128;
const FACTOR: f64 = 10.0;
const BURST: Duration = Duration::from_secs(60);
/// After the burst: so much of the capacity is asked for.
const AFTER_SHARE: f64 = 0.8;
const AFTER: Duration = Duration::from_secs(10);
/// A client hangs up after this long; only answers before count.
const DEADLINE: Duration = Duration::from_secs(2);
/// What is well again: nothing but good answers, none of them slower than this.
const WELL_MS: u128 = 400;

/// Everything one run measured.
#[derive(Clone, Debug, Serialize)]
struct Overload {
    sandboxes: usize,
    capacity_rps: f64,
    capacity_p50_ms: f64,
    offered_rps: f64,
    burst_s: u64,
    goodput_rps: f64,
    /// Goodput of each second of the burst.
    seconds: Vec<usize>,
    throttled: usize,
    failed: usize,
    late: usize,
    not_sent: usize,
    good_p50_ms: f64,
    good_p99_ms: f64,
    throttle_p50_ms: f64,
    throttle_p99_ms: f64,
    recovered_ms: Option<u128>,
    after_good: usize,
    after_all: usize,
}

pub(crate) async fn bench() -> anyhow::Result<()> {
    let dir = tempfile::tempdir().context("making a directory")?;
    let memory = (SANDBOXES * MEMORY_MIB as usize).to_string();
    let cluster = TestCluster::new(dir.path(), 1, 1, 2)
        .with(&["--memory-mib", &memory])
        .start()
        .await?;
    let report = measure(&cluster).await?;
    drop(cluster);
    println!("{}", table(&report));
    write_json(&report, &repository().join("target/bench"), "overload.json")
}

async fn measure(cluster: &Running) -> anyhow::Result<Overload> {
    deploy(&cluster.ready, "over", Kind::Sleeper, MEMORY_MIB, &[]).await?;
    let request = signed(&cluster.ready, "POST", &invoke_path("over"), b"{}")?;
    let addr = &cluster.ready.endpoint;
    eprintln!("capacity: {SANDBOXES} connections");
    // All sandboxes are made before it counts.
    load::drive(addr, &request, SANDBOXES, Duration::from_secs(6)).await?;
    let capacity = load::drive(addr, &request, SANDBOXES, Duration::from_secs(10)).await?;
    let offered = capacity.rps * FACTOR;
    eprintln!("burst: {offered:.0} requests a second");
    let after = async {
        // When the last of the burst leaves, not when its last client was answered or hung up: what still waits then is part of
        // what there is to recover from.
        tokio::time::sleep(BURST).await;
        let request = signed(&cluster.ready, "POST", &invoke_path("over"), b"{}")?;
        drive(addr, &request, capacity.rps * AFTER_SHARE, AFTER, DEADLINE).await
    };
    let burst = drive(addr, &request, offered, BURST, DEADLINE);
    let (burst, after) = tokio::try_join!(burst, after)?;
    let count = |of: Outcome| burst.iter().filter(|sent| sent.outcome == of).count();
    let good = sorted(&burst, Outcome::Good);
    let throttled = sorted(&burst, Outcome::Throttled);
    Ok(Overload {
        sandboxes: SANDBOXES,
        capacity_rps: capacity.rps,
        capacity_p50_ms: ms(Duration::from_micros(capacity.p50_us)),
        offered_rps: offered,
        burst_s: BURST.as_secs(),
        goodput_rps: rate(good.len(), BURST),
        seconds: by_second(&burst),
        throttled: throttled.len(),
        failed: count(Outcome::Failed),
        late: count(Outcome::Late),
        not_sent: count(Outcome::NotSent),
        good_p50_ms: at(&good, 500),
        good_p99_ms: at(&good, 990),
        throttle_p50_ms: at(&throttled, 500),
        throttle_p99_ms: at(&throttled, 990),
        recovered_ms: recovered(&after),
        after_good: after.iter().filter(|s| s.outcome == Outcome::Good).count(),
        after_all: after.len(),
    })
}

/// When the answer came is what counts for goodput.
fn by_second(sent: &[Sent]) -> Vec<usize> {
    let mut seconds = vec![0; usize::try_from(BURST.as_secs()).unwrap_or(0)];
    for sent in sent.iter().filter(|s| s.outcome == Outcome::Good) {
        let second = usize::try_from((sent.at + sent.took).as_secs()).unwrap_or(usize::MAX);
        if let Some(count) = seconds.get_mut(second) {
            *count += 1;
        }
    }
    seconds
}

/// Milliseconds after which every request was answered well; none if the last was not.
fn recovered(after: &[Sent]) -> Option<u128> {
    let is_well = |s: &Sent| s.outcome == Outcome::Good && s.took.as_millis() <= WELL_MS;
    match after.iter().rposition(|sent| !is_well(sent)) {
        None => Some(0),
        Some(last) => after.get(last + 1).map(|sent| sent.at.as_millis()),
    }
}

fn sorted(sent: &[Sent], outcome: Outcome) -> Vec<Duration> {
    let of = sent.iter().filter(|sent| sent.outcome == outcome);
    let mut took: Vec<Duration> = of.map(|sent| sent.took).collect();
    took.sort_unstable();
    took
}

fn at(took: &[Duration], per_mille: usize) -> f64 {
    let index = took.len().saturating_sub(1) * per_mille / 1_000;
    took.get(index).copied().map_or(0.0, ms)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "a rate for reading")]
fn rate(count: usize, span: Duration) -> f64 {
    count as f64 / span.as_secs_f64()
}

fn table(report: &Overload) -> String {
    let share = 100.0 * report.goodput_rps / report.capacity_rps;
    let worst = report.seconds.iter().skip(1).min().copied().unwrap_or(0);
    let recovered = report.recovered_ms.map_or_else(
        || format!("not within {} s", AFTER.as_secs()),
        |ms| format!("{ms} ms"),
    );
    format!(
        "\nOverload: {} sandboxes of a function that takes {} ms; clients hang up after {} s\n\
         capacity   {:>8.1} rps   p50 {:.1} ms (closed loop)\n\
         offered    {:>8.1} rps   for {} s (open loop)\n\
         goodput    {:>8.1} rps   {share:.1} % of capacity; worst second {worst}; p50 {:.1} ms, p99 {:.1} ms\n\
         429        {:>8}       p50 {:.1} ms, p99 {:.1} ms\n\
         failed {}, hung up {}, not sent {}\n\
         recovered  {recovered} after the burst; {} of {} well answered at {:.0} % of capacity",
        report.sandboxes,
        super::functions::SLEEP_MS,
        DEADLINE.as_secs(),
        report.capacity_rps,
        report.capacity_p50_ms,
        report.offered_rps,
        report.burst_s,
        report.goodput_rps,
        report.good_p50_ms,
        report.good_p99_ms,
        report.throttled,
        report.throttle_p50_ms,
        report.throttle_p99_ms,
        report.failed,
        report.late,
        report.not_sent,
        report.after_good,
        report.after_all,
        AFTER_SHARE * 100.0,
    )
}
