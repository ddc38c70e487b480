//! The event log's part of a start.

use std::sync::Arc;

use hearth_node::Seams;
use hearth_proto::internal::v1::event_log_server::EventLogServer;

use super::{Controller, Parts, StartError, raft_options};
use crate::api::forward::Controllers;
use crate::events::lease::Leases;
use crate::events::machine::EventMachine;
use crate::events::service::EventLogService;
use crate::events::{self, sweep};
use crate::net_dialer::NetDialer;
use crate::options::Options;
use crate::raft::storage::{EventStorage, Storage};
use crate::raft::{Consensus, GroupService, MAX_LARGE_COMMAND_BYTES};

/// Commands between two snapshots; by bytes there are more (`events/sweep.rs`).
const SNAPSHOT_EVERY: u64 = 10_000;
/// Commands kept behind a snapshot. They have payloads: of the largest size they are 256 MiB.
const KEEP_APPLIED: u64 = 256;

type Peers = GroupService<EventMachine, events::Path>;
type Server = EventLogServer<EventLogService>;

/// This controller's node of the group, unless there is to be none.
pub(super) async fn start(
    options: &Options,
    dialer: NetDialer,
    storage: Arc<dyn Storage>,
    seams: &Seams,
) -> Result<Option<Consensus<EventMachine>>, StartError> {
    if !options.events.enabled {
        return Ok(None);
    }
    let mut raft = raft_options(options, dialer, Arc::new(EventStorage(storage)), seams);
    raft.data_dir = options.data_dir.join("events");
    raft.path = events::PATH;
    raft.max_command_bytes = MAX_LARGE_COMMAND_BYTES;
    raft.snapshot_every = SNAPSHOT_EVERY;
    raft.keep_applied = KEEP_APPLIED;
    let consensus = Consensus::start(raft, EventMachine::default()).await;
    consensus.map(Some).map_err(StartError::Consensus)
}

impl Parts {
    /// What the group's other nodes and what gateways ask.
    pub(super) fn event_services(
        &self,
        controllers: &Controllers,
    ) -> (Option<Peers>, Option<Server>) {
        let events = self.events.as_ref();
        let peers = events.map(Consensus::peer_service_under::<events::Path>);
        let max = self.options.server.max_message_size.as_usize();
        let server = self.event_log(controllers).map(|service| {
            EventLogServer::new(service)
                .max_decoding_message_size(max)
                .max_encoding_message_size(max)
        });
        (peers, server)
    }

    /// What gateways ask, with what keeps the group in order.
    fn event_log(&self, controllers: &Controllers) -> Option<EventLogService> {
        let consensus = self.events.clone()?;
        let (clock, stop) = (self.seams.clock.clone(), self.shutdown.token());
        let members = events::members::run(self.consensus.clone(), consensus.clone(), stop.clone());
        self.shutdown.spawn("members of the event log", members);
        let sweeping = sweep::run(
            consensus.clone(),
            self.options.events,
            clock.clone(),
            stop.clone(),
        );
        self.shutdown.spawn("sweep of the event log", sweeping);
        Some(EventLogService {
            leases: Leases::new(consensus.clone(), clock.clone(), stop.clone()),
            consensus,
            controllers: controllers.clone(),
            clock,
            stop,
        })
    }
}

impl Controller {
    /// Which controller leads the event log's group, as far as this one knows.
    pub fn events_leader(&self) -> Option<u64> {
        let leader = self.events.as_ref()?.leader();
        leader.map(|(id, _)| id)
    }

    /// Who votes in the event log's group.
    pub fn event_voters(&self) -> Vec<u64> {
        let voters = self.events.as_ref().map(|events| events.members().voters);
        voters.unwrap_or_default().into_keys().collect()
    }

    /// Ends with the reason for which the event log cannot go on, if ever.
    pub(super) async fn events_fatal(&self) -> String {
        let Some(events) = &self.events else {
            return std::future::pending().await;
        };
        let broken = events.read(EventMachine::watch_broken);
        tokio::select! {
            reason = super::reason_of(events.watch_fatal()) => reason,
            reason = super::reason_of(broken) => reason,
        }
    }
}
