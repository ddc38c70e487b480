//! Controllers that join and leave.

use hearth_proto::internal::v1 as pb;

use crate::harness::{Cluster, create, get, name, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_from_one_to_three_and_outlives_its_first_controller() {
    let mut cluster = Cluster::start(1).await;
    cluster.function(1, &create("f")).await;
    for id in [2, 3] {
        cluster.start_node(id, false).await;
        let add = pb::AddControllerRequest { id, addr: name(id) };
        let reply = cluster.admin(1).add_controller(add).await.unwrap();
        let members = reply.into_inner().members;
        assert!(members.iter().any(|m| m.id == id && m.voter), "{members:?}");
    }
    cluster.leader().await;
    cluster.function(3, &get("f")).await;
    cluster.kill(1);
    cluster.leader().await;
    // The code that was put when there was one controller is with the others too.
    cluster.function(2, &create("g")).await;

    let remove = pb::RemoveControllerRequest { id: 1 };
    let follower = cluster.follower().await;
    let reply = cluster.admin(follower).remove_controller(remove).await;
    let ids = |reply: pb::MembersReply| {
        let mut ids: Vec<u64> = reply.members.iter().map(|m| m.id).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(reply.unwrap().into_inner()), [2, 3]);
    until("the change everywhere", async || {
        let reply = cluster.admin(follower).members(pb::MembersRequest {}).await;
        (ids(reply.unwrap().into_inner()) == [2, 3]).then_some(())
    })
    .await;
}

/// A removed leader is still named by openraft until the next election; who asks meanwhile is not sent to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_controller_says_so_right_after_the_leader_was_removed() {
    let mut cluster = Cluster::start(1).await;
    cluster.start_node(2, false).await;
    let add = pb::AddControllerRequest {
        id: 2,
        addr: name(2),
    };
    cluster.admin(1).add_controller(add).await.unwrap();
    let remove = |id| pb::RemoveControllerRequest { id };
    cluster.admin(2).remove_controller(remove(1)).await.unwrap();
    let refused = cluster.admin(2).remove_controller(remove(2)).await;
    let message = refused.unwrap_err().message().to_owned();
    assert!(message.contains("last controller"), "{message}");
}
