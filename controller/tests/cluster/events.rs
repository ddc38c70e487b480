//! The event log of several controllers.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use hearth_core::events::retry::{Condition, Decision};
use hearth_core::events::{End, EventEntry, Phase};
use hearth_proto::internal::v1 as pb;
use pb::event_log_client::EventLogClient;
use tonic::{Code, Status};

use crate::harness::{Cluster, name, until};

/// Sends until a leader has taken it.
async fn append(cluster: &Cluster, at: u64, request_id: &str, payload: &str) {
    let request = pb::AppendEventRequest {
        request_id: request_id.to_owned(),
        account: "123456789012".to_owned(),
        function: "f".to_owned(),
        qualifier: String::new(),
        payload: payload.to_owned().into(),
    };
    let what = format!("{request_id} is taken");
    until(&what, async || {
        let mut client = EventLogClient::new(cluster.channel(at));
        client.append(request.clone()).await.ok()
    })
    .await;
}

/// Due events, from whichever controller leads; none if there are none at once.
async fn lease(
    cluster: &Cluster,
    at: u64,
    count: u32,
) -> Result<Vec<(EventEntry, String)>, Status> {
    let request = pb::LeaseEventsRequest {
        holder: 201,
        count,
        lease_ms: 60_000,
        wait_ms: 50,
    };
    let mut client = EventLogClient::new(cluster.channel(at));
    let mut stream = client.lease(request).await?.into_inner();
    let mut leased = Vec::new();
    while let Some(event) = stream.message().await? {
        let entry = serde_json::from_slice(&event.entry).unwrap();
        leased.push((entry, String::from_utf8(event.payload.to_vec()).unwrap()));
    }
    Ok(leased)
}

async fn settle(cluster: &Cluster, at: u64, entry: &EventEntry, condition: Condition) -> bool {
    let decision = Decision::Deliver {
        condition,
        burns_attempt: true,
    };
    let settlement = pb::EventSettlement {
        lease: Some(pb::EventLease {
            request_id: entry.request_id.clone(),
            epoch: entry.epoch,
        }),
        decision: serde_json::to_vec(&decision).unwrap().into(),
    };
    let request = pb::SettleEventsRequest {
        settlements: vec![settlement],
    };
    let mut client = EventLogClient::new(cluster.channel(at));
    client.settle(request).await.unwrap().into_inner().done[0]
}

async fn find(cluster: &Cluster, at: u64, request_id: &str) -> Option<EventEntry> {
    let request = pb::FindEventRequest {
        request_id: request_id.to_owned(),
    };
    let mut client = EventLogClient::new(cluster.channel(at));
    let reply = client.find(request).await.ok()?.into_inner();
    Some(serde_json::from_slice(&reply.entry?).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accepted_event_outlives_its_leader_and_is_leased_once() {
    let mut cluster = Cluster::start(3).await;
    for n in 0..20 {
        append(
            &cluster,
            1 + n % 3,
            &format!("r{n}"),
            &format!("payload {n}"),
        )
        .await;
    }
    // The same again is the same event.
    append(&cluster, 2, "r0", "payload 0").await;
    let first = until("a lease", async || lease(&cluster, 1, 5).await.ok()).await;
    assert_eq!(first.len(), 5);

    let leader = until("the leader of events", async || {
        let nodes = cluster.nodes.values();
        let mut leaders = nodes.map(|node| node.controller().events_leader());
        let first = leaders.next()??;
        leaders.all(|leader| leader == Some(first)).then_some(first)
    })
    .await;
    cluster.kill(leader);
    let at = [1, 2, 3].into_iter().find(|id| *id != leader).unwrap();
    let second = until("leases of the next leader", async || {
        lease(&cluster, at, 64)
            .await
            .ok()
            .filter(|leased| !leased.is_empty())
    })
    .await;
    let leased = first.iter().chain(&second);
    let ids: BTreeSet<&str> = leased
        .clone()
        .map(|(entry, _)| entry.request_id.as_str())
        .collect();
    assert_eq!((ids.len(), second.len()), (20, 15), "each once");
    for (entry, payload) in leased {
        assert_eq!(*payload, format!("payload {}", &entry.request_id[1..]));
        assert_eq!(
            (entry.progress.attempts, entry.function.function.as_str()),
            (1, "f")
        );
    }

    let (entry, _) = &second[0];
    assert!(settle(&cluster, at, entry, Condition::Success).await);
    assert!(
        !settle(&cluster, at, entry, Condition::Success).await,
        "its lease is over"
    );
    cluster.start_node(leader, true).await;
    let id = entry.request_id.clone();
    let found = until("the returned one has it", async || {
        find(&cluster, leader, &id).await
    })
    .await;
    assert!(matches!(
        found.phase,
        Phase::Settled {
            end: End::Delivered(Condition::Success),
            ..
        }
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_joins_has_the_events_too() {
    let mut cluster = Cluster::start(1).await;
    append(&cluster, 1, "r", "before").await;
    cluster.start_node(2, false).await;
    let add = pb::AddControllerRequest {
        id: 2,
        addr: name(2),
    };
    cluster.admin(1).add_controller(add).await.unwrap();
    assert_eq!(cluster.nodes[&1].controller().event_voters(), [1, 2]);
    assert!(find(&cluster, 2, "r").await.is_some());
    let leased = until("its payload is there", async || {
        lease(&cluster, 2, 1).await.ok()
    })
    .await;
    assert_eq!(leased[0].1, "before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_log_says_so_and_takes_events_again_when_there_is_room() {
    let cluster = Cluster::start_with(1, |options| {
        options.events.per_function = 2;
    })
    .await;
    append(&cluster, 1, "first", "1").await;
    let tried = AtomicU32::new(0);
    let refused = async || {
        let request = pb::AppendEventRequest {
            request_id: format!("r{}", tried.fetch_add(1, Relaxed)),
            account: "123456789012".to_owned(),
            function: "f".to_owned(),
            ..pb::AppendEventRequest::default()
        };
        let mut client = EventLogClient::new(cluster.channel(1));
        let answer = client.append(request).await;
        answer.err().map(|status| status.code())
    };
    // The limit is a command of its own, soon after the start.
    until("one is refused", async || {
        (refused().await == Some(Code::ResourceExhausted)).then_some(())
    })
    .await;
    loop {
        let leased = lease(&cluster, 1, 64).await.unwrap();
        if leased.is_empty() {
            break;
        }
        for (entry, _) in &leased {
            assert!(settle(&cluster, 1, entry, Condition::Success).await);
        }
    }
    assert_eq!(refused().await, None);
}

/// Dispatchers wait for events at the leader for many seconds; its end does not wait for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_ends_though_a_dispatcher_waits_there() {
    let mut cluster = Cluster::start(1).await;
    until("the event log is there", async || {
        lease(&cluster, 1, 1).await.ok()
    })
    .await;
    let mut client = EventLogClient::new(cluster.channel(1));
    let request = pb::LeaseEventsRequest {
        holder: 201,
        count: 1,
        lease_ms: 1_000,
        wait_ms: 20_000,
    };
    let waiting = tokio::spawn(async move { client.lease(request).await });
    // A second one waits behind it for its own 50 ms, in which the first has come.
    lease(&cluster, 1, 1).await.unwrap();
    cluster.stop(1).await;
    // An error and not an empty batch, after which it would ask here again at once.
    let refused = waiting.await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
}
