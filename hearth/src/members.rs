//! `hearth controllers`: which controllers the cluster has; adding and removing one. What that takes is the
//! controllers' business.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hearth_node::grpc::{ChannelOptions, ClusterChannel, ClusterIdentity, channel, with_deadline};
use hearth_proto::internal::v1 as pb;
use pb::cluster_admin_client::ClusterAdminClient;

use crate::cli::{ControllersCommand, MembersArgs};
use crate::trust::operator;
use crate::up::{Role, addresses, read_cluster};

/// To one controller.
pub(crate) type Channel = ClusterChannel;

/// How long a controller may take to say who the members are.
const ASK_DEADLINE: Duration = Duration::from_secs(3);
/// A new controller catches up before it is a member: longer than the controllers' own limit.
const CHANGE_DEADLINE: Duration = Duration::from_secs(130);

pub(crate) async fn run(command: ControllersCommand) -> anyhow::Result<()> {
    let (ControllersCommand::List { at }
    | ControllersCommand::Add { at, .. }
    | ControllersCommand::Remove { at, .. }) = &command;
    let (addr, channel) = find(at).await?;
    let mut client = ClusterAdminClient::new(channel);
    let reply = match &command {
        ControllersCommand::List { .. } => {
            with_deadline(client.members(pb::MembersRequest {}), ASK_DEADLINE).await
        }
        ControllersCommand::Add { id, addr, .. } => {
            let add = pb::AddControllerRequest {
                id: *id,
                addr: addr.clone(),
            };
            with_deadline(client.add_controller(add), CHANGE_DEADLINE).await
        }
        ControllersCommand::Remove { id, .. } => {
            let remove = pb::RemoveControllerRequest { id: *id };
            with_deadline(client.remove_controller(remove), CHANGE_DEADLINE).await
        }
    };
    match reply {
        Ok(reply) => print!("{}", table(reply.get_ref())),
        Err(status) => bail!("controller {addr} answers: {}", status.message()),
    }
    Ok(())
}

/// The first controller that answers; it sends on to the leader what only the leader can do.
pub(crate) async fn find(at: &MembersArgs) -> anyhow::Result<(String, ClusterChannel)> {
    let (identity, addrs) = known(at)?;
    let net = operator::net(at.tls_dir.as_deref(), &at.data_dir)?;
    let mut last = None;
    for addr in addrs {
        let options = ChannelOptions::default();
        let channel = channel(&net, &addr, &options, &identity)?;
        let mut client = ClusterAdminClient::new(channel.clone());
        let asked = with_deadline(client.members(pb::MembersRequest {}), ASK_DEADLINE).await;
        match asked {
            Ok(_) => return Ok((addr, channel)),
            Err(status) => last = Some(format!("{addr}: {}", status.message())),
        }
    }
    bail!(
        "no controller answers; is the cluster running? {}",
        last.unwrap_or_default()
    )
}

pub(crate) fn known(at: &MembersArgs) -> anyhow::Result<(ClusterIdentity, Vec<String>)> {
    if let Some(addr) = &at.controller {
        return Ok((ClusterIdentity::unknown(), vec![addr.clone()]));
    }
    let file = at.data_dir.join("cluster.json");
    let cluster = read_cluster(&file)?.with_context(|| {
        format!(
            "{} does not exist: name a controller with --controller HOST:PORT",
            file.display()
        )
    })?;
    let addrs = addresses(&cluster, Role::Controller).map(|addr: SocketAddr| addr.to_string());
    Ok((
        ClusterIdentity::known(&cluster.cluster_id)?,
        addrs.collect(),
    ))
}

fn table(reply: &pb::MembersReply) -> String {
    let mut members: Vec<&pb::Member> = reply.members.iter().collect();
    members.sort_unstable_by_key(|member| member.id);
    let mut text = format!("{:>4}  {:<22} {}\n", "ID", "ADDRESS", "ROLE");
    for member in members {
        let role = match (member.voter, member.id == reply.leader_id) {
            (_, true) => "leader",
            (true, false) => "voter",
            (false, false) => "learner",
        };
        text.push_str(&format!("{:>4}  {:<22} {role}\n", member.id, member.addr));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_shown_by_id_with_what_they_do() {
        let member = |id, voter| pb::Member {
            id,
            addr: format!("10.0.0.{id}:7400"),
            voter,
        };
        let reply = pb::MembersReply {
            members: vec![member(3, false), member(1, true), member(2, true)],
            leader_id: 2,
            term: 4,
            ..pb::MembersReply::default()
        };
        let text = table(&reply);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(rows[1], ["1", "10.0.0.1:7400", "voter"]);
        assert_eq!(rows[2], ["2", "10.0.0.2:7400", "leader"]);
        assert_eq!(rows[3], ["3", "10.0.0.3:7400", "learner"]);
    }
}
