//! What this gateway counts. Labels have few values: never a function's or a user's name.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// Labels of a finished request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    /// The operation's name, or `unknown`.
    pub(crate) operation: &'static str,
    /// HTTP status.
    pub(crate) status: u16,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) requests: Family<RequestLabels, Counter>,
    pub(crate) request_seconds: Histogram,
    queue_seconds: Histogram,
    invoke_seconds: Histogram,
    pub(crate) shed: Counter,
    pub(crate) in_flight: Gauge,
    pub(crate) starts_asked: Counter,
    pub(crate) worker_streams: Gauge,
    pub(crate) ejected: Gauge,
    pub(crate) recalled: Counter,
    pub(crate) waiting: Gauge,
    pub(crate) lines: Gauge,
    pub(crate) functions: Gauge,
    pub(crate) events_accepted: Counter,
    pub(crate) event_attempts: Counter,
    pub(crate) destination_failures: Counter,
}

impl Metrics {
    pub(crate) fn register(metrics: &hearth_node::metrics::Metrics) -> Self {
        Self {
            requests: metrics
                .register_counters("gateway_requests", "Requests by operation and status"),
            request_seconds: metrics
                .register_seconds("gateway_request", "Time from head to answer"),
            queue_seconds: metrics.register_seconds(
                "gateway_queue",
                "Time invocations waited for a sandbox, of those that waited",
            ),
            invoke_seconds: metrics.register_seconds(
                "gateway_invoke",
                "Time on the invoke path, the function's own included",
            ),
            events_accepted: metrics.register_counter(
                "gateway_events_accepted",
                "Event invocations that the event log has taken",
            ),
            event_attempts: metrics.register_counter(
                "gateway_event_attempts",
                "Runs of functions for event invocations",
            ),
            destination_failures: metrics.register_counter(
                "gateway_destination_failures",
                "Ends of events that a destination or dead-letter queue could not be told",
            ),
            shed: metrics.register_counter(
                "gateway_shed",
                "Requests refused because too many were in flight",
            ),
            in_flight: metrics.register_gauge("gateway_in_flight", "Requests in flight"),
            starts_asked: metrics.register_counter("gateway_starts_asked", "Sandboxes asked for"),
            worker_streams: metrics.register_gauge("gateway_worker_streams", "Workers connected"),
            ejected: metrics.register_gauge(
                "gateway_workers_ejected",
                "Workers that are sent nothing because they do not keep up",
            ),
            recalled: metrics.register_counter(
                "gateway_recalled",
                "Invocations taken back from workers that had not begun them",
            ),
            waiting: metrics.register_gauge("gateway_waiting", "Invocations waiting for a sandbox"),
            lines: metrics.register_gauge("gateway_lines", "Function versions with a waiting line"),
            functions: metrics.register_gauge("gateway_functions", "Functions in the catalog"),
        }
    }

    /// An invocation took so long on the invoke path.
    pub(crate) fn invoked_ms(&self, ms: u64) {
        self.invoke_seconds.observe(seconds(ms));
    }

    /// An invocation got its sandbox, or gave up, after so long.
    pub(crate) fn queued_ms(&self, ms: u64) {
        self.queue_seconds.observe(seconds(ms));
    }
}

/// Milliseconds as seconds.
pub(crate) fn seconds(ms: u64) -> f64 {
    std::time::Duration::from_millis(ms).as_secs_f64()
}
