//! `hearth nodes`, `hearth drain` and `hearth forget`: what nodes a cluster has, and the operator's word on one of them.

use std::time::Duration;

use anyhow::{Context as _, bail};
use hearth_core::control::{ClusterSummary, ControlReply, ControlRequest, NodeSummary};
use hearth_node::grpc::{ClusterChannel, with_deadline};
use hearth_proto::convert::{decode_answer, encode_request};
use hearth_proto::internal::v1 as pb;
use pb::cluster_admin_client::ClusterAdminClient;
use pb::control_client::ControlClient;

use crate::cli::{DrainArgs, ForgetArgs, NodesArgs};
use crate::members::find;

/// How long the controllers may take to answer; a leader may have to be elected.
const DEADLINE: Duration = Duration::from_secs(8);
/// How often a drain that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(crate) async fn list(args: NodesArgs) -> anyhow::Result<()> {
    let (_, channel) = find(&args.at).await?;
    let summary = summary(channel).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        print!("{}", table(&summary));
    }
    Ok(())
}

pub(crate) async fn drain(args: DrainArgs) -> anyhow::Result<()> {
    let (addr, channel) = find(&args.at).await?;
    let node = one(
        &summary(channel.clone()).await?,
        args.id,
        args.role.as_deref(),
    )?;
    let request = pb::DrainRequest {
        role: node.role.clone(),
        id: node.id,
        undo: args.undo,
    };
    let mut client = ClusterAdminClient::new(channel.clone());
    if let Err(status) = with_deadline(client.drain(request), DEADLINE).await {
        bail!("controller {addr} answers: {}", status.message());
    }
    if args.undo {
        println!("{} {} takes work again", node.role, node.id);
        return Ok(());
    }
    println!("{} {} finishes and takes no more", node.role, node.id);
    if args.wait {
        wait(channel, &node, Duration::from_secs(args.timeout_s)).await?;
        println!("{} {} has nothing left to do", node.role, node.id);
    }
    Ok(())
}

/// Until the node has nothing left: a worker neither invocations nor sandboxes, a controller no leadership. What clients
/// a gateway still has is not known here; its `/metrics` tell.
async fn wait(channel: ClusterChannel, node: &NodeSummary, limit: Duration) -> anyhow::Result<()> {
    let waiting = async {
        loop {
            let summary = summary(channel.clone()).await?;
            let now = one(&summary, node.id, Some(&node.role))?;
            let is_busy = match now.role.as_str() {
                "worker" => now.alive && now.in_flight + now.sandboxes > 0,
                "controller" => summary.leader == Some(now.id),
                _ => false,
            };
            if now.draining && !is_busy {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(limit, waiting)
        .await
        .unwrap_or_else(|_| bail!("not done within {} s; it drains on", limit.as_secs()))
}

pub(crate) async fn forget(args: ForgetArgs) -> anyhow::Result<()> {
    let (addr, channel) = find(&args.at).await?;
    let request = pb::ForgetWorkerRequest {
        id: args.id,
        force: args.force,
        check: true,
    };
    let mut client = ClusterAdminClient::new(channel);
    match with_deadline(client.forget_worker(request), DEADLINE).await {
        Ok(_) => println!("worker {} is forgotten; its permits are free", args.id),
        Err(status) => bail!("controller {addr} answers: {}", status.message()),
    }
    Ok(())
}

async fn summary(channel: ClusterChannel) -> anyhow::Result<ClusterSummary> {
    let call = encode_request(&ControlRequest::ClusterStatus);
    let answer = with_deadline(ControlClient::new(channel).execute(call), DEADLINE)
        .await
        .context("asking a controller")?;
    match decode_answer(answer.get_ref())? {
        ControlReply::Cluster(summary) => Ok(summary),
        other => bail!("a controller answered something else: {other:?}"),
    }
}

/// The node of this id, and of this role if two have it.
fn one(summary: &ClusterSummary, id: u64, role: Option<&str>) -> anyhow::Result<NodeSummary> {
    let found: Vec<&NodeSummary> = summary
        .nodes
        .iter()
        .filter(|node| node.id == id && role.is_none_or(|role| node.role == role))
        .collect();
    match found.as_slice() {
        [node] => Ok((*node).clone()),
        [] => bail!("the cluster has no such node {id}; see `hearth nodes`"),
        _ => bail!("several nodes have the id {id}: name one with --role"),
    }
}

/// For people; programs take `--json`.
fn table(summary: &ClusterSummary) -> String {
    let mut nodes: Vec<&NodeSummary> = summary.nodes.iter().collect();
    nodes.sort_by_key(|node| (node.role.clone(), node.id));
    let mut text = format!(
        "{:>5}  {:<10}  {:<22}  {:<14}  {:<8}  {:>7}  {:>9}  MEMORY FREE/ALL\n",
        "ID", "ROLE", "ADDRESS", "STATE", "RELEASE", "RUNNING", "SANDBOXES"
    );
    for node in nodes {
        let release = match node.release.as_str() {
            "" => "-",
            release => release,
        };
        text.push_str(&format!(
            "{:>5}  {:<10}  {:<22}  {:<14}  {release:<8}",
            node.id,
            node.role,
            node.addr,
            state(node, summary.leader)
        ));
        if node.role == "worker" {
            text.push_str(&format!(
                "  {:>7}  {:>9}  {}/{} MiB",
                node.in_flight, node.sandboxes, node.free_memory_mib, node.memory_mib
            ));
        }
        text.push('\n');
    }
    text
}

fn state(node: &NodeSummary, leader: Option<u64>) -> String {
    let is_leader = node.role == "controller" && leader == Some(node.id);
    match (node.alive, node.draining) {
        (false, _) => match node.silent_ms {
            Some(ms) => format!("silent {} s", ms / 1_000),
            None => "silent".to_owned(),
        },
        (true, true) => "draining".to_owned(),
        (true, false) if is_leader => "alive, leads".to_owned(),
        (true, false) => "alive".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(role: &str, id: u64) -> NodeSummary {
        NodeSummary {
            id,
            role: role.to_owned(),
            addr: format!("10.0.0.{id}:1"),
            alive: true,
            ..NodeSummary::default()
        }
    }

    #[test]
    fn the_table_tells_the_state_of_each() {
        let silent = NodeSummary {
            alive: false,
            silent_ms: Some(7_400),
            memory_mib: 100,
            ..node("worker", 101)
        };
        let draining = NodeSummary {
            draining: true,
            release: "0.1.0".to_owned(),
            ..node("gateway", 201)
        };
        let summary = ClusterSummary {
            leader: Some(1),
            nodes: vec![silent, draining, node("controller", 1)],
            ..ClusterSummary::default()
        };
        let text = table(&summary);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].contains("controller") && lines[1].contains("alive, leads"),
            "{text}"
        );
        assert!(
            lines[2].contains("draining") && lines[2].contains("0.1.0"),
            "{text}"
        );
        assert!(
            lines[3].contains("silent 7 s") && lines[3].ends_with("0/100 MiB"),
            "{text}"
        );
    }

    #[test]
    fn a_node_is_named_by_its_id_and_its_role_where_that_is_not_enough() {
        let nodes = vec![node("controller", 1), node("worker", 1), node("worker", 2)];
        let summary = ClusterSummary {
            nodes,
            ..ClusterSummary::default()
        };
        assert_eq!(one(&summary, 2, None).unwrap().role, "worker");
        assert!(one(&summary, 1, None).is_err());
        assert_eq!(one(&summary, 1, Some("worker")).unwrap().role, "worker");
        assert!(one(&summary, 3, None).is_err());
    }
}
