//! The native gRPC API on the same port.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hearth_proto::v1 as pb;
use pb::functions_client::FunctionsClient;
use pb::invocation_client::InvocationClient;
use tonic::transport::Endpoint;
use tonic::{Code, Request};

use super::cluster::{KEY, SECRET, cluster};
use super::worker::FakeWorker;
use crate::testing::zip_with;

fn signed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Basic {}", STANDARD.encode(format!("{KEY}:{SECRET}")));
    request
        .metadata_mut()
        .insert("authorization", value.parse().unwrap());
    request
}

#[tokio::test]
async fn functions_are_made_invoked_and_deleted() {
    let cluster = cluster(&[], vec![FakeWorker::new(1, 9, &[("echo", 1)])], Some(9)).await;
    let channel = Endpoint::from_shared(format!("http://{}", cluster.gateway.addr))
        .unwrap()
        .connect_lazy();
    let mut functions = FunctionsClient::new(channel.clone());
    let create = pb::CreateFunctionRequest {
        name: "echo".into(),
        runtime: "python3.11".into(),
        handler: "main.handler".into(),
        role: "arn:aws:iam::000000000000:role/r".into(),
        zip_file: zip_with("main.py", b"x = 1"),
        ..Default::default()
    };
    let refused = functions.create_function(create.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let made = functions
        .create_function(signed(create.clone()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (made.name.as_str(), made.state.as_str()),
        ("echo", "Active")
    );
    let twice = functions.create_function(signed(create)).await.unwrap_err();
    assert_eq!(twice.code(), Code::AlreadyExists);
    assert_eq!(
        twice.metadata().get("hearth-error-code").unwrap(),
        "ResourceConflictException"
    );

    let mut invocation = InvocationClient::new(channel);
    let invoke = || {
        signed(pb::InvokeRequest {
            function_name: "echo".into(),
            payload: "{}".into(),
            ..Default::default()
        })
    };
    let answer = invocation.invoke(invoke()).await.unwrap().into_inner();
    assert_eq!(
        (&answer.payload[..], answer.executed_version.as_str()),
        (&b"{}"[..], "$LATEST")
    );
    let mut parts = invocation
        .invoke_stream(invoke())
        .await
        .unwrap()
        .into_inner();
    let mut count = 0;
    while parts.message().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 2, "one piece and the end");

    let delete = pb::DeleteFunctionRequest {
        name: "echo".into(),
    };
    functions.delete_function(signed(delete)).await.unwrap();
    let gone = invocation.invoke(invoke()).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
}
