//! `hearth.v1.Cluster`.

use std::sync::Arc;

use hearth_core::control::{ControlReply, ControlRequest, NodeSummary};
use hearth_proto::status::to_status;
use hearth_proto::v1 as pb;
use pb::cluster_server::Cluster as Service;
use tonic::{Request, Response, Status};

use super::place;
use crate::app::App;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Cluster {
    app: Arc<App>,
}

impl Cluster {
    pub(super) fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl Service for Cluster {
    async fn status(
        &self,
        _request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let _place = place(&self.app)?;
        let reply = self
            .app
            .controllers
            .execute(&ControlRequest::ClusterStatus)
            .await;
        match reply.map_err(|error| to_status(&error))? {
            ControlReply::Cluster(cluster) => Ok(Response::new(pb::StatusResponse {
                cluster_id: cluster.cluster_id,
                leader_id: cluster.leader.unwrap_or_default(),
                term: cluster.term,
                applied_index: cluster.applied,
                nodes: cluster.nodes.into_iter().map(node).collect(),
            })),
            other => Err(Status::internal(format!("unexpected answer {other:?}"))),
        }
    }
}

fn node(node: NodeSummary) -> pb::Node {
    pb::Node {
        id: node.id,
        role: node.role,
        addr: node.addr,
        alive: node.alive,
        sandboxes: node.sandboxes,
        free_memory_mib: node.free_memory_mib,
    }
}
