//! Event (asynchronous) invocations. A client's event is in the event log when it is answered 202; any gateway leases it from
//! there and runs it on the one invoke path, again and again by the rules of `hearth_core::events`, and tells whom the function
//! names of its end.
//!
//! - `log`: the event log as gateways see it, and the controllers' one;
//! - `accept`: into the log;
//! - `dispatch`: leases, and how many attempts run at a time;
//! - `attempt`: one event, one attempt;
//! - `settle`: what became of attempts, in batches, and longer leases for those that take long;
//! - `tell`: destinations and dead-letter queues.

mod accept;
mod attempt;
mod dispatch;
mod log;
mod settle;
mod tell;

use std::sync::Arc;
use std::time::Duration;

use hearth_services::Services;

pub(crate) use accept::accept;
pub(crate) use dispatch::run;
pub(crate) use log::{ControllerLog, EventLog};

/// How long an event is given to a dispatcher at a time. One whose dispatcher is lost is run again after that.
const LEASE: Duration = Duration::from_secs(30);

/// What the parts share.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) log: Arc<dyn EventLog>,
    /// Where destinations are.
    pub(crate) services: Services,
}
