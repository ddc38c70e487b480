//! What the worker counts. How it is shown is `hearth_node::metrics`.

use hearth_node::metrics::Metrics;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// How an invocation ended, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Ended {
    Success,
    FunctionError,
    Timeout,
    Exit,
    InitError,
    Refused,
}

/// What a sandbox was made from, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Start {
    Stem,
    Empty,
    Nothing,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StartLabel {
    from: Start,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct EndedLabel {
    outcome: Ended,
}

/// All metrics of a worker.
#[derive(Debug, Clone)]
pub(crate) struct WorkerMetrics {
    pub(crate) cold_starts: Counter,
    pub(crate) init: Histogram,
    pub(crate) code_fetch: Histogram,
    pub(crate) sandbox_start: Histogram,
    pub(crate) invoke: Histogram,
    pub(crate) extensions: Histogram,
    pub(crate) in_flight: Gauge,
    pub(crate) sandboxes: Gauge,
    pub(crate) cache_bytes: Gauge,
    pub(crate) cache_hits: Counter,
    pub(crate) cache_misses: Counter,
    invocations: Family<EndedLabel, Counter>,
    starts: Family<StartLabel, Counter>,
}

impl WorkerMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            cold_starts: metrics.register_counter("cold_starts", "Sandboxes started"),
            init: metrics.register_seconds(
                "init_duration",
                "Init phase, from exec to the first GET /next",
            ),
            code_fetch: metrics
                .register_seconds("code_fetch", "Fetch and unpacking of a deployment package"),
            sandbox_start: metrics
                .register_seconds("sandbox_start", "Making of a sandbox by the driver"),
            invoke: metrics.register_seconds("invoke_duration", "Time the function had the event"),
            extensions: metrics.register_seconds(
                "post_runtime_extensions_duration",
                "Time extensions went on for after the runtime was done",
            ),
            in_flight: metrics
                .register_gauge("invocations_in_flight", "Invocations that hold a permit"),
            sandboxes: metrics.register_gauge("sandboxes", "Sandboxes of all states"),
            cache_bytes: metrics.register_gauge("code_cache_bytes", "Unpacked code in the cache"),
            cache_hits: metrics.register_counter("code_cache_hits", "Code found in the cache"),
            cache_misses: metrics
                .register_counter("code_cache_misses", "Code that had to be fetched"),
            invocations: metrics.register_counters("invocations", "Invocations by how they ended"),
            starts: metrics.register_counters(
                "sandbox_starts",
                "Sandboxes by what they were made from: a stem, an empty prepared one, nothing",
            ),
        }
    }

    pub(crate) fn started_from(&self, from: Start) {
        self.starts.get_or_create(&StartLabel { from }).inc();
    }

    pub(crate) fn ended(&self, outcome: Ended) {
        self.invocations
            .get_or_create(&EndedLabel { outcome })
            .inc();
    }
}

/// Microseconds as the seconds that metrics are in.
pub(crate) fn seconds(us: u64) -> f64 {
    std::time::Duration::from_micros(us).as_secs_f64()
}
