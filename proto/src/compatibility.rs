//! What other releases send: bytes as the release before wrote them, and bytes that only a later one knows.

use hearth_core::control::{ControlReply, ControlRequest};
use prost::Message as _;

use crate::convert::{decode_answer, decode_request};
use crate::internal::v1 as pb;
use crate::v1 as pb_v1;

/// Written by hand from the definitions of the release before; never changed.
#[test]
fn messages_of_the_release_before_are_read() {
    let hello = pb::GatewayFrame::decode(&b"\x0a\x02\x08\x07"[..]).unwrap();
    let Some(pb::gateway_frame::Frame::Hello(hello)) = hello.frame else {
        panic!("{hello:?}");
    };
    assert_eq!((hello.gateway_id, hello.answers_pulses), (7, false));

    let watch = pb::WatchCatalogRequest::decode(&b"\x08\x65\x10\x01"[..]).unwrap();
    assert_eq!((watch.node_id, watch.addr.as_str()), (101, ""));

    let forget = pb::ForgetWorkerRequest::decode(&b"\x08\x65"[..]).unwrap();
    assert_eq!((forget.id, forget.check, forget.force), (101, false, false));

    let status = pb::PeerStatusReply::decode(&b"\x08\x01\x10\x01"[..]).unwrap();
    assert_eq!(
        (status.node_id, status.level),
        (1, 0),
        "it knows no command of level 1"
    );

    let call = pb::ControlCall::decode(&b"\x0a\x0f\"ClusterStatus\""[..]).unwrap();
    assert_eq!((call.once, call.token.as_str()), (false, ""));
    assert_eq!(
        decode_request(&call).unwrap(),
        ControlRequest::ClusterStatus
    );

    let reply = br#"{"Cluster":{"cluster_id":"c","leader":1,"term":2,"applied":3,"nodes":[{"id":101,"role":"worker","addr":"h:1","alive":true,"sandboxes":4,"free_memory_mib":5}]}}"#;
    let answer = pb::ControlAnswer {
        result: Some(pb::control_answer::Result::Reply(reply.to_vec().into())),
        ..pb::ControlAnswer::default()
    };
    let Ok(ControlReply::Cluster(cluster)) = decode_answer(&answer) else {
        panic!("an answer of the release before");
    };
    let node = &cluster.nodes[0];
    assert_eq!(
        (node.sandboxes, node.draining, node.silent_ms),
        (4, false, None)
    );
}

/// Field 30 stands for whatever comes.
#[test]
fn what_only_a_later_release_knows_is_passed_over() {
    let later = b"\xf2\x01\x02\x08\x07";
    assert_eq!(pb::GatewayFrame::decode(&later[..]).unwrap().frame, None);
    assert_eq!(pb::WorkerFrame::decode(&later[..]).unwrap().frame, None);
    assert_eq!(pb::WorkerOrder::decode(&later[..]).unwrap().order, None);
    assert_eq!(pb::WorkerReport::decode(&later[..]).unwrap().report, None);
    let mut refused = pb::Refused::default().encode_to_vec();
    refused.extend_from_slice(b"\x10\x63");
    let refused = pb::Refused::decode(&refused[..]).unwrap();
    assert_eq!(refused.reason(), pb::refused::Reason::Unspecified);
    let update = pb::CatalogUpdate::decode(&later[..]).unwrap();
    assert_eq!(update, pb::CatalogUpdate::default());
    let cluster = br#"{"Cluster":{"cluster_id":"c","leader":null,"term":0,"applied":0,"nodes":[],"mood":"good"}}"#;
    assert!(serde_json::from_slice::<ControlReply>(cluster).is_ok());
}

/// A client of the release before names no image; a gateway of it passes the image over and finds no archive either.
#[test]
fn images_over_grpc_are_unknown_to_the_release_before_and_nothing_else_is() {
    let create = pb_v1::CreateFunctionRequest::decode(&b"\x0a\x01f\x2a\x02PK"[..]).unwrap();
    assert_eq!(
        (
            create.name.as_str(),
            &create.zip_file[..],
            create.image_uri.as_str()
        ),
        ("f", &b"PK"[..], "")
    );
    assert_eq!(create.image_config, None);
    let image = pb_v1::CreateFunctionRequest {
        image_uri: "r.example.com/a:1".to_owned(),
        ..Default::default()
    };
    assert_eq!(image.encode_to_vec()[0], 11 << 3 | 2, "a field of its own");
    let update = pb_v1::UpdateFunctionCodeRequest::decode(&b"\x0a\x01f\x1a\x01r"[..]).unwrap();
    assert_eq!(
        (update.revision_id.as_str(), update.image_uri.as_str()),
        ("r", "")
    );
}
