//! Numbers of a controller. What they are read from is elsewhere.

use hearth_node::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// Registered once a node.
#[derive(Debug)]
pub(crate) struct ControllerMetrics {
    pub(crate) term: Gauge,
    pub(crate) is_leader: Gauge,
    pub(crate) applied: Gauge,
    pub(crate) proposals: Counter,
    pub(crate) grants: Counter,
    pub(crate) needs: Counter,
    pub(crate) throttled: Counter,
    pub(crate) workers: Gauge,
    pub(crate) catalog_readers: Gauge,
    pub(crate) catalog_restarts: Counter,
    pub(crate) blobs_deleted: Counter,
}

impl ControllerMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let counter = |name, help| metrics.register_counter(name, help);
        let gauge = |name, help| metrics.register_gauge(name, help);
        Self {
            term: gauge("raft_term", "Raft term"),
            is_leader: gauge("raft_is_leader", "1 while this controller leads"),
            applied: gauge("raft_applied_index", "Newest log index in the state"),
            proposals: counter("proposals", "Commands proposed by this controller"),
            grants: counter("grants", "Changes of grants committed while leading"),
            needs: counter("capacity_needs", "Questions of gateways for capacity"),
            throttled: counter("capacity_at_limit", "Questions answered with the limit"),
            workers: gauge("workers_in_session", "Workers in session with this leader"),
            catalog_readers: gauge("catalog_readers", "Open watches of the catalog"),
            catalog_restarts: counter(
                "catalog_restarts",
                "Full pictures sent again to readers that were too slow",
            ),
            blobs_deleted: counter("blobs_deleted", "Blobs deleted because nothing named them"),
        }
    }
}
