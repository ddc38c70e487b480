//! What all handlers of a gateway share. Made once at start; nothing in it is durable.

use std::sync::Arc;

use hearth_core::ids::MonotonicMs;
use hearth_node::Seams;
use hearth_registry::Registry;

use crate::auth::Authenticator;
use crate::blobs::Blobs;
use crate::budget::Budget;
use crate::catalog::{Catalog, Lookups};
use crate::controllers::Controllers;
use crate::drain::Drain;
use crate::events::Events;
use crate::iam::Iam;
use crate::invoke::Invoker;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::options::Options;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) options: Options,
    pub(crate) seams: Seams,
    pub(crate) auth: Authenticator,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) lookups: Lookups,
    pub(crate) iam: Arc<Iam>,
    pub(crate) controllers: Arc<Controllers>,
    pub(crate) blobs: Blobs,
    pub(crate) links: Links,
    pub(crate) events: Events,
    pub(crate) registry: Registry,
    pub(crate) invoker: Arc<Invoker>,
    pub(crate) metrics: Metrics,
    pub(crate) drain: Drain,
    /// Requests in flight.
    pub(crate) requests: Arc<Budget>,
    /// Bytes of bodies held.
    pub(crate) body_memory: Arc<Budget>,
}

impl App {
    /// Monotonic time.
    pub(crate) fn now(&self) -> MonotonicMs {
        MonotonicMs(self.seams.clock.monotonic_ms())
    }

    /// Wall clock.
    pub(crate) fn unix_ms(&self) -> u64 {
        self.seams.clock.unix_ms()
    }
}
