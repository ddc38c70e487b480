//! Backups for operators: the state after a read barrier, then the blobs it names, as one stream. While it flows, no blob is
//! collected here.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt, stream};
use hearth_node::clock::SharedClock;
use hearth_proto::internal::v1 as pb;
use pb::backup_part::Part;
use pb::backups_server::Backups;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::control::unavailable;
use crate::backup::{self, Taken};
use crate::blobs::{BlobStore, Digest};
use crate::machine::ReplicatedState;
use crate::raft::{Consensus, Machine as _};

/// A backup that has read nothing for so long is given up, as far as the collection of blobs is concerned.
const STALLED_MS: u64 = 600_000;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct BackupService {
    pub(crate) cluster_id: String,
    pub(crate) consensus: Consensus<ReplicatedState>,
    pub(crate) clock: SharedClock,
    pub(crate) store: Arc<dyn BlobStore>,
    /// All controllers share the store, and the leader alone collects it: only there can blobs be held.
    pub(crate) is_shared: bool,
    pub(crate) running: Running,
    pub(crate) stop: CancellationToken,
}

/// The backup that is running, of which there is at most one. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running {
    /// When it was last seen to move.
    moved_ms: Arc<Mutex<Option<u64>>>,
}

impl Running {
    /// Whether a backup needs the blobs that were named when it began.
    pub(crate) fn holds_blobs(&self, now_ms: u64) -> bool {
        self.moved()
            .is_some_and(|moved| now_ms.saturating_sub(moved) < STALLED_MS)
    }

    fn moved(&self) -> std::sync::MutexGuard<'_, Option<u64>> {
        self.moved_ms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one; none if one is running.
    fn begin(&self, clock: SharedClock) -> Option<Hold> {
        if self.holds_blobs(clock.monotonic_ms()) {
            return None;
        }
        let hold = Hold {
            running: self.clone(),
            clock,
        };
        hold.moves();
        Some(hold)
    }
}

/// Held by the stream of a backup.
struct Hold {
    running: Running,
    clock: SharedClock,
}

impl Hold {
    fn moves(&self) {
        *self.running.moved() = Some(self.clock.monotonic_ms());
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        *self.running.moved() = None;
    }
}

#[tonic::async_trait]
impl Backups for BackupService {
    type TakeStream = Pin<Box<dyn Stream<Item = Result<pb::BackupPart, Status>> + Send>>;

    async fn take(
        &self,
        _request: Request<pb::TakeBackupRequest>,
    ) -> Result<Response<Self::TakeStream>, Status> {
        if self.is_shared && !self.consensus.leadership().is_leader {
            return Err(Status::unavailable(
                "with a shared blob store, a backup is taken from the leader",
            ));
        }
        // Before the state is read: what it names must not be collected from then on.
        let hold = self.running.begin(self.clock.clone());
        let hold =
            hold.ok_or_else(|| Status::resource_exhausted("another backup is being taken here"))?;
        let barrier = self.consensus.read_index().await;
        barrier.map_err(|error| unavailable(error.to_string()))?;
        let taken = self.taken();
        let head = pb::BackupHead {
            bytes: 0,
            blobs: taken.blobs.len() as u64,
            functions: taken.functions,
            applied_index: taken.applied_index,
        };
        let (bytes, pieces) = backup::file(taken, Arc::clone(&self.store));
        let head = pb::BackupHead { bytes, ..head };
        let data = pieces.map(move |piece| {
            hold.moves();
            piece.map(Part::Data).map_err(|error| {
                tracing::warn!(%error, "a backup was given up");
                unavailable(chain(&error))
            })
        });
        let parts = stream::iter([Ok(Part::Head(head))]).chain(data);
        let parts = parts
            .map(|part| part.map(|part| pb::BackupPart { part: Some(part) }))
            .take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(parts.boxed()))
    }
}

impl BackupService {
    fn taken(&self) -> Taken {
        let term = self.consensus.leadership().term;
        self.consensus.read(|machine| {
            let functions = &machine.state().functions;
            let blobs = machine.state().blobs().into_iter();
            Taken {
                cluster_id: self.cluster_id.clone(),
                region: machine.state().region.clone(),
                applied_index: machine.applied(),
                term,
                taken_at_ms: self.clock.unix_ms(),
                written_by: env!("CARGO_PKG_VERSION").to_owned(),
                functions: functions.iter().count() as u64,
                metadata: machine.snapshot().into(),
                blobs: blobs
                    .map(|(d, bytes)| (Digest::from_bytes(d.0), bytes))
                    .collect(),
            }
        })
    }
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use hearth_node::clock::{Clock, ManualClock};

    use super::*;

    #[test]
    fn one_backup_at_a_time_holds_blobs_until_it_ends_or_stalls() {
        let clock = Arc::new(ManualClock::new(0));
        let shared: SharedClock = clock.clone();
        let running = Running::default();
        assert!(!running.holds_blobs(clock.monotonic_ms()));
        let hold = running.begin(shared.clone()).unwrap();
        assert!(running.begin(shared.clone()).is_none());
        clock.advance_ms(STALLED_MS - 1);
        hold.moves();
        clock.advance_ms(STALLED_MS - 1);
        assert!(running.holds_blobs(clock.monotonic_ms()));
        clock.advance_ms(1);
        assert!(!running.holds_blobs(clock.monotonic_ms()));
        drop(hold);
        assert!(running.begin(shared).is_some());
    }
}
