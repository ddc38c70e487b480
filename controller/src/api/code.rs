//! Code blobs for gateways and workers, through whatever store the cluster has. What controllers ask of each
//! other's disks is in `blobs`.

use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use hearth_proto::internal::v1 as pb;
use pb::blobs_server::Blobs;
use pb::put_blob_request::Part;
use tonic::{Request, Response, Status, Streaming};

use crate::blobs::{BlobError, BlobStore, BlobStream, Digest};

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct BlobsService {
    pub(crate) store: Arc<dyn BlobStore>,
}

fn digest(sha256: &[u8]) -> Result<Digest, Status> {
    let bytes = sha256.try_into();
    bytes
        .map(Digest::from_bytes)
        .map_err(|_| Status::invalid_argument("a SHA-256 has 32 bytes"))
}

#[tonic::async_trait]
impl Blobs for BlobsService {
    type GetStream = BoxStream<'static, Result<pb::BlobChunk, Status>>;

    async fn put(
        &self,
        request: Request<Streaming<pb::PutBlobRequest>>,
    ) -> Result<Response<pb::PutBlobReply>, Status> {
        let mut parts = request.into_inner();
        let first = parts.message().await?.and_then(|message| message.part);
        let Some(Part::Start(start)) = first else {
            return Err(Status::invalid_argument("a blob begins with its digest"));
        };
        let digest = digest(&start.sha256)?;
        let stored = self.store.put_stream(digest, chunks(digest, parts)).await;
        stored.map_err(|error| status(&error))?;
        Ok(Response::new(pb::PutBlobReply {}))
    }

    async fn get(
        &self,
        request: Request<pb::GetBlobRequest>,
    ) -> Result<Response<Self::GetStream>, Status> {
        let digest = digest(&request.get_ref().sha256)?;
        let content = self.store.get_stream(digest).await;
        let content = content.map_err(|error| status(&error))?;
        let chunks = content
            .map_ok(|data| pb::BlobChunk { data })
            .map_err(|error| status(&error));
        Ok(Response::new(chunks.boxed()))
    }

    async fn has(
        &self,
        request: Request<pb::HasBlobRequest>,
    ) -> Result<Response<pb::HasBlobReply>, Status> {
        let digest = digest(&request.get_ref().sha256)?;
        let present = self.store.exists(digest).await;
        let present = present.map_err(|error| status(&error))?;
        Ok(Response::new(pb::HasBlobReply { present }))
    }
}

/// The pieces after the start. A stream that breaks off ends in an error, so nothing of it is kept.
fn chunks(digest: Digest, parts: Streaming<pb::PutBlobRequest>) -> BlobStream {
    stream::try_unfold(parts, move |mut parts| async move {
        let interrupted = |source: Status| BlobError::Io {
            action: "receive",
            digest,
            source: source.into(),
        };
        match parts.message().await.map_err(interrupted)? {
            None => Ok(None),
            Some(pb::PutBlobRequest {
                part: Some(Part::Chunk(chunk)),
            }) => Ok(Some((chunk, parts))),
            Some(_) => Err(interrupted(Status::invalid_argument("a chunk is missing"))),
        }
    })
    .boxed()
}

fn status(error: &BlobError) -> Status {
    let message = error.to_string();
    match error {
        BlobError::NotFound(_) => Status::not_found(message),
        BlobError::Mismatch { .. } | BlobError::TooLarge { .. } => {
            Status::invalid_argument(message)
        }
        BlobError::Corrupted(_) => Status::data_loss(message),
        BlobError::Full(_) => Status::resource_exhausted(message),
        BlobError::NoMajority { .. }
        | BlobError::Unsure(_)
        | BlobError::Io { .. }
        | BlobError::Store { .. } => {
            tracing::warn!(%error, "blob operation failed");
            Status::unavailable(message)
        }
    }
}
