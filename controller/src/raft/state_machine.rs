//! openraft's state machine traits on top of a [`Machine`] in memory and snapshot files. What commands mean
//! is the machine's business.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use hearth_node::blocking;
use openraft::EntryPayload;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};

use super::machine::{Machine, MachineCell, RestoreError, WriteSnapshot};
use super::snapshot::Snapshots;
use super::types::{LogId, Snapshot, SnapshotData, SnapshotMeta, StoredMembership, TypeConfig};

/// Commands applied under one lock: readers wait for this many at most.
const APPLY_CHUNK: usize = 64;

pub(super) struct StateMachine<M> {
    cell: Arc<MachineCell<M>>,
    snapshots: Snapshots,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl<M: Machine> StateMachine<M> {
    /// Restores the machine from `snapshot`, or takes it as it is. The log brings the rest.
    pub(super) fn load(
        cell: Arc<MachineCell<M>>,
        snapshots: Snapshots,
        snapshot: Option<(SnapshotMeta, Bytes)>,
    ) -> Result<Self, RestoreError> {
        let mut machine = Self {
            cell,
            snapshots,
            applied: None,
            membership: StoredMembership::default(),
        };
        if let Some((meta, body)) = snapshot {
            machine.restore(&meta, &body)?;
        }
        Ok(machine)
    }

    fn restore(&mut self, meta: &SnapshotMeta, body: &[u8]) -> Result<(), RestoreError> {
        self.cell.write(|machine| machine.restore(body))?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        self.cell.publish(self.applied.map_or(0, |last| last.index));
    }

    /// Applies entries in order, makes them visible, and only then answers their proposers.
    fn apply_chunk(&mut self, entries: Vec<EntryResponder<TypeConfig>>) {
        let cell = Arc::clone(&self.cell);
        let mut replies = Vec::with_capacity(entries.len());
        cell.write(|machine| {
            for (entry, responder) in entries {
                let reply = match entry.payload {
                    EntryPayload::Blank => Vec::new(),
                    EntryPayload::Normal(command) => machine.apply(entry.log_id.index, &command.0),
                    EntryPayload::Membership(membership) => {
                        self.membership = StoredMembership::new(Some(entry.log_id), membership);
                        Vec::new()
                    }
                };
                self.applied = Some(entry.log_id);
                if let Some(responder) = responder {
                    replies.push((responder, reply));
                }
            }
        });
        self.publish();
        for (responder, reply) in replies {
            responder.send(reply);
        }
    }
}

impl<M: Machine> RaftStateMachine<TypeConfig> for StateMachine<M> {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let mut chunks = entries.ready_chunks(APPLY_CHUNK);
        while let Some(chunk) = chunks.next().await {
            let entries = chunk.into_iter().collect::<io::Result<Vec<_>>>()?;
            self.apply_chunk(entries);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        // Nothing is applied between this and the copy of the state: both happen on this task.
        Builder {
            meta: SnapshotMeta {
                last_log_id: self.applied,
                last_membership: self.membership.clone(),
            },
            write: Some(self.cell.read(Machine::freeze)),
            snapshots: self.snapshots.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        body: SnapshotData,
    ) -> io::Result<()> {
        // First into memory: one that the machine cannot read must not replace a readable one on disk.
        self.restore(meta, &body).map_err(io::Error::other)?;
        let (snapshots, meta) = (self.snapshots.clone(), meta.clone());
        blocking::run(move || snapshots.save(&meta, &body)).await?
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let snapshots = self.snapshots.clone();
        let newest = blocking::run(move || snapshots.newest()).await??;
        Ok(newest.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// A copy of the state, to be written while commands go on being applied.
pub(super) struct Builder {
    meta: SnapshotMeta,
    /// Taken by the first build; there is one for each builder.
    write: Option<WriteSnapshot>,
    snapshots: Snapshots,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let write = self.write.take();
        let write = write.ok_or_else(|| io::Error::other("a snapshot is built once"))?;
        let (snapshots, meta) = (self.snapshots.clone(), self.meta.clone());
        let body = blocking::run(move || {
            let body = Bytes::from(write());
            snapshots.save(&meta, &body).map(|()| body)
        })
        .await??;
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: body,
        })
    }
}
