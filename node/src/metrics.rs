//! One Prometheus registry per node (never a global, so that many nodes live in one process) and its rendering.
//!
//! Not here: the components' own metrics, which they register and keep.

use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, PoisonError};

use nix::unistd::{SysconfVar, sysconf};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

/// What a scrape answers with as its content type.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bounds in seconds, from a warm invoke's platform time to a function's limit of 15 minutes.
const SECONDS_BUCKETS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0,
    900.0,
];

/// A clonable handle to the node's registry.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// Every name starts with `hearth_`; the process metrics of /proc and `build_info` are there already.
    pub fn new(role: &'static str) -> Self {
        let mut registry = Registry::with_prefix("hearth");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION")), ("role", role)]);
        registry.register("build", "Version and role of this node", build);
        registry.register_collector(Box::new(ProcessCollector));
        Self {
            registry: Arc::new(Mutex::new(registry)),
        }
    }

    /// Registers any metric and gives it back. Names carry no `hearth_` and no `_total`.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.with_registry(|registry| registry.register(name, help, metric.clone()));
        metric
    }

    /// Registers a counter.
    pub fn register_counter(&self, name: &str, help: &str) -> Counter {
        self.register(name, help, Counter::default())
    }

    /// Registers a gauge.
    pub fn register_gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(name, help, Gauge::default())
    }

    /// Registers a histogram of durations in seconds; `_seconds` is appended to the name.
    pub fn register_seconds(&self, name: &str, help: &str) -> Histogram {
        let histogram = seconds_histogram();
        self.with_registry(|registry| {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        });
        histogram
    }

    /// Registers counters told apart by labels. Labels must have few values: never a function's or a user's name.
    pub fn register_counters<L>(&self, name: &str, help: &str) -> Family<L, Counter>
    where
        L: EncodeLabelSet + Clone + Eq + std::hash::Hash + Debug + Send + Sync + 'static,
    {
        self.register(name, help, Family::default())
    }

    /// Registers a collector asked at each scrape.
    pub fn register_collector(&self, collector: Box<dyn Collector>) {
        self.with_registry(|registry| registry.register_collector(collector));
    }

    fn with_registry(&self, change: impl FnOnce(&mut Registry)) {
        change(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// All metrics as OpenMetrics text.
    pub fn render(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)
            .expect("writing to a String does not fail");
        text
    }
}

/// A histogram with Hearth's bounds for durations, for families.
pub fn seconds_histogram() -> Histogram {
    Histogram::new(SECONDS_BUCKETS)
}

/// CPU, memory, descriptors and start time of this process, read from /proc at each scrape.
#[derive(Debug)]
struct ProcessCollector;

/// What /proc says; times in seconds, memory in bytes.
#[derive(Debug, Clone, PartialEq)]
struct ProcessSample {
    cpu_seconds: f64,
    resident_bytes: u64,
    open_fds: u64,
    start_time_seconds: f64,
}

impl ProcessSample {
    fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let system = std::fs::read_to_string("/proc/stat").ok()?;
        let open_fds = std::fs::read_dir("/proc/self/fd").ok()?.count();
        let ticks = sysconf(SysconfVar::CLK_TCK).ok()??;
        let page = sysconf(SysconfVar::PAGE_SIZE).ok()??;
        let open_fds = u64::try_from(open_fds).ok()?;
        Self::parse(&stat, &system, open_fds, ticks, page)
    }

    /// Fields counted as in proc_pid_stat(5): 14 utime, 15 stime, 22 starttime, 24 rss. The command's name (2)
    /// stands in parentheses and may hold anything, so counting starts after the last one.
    fn parse(stat: &str, system: &str, open_fds: u64, ticks: i64, page: i64) -> Option<Self> {
        let after_name: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| {
            after_name
                .get(number - 3)?
                .parse::<u32>()
                .ok()
                .map(f64::from)
        };
        // Start times are counted in ticks since boot and pass 32 bits after 500 days.
        let start_ticks: u64 = after_name.get(22 - 3)?.parse().ok()?;
        let resident_pages: u64 = after_name.get(24 - 3)?.parse().ok()?;
        let boot: u32 = system
            .lines()
            .find_map(|line| line.strip_prefix("btime "))?
            .trim()
            .parse()
            .ok()?;
        let ticks_per_second = u32::try_from(ticks).ok()?;
        let since_boot = std::time::Duration::from_millis(
            start_ticks.checked_mul(1000)? / u64::from(ticks_per_second),
        );
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / f64::from(ticks_per_second),
            resident_bytes: resident_pages.checked_mul(u64::try_from(page).ok()?)?,
            open_fds,
            start_time_seconds: f64::from(boot) + since_boot.as_secs_f64(),
        })
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        // A /proc that cannot be read leaves the process metrics out; the others are still served.
        let Some(sample) = ProcessSample::read() else {
            return Ok(());
        };
        let e = &mut encoder;
        let seconds = Some(&Unit::Seconds);
        let cpu = ConstCounter::new(sample.cpu_seconds);
        put(
            e,
            "process_cpu",
            "User and system time of this process",
            seconds,
            &cpu,
        )?;
        let memory = ConstGauge::new(sample.resident_bytes);
        let bytes = Some(&Unit::Bytes);
        put(
            e,
            "process_resident_memory",
            "Resident memory of this process",
            bytes,
            &memory,
        )?;
        let fds = ConstGauge::new(sample.open_fds);
        put(
            e,
            "process_open_fds",
            "Open file descriptors of this process",
            None,
            &fds,
        )?;
        let start = ConstGauge::new(sample.start_time_seconds);
        put(
            e,
            "process_start_time",
            "Start of this process since 1970",
            seconds,
            &start,
        )
    }
}

fn put(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_holds_build_process_and_registered_metrics() {
        let metrics = Metrics::new("worker");
        metrics
            .register_counter("invocations", "Invocations")
            .inc_by(3);
        metrics.register_gauge("sandboxes", "Sandboxes").set(2);
        metrics.register_seconds("invoke", "Time").observe(0.002);
        let text = metrics.render();
        for line in [
            "hearth_build_info{version=\"0.1.0\",role=\"worker\"} 1",
            "hearth_invocations_total 3",
            "hearth_sandboxes 2",
            "hearth_invoke_seconds_count 1",
            "hearth_process_cpu_seconds_total ",
            "hearth_process_resident_memory_bytes ",
            "hearth_process_open_fds ",
            "hearth_process_start_time_seconds ",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn proc_is_read_by_field_number_whatever_the_name_of_the_command() {
        let stat = "7 (a) b (c) S 1 1 1 0 -1 0 0 0 0 0 250 50 0 0 20 0 9 0 1000 4096 10 0";
        let sample = ProcessSample::parse(stat, "cpu 1\nbtime 1700000000\n", 5, 100, 4096).unwrap();
        assert_eq!(
            sample,
            ProcessSample {
                cpu_seconds: 3.0,
                resident_bytes: 40_960,
                open_fds: 5,
                start_time_seconds: 1_700_000_010.0,
            }
        );
        assert_eq!(ProcessSample::parse("garbage", "", 0, 100, 4096), None);
    }

    #[test]
    fn two_nodes_of_a_process_do_not_share_metrics() {
        let (a, b) = (Metrics::new("worker"), Metrics::new("gateway"));
        a.register_counter("mine", "").inc();
        assert!(!b.render().contains("mine"));
    }
}
