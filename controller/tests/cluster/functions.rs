//! Metadata operations through different controllers.

use hearth_core::ErrorCode;
use hearth_core::control::{ControlReply, ControlRequest};
use hearth_core::function::State;

use crate::harness::{Cluster, account, code, create, delete, get, reserve, update_code};

/// What one controller acknowledged, every other one knows at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_are_managed_through_any_controller() {
    let cluster = Cluster::start(3).await;
    let created = cluster.function(1, &create("f")).await;
    assert_eq!(created.state, State::Pending);
    assert_eq!(cluster.function(2, &get("f")).await, created);

    let conflict = cluster.ask(3, &create("f")).await.unwrap_err();
    assert_eq!(conflict.code, ErrorCode::ResourceConflict);
    let pending = cluster.ask(2, &update_code("f", 2)).await.unwrap_err();
    assert_eq!(pending.code, ErrorCode::ResourceConflict);

    for name in ["b", "a", "c"] {
        cluster.function(3, &create(name)).await;
    }
    let list = ControlRequest::ListFunctions {
        account: account(),
        after: Some("a".parse().unwrap()),
        limit: 2,
    };
    let Ok(ControlReply::Functions { functions, more }) = cluster.ask(1, &list).await else {
        panic!("not a page");
    };
    let names: Vec<_> = functions.iter().map(|f| f.name.as_str()).collect();
    assert_eq!((names, more), (vec!["b", "c"], true));

    let reserved = cluster.function(2, &reserve("f", Some(900))).await;
    assert_eq!(reserved.reserved_concurrency, Some(900));
    let too_much = cluster.ask(1, &reserve("a", Some(1))).await.unwrap_err();
    assert_eq!(too_much.code, ErrorCode::InvalidParameterValue);
    let account = ControlRequest::GetAccount { account: account() };
    let Ok(ControlReply::Account(summary)) = cluster.ask(3, &account).await else {
        panic!("not an account");
    };
    assert_eq!((summary.unreserved, summary.functions), (100, 4));

    assert_eq!(cluster.ask(2, &delete("f")).await, Ok(ControlReply::Done));
    let gone = cluster.ask(3, &get("f")).await.unwrap_err();
    assert_eq!(gone.code, ErrorCode::NotFound);
    assert_eq!(
        gone.message,
        "Function not found: arn:aws:lambda:us-east-1:123456789012:function:f"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_that_was_not_put_is_refused() {
    let mut cluster = Cluster::start(3).await;
    let refused = cluster.ask(1, &update_code("f", 9)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidParameterValue);
    assert!(
        refused.message.contains(&code(9).digest.to_string()),
        "{refused:?}"
    );
    // Two of three deny it; a third that is away cannot make it a majority's.
    let leader = cluster.leader().await;
    let (gone, asked) = if leader == 3 { (2, 1) } else { (3, leader) };
    cluster.kill(gone);
    let refused = cluster.ask(asked, &update_code("f", 9)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidParameterValue);
    cluster.function(asked, &create("f")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_large_a_document_is_refused_whole() {
    let cluster = Cluster::start(1).await;
    let mut request = create("f");
    if let ControlRequest::CreateFunction { config, .. } = &mut request {
        config.description = "d".repeat(70_000);
    }
    let error = cluster.ask(1, &request).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::RequestTooLarge);
    assert!(cluster.ask(1, &get("f")).await.is_err());
}
