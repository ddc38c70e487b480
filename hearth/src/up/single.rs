//! One controller, one worker and one gateway in this process.

use anyhow::Context as _;
use hearth_node::Seams;
use hearth_node::config::Secret;
use hearth_node::credentials::session_key;
use tracing::{info, warn};

use super::plan::{Cluster, Node, Role};
use super::ready::Announcement;
use super::supervise::Pids;
use super::{configs, interrupted};
use crate::cli::UpArgs;
use crate::credentials::Credentials;
use crate::role;

/// Runs until Ctrl-C or SIGTERM.
pub(crate) async fn run(
    args: &UpArgs,
    cluster: &Cluster,
    credentials: &Credentials,
    seams: &Seams,
) -> anyhow::Result<()> {
    let node = |role: Role| -> anyhow::Result<&Node> {
        cluster
            .nodes
            .iter()
            .find(|node| node.role == role)
            .context("a cluster has a node of each role")
    };
    let mut options = configs::controller(args, cluster, node(Role::Controller)?)?;
    let sessions = session_key(&credentials.secret_access_key);
    let fill = |key: &mut Secret| {
        if key.0.is_empty() {
            key.0.clone_from(&sessions);
        }
    };
    fill(&mut options.iam.session_key);
    let keep_controller = role::keep_controller(&options, seams).await?;
    let controller = hearth_controller::start(options, seams.clone())
        .await
        .context("starting the controller")?;
    let options = configs::worker(args, cluster, node(Role::Worker)?)?;
    let keep_worker = role::keep_worker(&options, seams).await?;
    let worker = role::start_worker(options, seams).await?;
    let mut options = configs::gateway(args, cluster, node(Role::Gateway)?, Some(credentials))?;
    fill(&mut options.iam.session_key);
    let keep_gateway = role::keep_gateway(&options, seams).await?;
    let gateway = hearth_gateway::start(options, seams.clone())
        .await
        .context("starting the gateway")?;

    let announcement = Announcement {
        args,
        cluster,
        credentials,
    };
    let pids = Pids::of_one_process(cluster.nodes.len());
    let outcome = tokio::select! {
        outcome = announcement.when_ready(&pids, seams) => outcome,
        outcome = interrupted() => outcome,
        () = role::keep(keep_controller) => Ok(()),
        () = role::keep(keep_worker) => Ok(()),
        () = role::keep(keep_gateway) => Ok(()),
        reason = controller.fatal() => Err(anyhow::anyhow!("the controller cannot go on: {reason}")),
    };
    info!("stopping the cluster");
    gateway.shutdown().await;
    worker.shutdown().await;
    if let Err(error) = controller.shutdown().await {
        warn!("the controller did not end cleanly: {error}");
    }
    outcome
}
