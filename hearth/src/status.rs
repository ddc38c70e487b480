//! `hearth status`: the nodes of a cluster that `hearth up` runs on this machine, as its controllers see them.

use std::time::Duration;

use anyhow::{Context as _, bail};
use hearth_core::control::{ControlReply, ControlRequest};
use hearth_node::grpc::{ChannelOptions, ClusterIdentity, channel, with_deadline};
use hearth_node::net::SharedNet;
use hearth_proto::convert::{decode_answer, encode_request};
use hearth_proto::internal::v1::control_client::ControlClient;

use crate::cli::StatusArgs;
use crate::trust::operator;
use crate::up::{ClusterFile, addresses, read_cluster};

const DEADLINE: Duration = Duration::from_secs(3);

pub(crate) async fn run(args: StatusArgs) -> anyhow::Result<()> {
    let file = args.data_dir.join("cluster.json");
    let Some(cluster) = read_cluster(&file)? else {
        bail!(
            "{} does not exist: there is no cluster of `hearth up` in this data dir",
            file.display()
        );
    };
    let net = operator::net(None, &args.data_dir)?;
    let mut last = None;
    for addr in addresses(&cluster, crate::up::Role::Controller) {
        match ask(&net, &cluster, &addr.to_string()).await {
            Ok(text) => {
                print!("{text}");
                return Ok(());
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last
        .context("a cluster has a controller")?
        .context("no controller answers; is the cluster running?"))
}

async fn ask(net: &SharedNet, cluster: &ClusterFile, addr: &str) -> anyhow::Result<String> {
    let identity = ClusterIdentity::known(&cluster.cluster_id)?;
    let channel = channel(net, addr, &ChannelOptions::default(), &identity)?;
    let call = encode_request(&ControlRequest::ClusterStatus);
    let mut client = ControlClient::new(channel);
    let answer = with_deadline(client.execute(call), DEADLINE)
        .await
        .with_context(|| format!("asking {addr}"))?;
    let ControlReply::Cluster(summary) = decode_answer(answer.get_ref())? else {
        bail!("{addr} answered something else");
    };
    let leader = summary
        .leader
        .map_or_else(|| "none".to_owned(), |id| id.to_string());
    let mut text = format!(
        "cluster {}  leader {leader}  term {}  applied {}\n{:<11} {:>4}  {:<22} {:<6} {:>9} {:>14}\n",
        summary.cluster_id,
        summary.term,
        summary.applied,
        "ROLE",
        "ID",
        "ADDRESS",
        "ALIVE",
        "SANDBOXES",
        "FREE MEMORY"
    );
    for node in &summary.nodes {
        let alive = if node.alive { "yes" } else { "no" };
        text.push_str(&format!(
            "{:<11} {:>4}  {:<22} {alive:<6}",
            node.role, node.id, node.addr
        ));
        if node.role == "worker" {
            text.push_str(&format!(
                " {:>9} {:>10} MiB",
                node.sandboxes, node.free_memory_mib
            ));
        }
        text.push('\n');
    }
    Ok(text)
}
