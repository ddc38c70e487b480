//! When blobs that nothing names are deleted. Which ones is `blobs::gc`'s.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use hearth_node::clock::SharedClock;
use tokio_util::sync::CancellationToken;

use crate::api::backup::Running;
use crate::blobs::{BlobError, BlobStore, Digest, gc};
use crate::machine::ReplicatedState;
use crate::metrics::ControllerMetrics;
use crate::raft::Consensus;

/// A collection of one store.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) consensus: Consensus<ReplicatedState>,
    pub(crate) clock: SharedClock,
    pub(crate) metrics: Arc<ControllerMetrics>,
    /// This controller's own copies, or the store all share.
    pub(crate) store: Arc<dyn BlobStore>,
    /// A store that all share is collected by the leader alone.
    pub(crate) is_shared: bool,
    /// A backup needs what was named when it began.
    pub(crate) backups: Running,
    pub(crate) grace: Duration,
    pub(crate) every: Duration,
}

impl Collector {
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.every) => {}
            }
            if self.is_shared && !self.consensus.leadership().is_leader {
                continue;
            }
            let collected = tokio::select! {
                () = stop.cancelled() => return,
                collected = self.collect() => collected,
            };
            match collected {
                Ok(deleted) => {
                    self.metrics.blobs_deleted.inc_by(deleted as u64);
                }
                Err(error) => tracing::warn!(%error, "blobs were not collected"),
            }
        }
    }

    async fn collect(&self) -> Result<usize, BlobError> {
        let now = UNIX_EPOCH + Duration::from_millis(self.clock.unix_ms());
        let referenced = async || {
            // Without the barrier a blob could be deleted whose function this node has not heard of.
            self.consensus
                .read_index()
                .await
                .map_err(|error| BlobError::Store {
                    action: "collect",
                    source: error.into(),
                })?;
            let digests = self.consensus.read(|m| m.state().digests());
            // After the read: a backup that begins later has read a state at least as new.
            if self.backups.holds_blobs(self.clock.monotonic_ms()) {
                return Err(BlobError::Store {
                    action: "collect",
                    source: "a backup is being taken".into(),
                });
            }
            let digests: BTreeSet<Digest> = digests
                .into_iter()
                .map(|digest| Digest::from_bytes(digest.0))
                .collect();
            Ok(digests)
        };
        let collected = gc::collect(&*self.store, referenced, now, self.grace).await?;
        Ok(collected.deleted.len())
    }
}
