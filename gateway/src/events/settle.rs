//! What became of attempts goes to the log in batches: while one is on its way, the next gathers. And attempts that take long
//! get longer leases.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_core::events::{LeaseId, Settlement};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::LEASE;
use super::log::EventLog;

/// Settlements of one request.
const BATCH: usize = 256;
/// Leases that were begun so long before they end are renewed.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// Tries to settle a batch. Each takes as long as the log's deadline; what is not settled by then is run again when its lease is
/// over.
const TRIES: u32 = 6;

/// Leases whose attempts run, by request id.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<HashMap<String, u64>>);

impl Running {
    fn leases(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its lease is renewed until it is settled, or what is returned is dropped before.
    pub(super) fn begin(self: &Arc<Self>, lease: LeaseId) -> Attempting {
        self.leases().insert(lease.request_id.clone(), lease.epoch);
        Attempting {
            running: Arc::clone(self),
            lease: Some(lease),
        }
    }

    fn end(&self, lease: &LeaseId) {
        let mut leases = self.leases();
        // A later lease of the same event may have come here by now.
        if leases.get(&lease.request_id) == Some(&lease.epoch) {
            leases.remove(&lease.request_id);
        }
    }

    fn all(&self) -> Vec<LeaseId> {
        let leases = self.leases();
        let lease = |(request_id, epoch): (&String, &u64)| LeaseId {
            request_id: request_id.clone(),
            epoch: *epoch,
        };
        leases.iter().map(lease).collect()
    }
}

/// An attempt under way. One that ends without a settlement, as its task was ended, is nobody's any more.
#[derive(Debug)]
pub(super) struct Attempting {
    running: Arc<Running>,
    lease: Option<LeaseId>,
}

impl Attempting {
    /// Its settlement is on its way.
    pub(super) fn decided(mut self) {
        self.lease = None;
    }
}

impl Drop for Attempting {
    fn drop(&mut self) {
        if let Some(lease) = &self.lease {
            self.running.end(lease);
        }
    }
}

/// Settles until all senders are gone.
pub(super) async fn run(
    log: Arc<dyn EventLog>,
    running: Arc<Running>,
    mut queue: mpsc::Receiver<Settlement>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        for attempt in 1..=TRIES {
            match log.settle(&batch).await {
                Ok(()) => break,
                Err(error) if attempt == TRIES => {
                    warn!(%error, events = batch.len(), "events could not be settled and will be run again");
                }
                Err(error) => debug!(%error, events = batch.len(), "events are not settled yet"),
            }
        }
        for one in batch.drain(..) {
            running.end(&one.lease);
        }
    }
}

/// Renews until `stop`.
pub(super) async fn renew(log: Arc<dyn EventLog>, running: Arc<Running>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RENEW_EVERY) => {}
        }
        for leases in running.all().chunks(BATCH) {
            if let Err(error) = log.renew(leases, LEASE).await {
                warn!(%error, leases = leases.len(), "leases of events could not be renewed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_lease_of_the_same_event_stays() {
        let lease = |epoch| LeaseId {
            request_id: "r".to_owned(),
            epoch,
        };
        let running = Arc::new(Running::default());
        let (first, second) = (running.begin(lease(1)), running.begin(lease(2)));
        drop(first);
        assert_eq!(running.all(), [lease(2)]);
        second.decided();
        assert_eq!(running.all(), [lease(2)], "until it is settled");
        running.end(&lease(2));
        assert_eq!(running.all(), []);
    }
}
