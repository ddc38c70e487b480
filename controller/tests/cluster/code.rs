//! Code blobs through the service gateways and workers call.

use bytes::Bytes;
use hearth_controller::blobs::Digest;
use hearth_proto::internal::v1 as pb;
use pb::blobs_client::BlobsClient;
use pb::put_blob_request::Part;
use tonic::Code;

use crate::harness::Cluster;

fn put(digest: Digest, content: &[u8]) -> Vec<pb::PutBlobRequest> {
    let start = Part::Start(pb::BlobStart {
        sha256: Bytes::copy_from_slice(digest.as_bytes()),
        ..pb::BlobStart::default()
    });
    let chunks = content.chunks(100_000).map(Bytes::copy_from_slice);
    std::iter::once(start)
        .chain(chunks.map(Part::Chunk))
        .map(|part| pb::PutBlobRequest { part: Some(part) })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_put_through_one_controller_is_read_from_any() {
    let cluster = Cluster::start(3).await;
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let digest = Digest::of(&content);
    let mut first = BlobsClient::new(cluster.channel(1));
    first
        .put(tokio_stream::iter(put(digest, &content)))
        .await
        .unwrap();
    let wanted = pb::GetBlobRequest {
        sha256: Bytes::copy_from_slice(digest.as_bytes()),
        ..pb::GetBlobRequest::default()
    };
    for id in 1..=3 {
        let mut client = BlobsClient::new(cluster.channel(id));
        let mut chunks = client.get(wanted.clone()).await.unwrap().into_inner();
        let mut got = Vec::new();
        while let Some(chunk) = chunks.message().await.unwrap() {
            got.extend_from_slice(&chunk.data);
        }
        assert_eq!(Digest::of(&got), digest, "controller {id}");
    }
    let other = Digest::of(b"other");
    let refused = first.put(tokio_stream::iter(put(other, &content))).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    let missing = pb::GetBlobRequest {
        sha256: Bytes::copy_from_slice(other.as_bytes()),
        ..pb::GetBlobRequest::default()
    };
    assert_eq!(first.get(missing).await.unwrap_err().code(), Code::NotFound);
}
