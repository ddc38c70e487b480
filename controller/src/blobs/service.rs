//! What this controller answers about its own blobs, to other controllers and to workers.

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use hearth_core::{Error, ErrorCode};
use hearth_proto::internal::v1 as pb;
use hearth_proto::internal::v1::blob_peer_server::{BlobPeer, BlobPeerServer};
use hearth_proto::status::to_status;
use tonic::{Request, Response, Status, Streaming};

use super::{BlobError, BlobStore, BlobStream, Digest, LocalBlobs};

/// Largest piece taken from a caller.
pub(super) const MAX_CHUNK_BYTES: usize = 256 * 1024;
/// A piece and its framing.
pub(super) const MAX_MESSAGE_BYTES: usize = MAX_CHUNK_BYTES + 4 * 1024;

/// The blob service of one controller.
#[derive(Debug, Clone)]
pub struct BlobPeerService {
    cluster_id: String,
    local: LocalBlobs,
}

impl BlobPeerService {
    /// A service over this controller's own copies, for its gRPC server.
    pub fn server(cluster_id: impl Into<String>, local: LocalBlobs) -> BlobPeerServer<Self> {
        let service = Self {
            cluster_id: cluster_id.into(),
            local,
        };
        BlobPeerServer::new(service)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn check(&self, cluster_id: &str, sha256: &[u8]) -> Result<Digest, Status> {
        if cluster_id != self.cluster_id {
            return Err(refusal(
                ErrorCode::PreconditionFailed,
                format!("this is cluster {}, not {cluster_id}", self.cluster_id),
            ));
        }
        let bytes = sha256
            .try_into()
            .map_err(|_| refusal(ErrorCode::InvalidParameterValue, "a SHA-256 has 32 bytes"))?;
        Ok(Digest::from_bytes(bytes))
    }
}

#[tonic::async_trait]
impl BlobPeer for BlobPeerService {
    type GetBlobStream = BoxStream<'static, Result<pb::BlobChunk, Status>>;

    async fn put_blob(
        &self,
        request: Request<Streaming<pb::PutBlobRequest>>,
    ) -> Result<Response<pb::PutBlobReply>, Status> {
        use pb::put_blob_request::Part;
        let mut parts = request.into_inner();
        let first = parts.message().await?.and_then(|message| message.part);
        let Some(Part::Start(start)) = first else {
            return Err(refusal(
                ErrorCode::InvalidParameterValue,
                "a blob begins with its digest",
            ));
        };
        let digest = self.check(&start.cluster_id, &start.sha256)?;
        let stored = self.local.put_stream(digest, received(digest, parts)).await;
        stored.map_err(|error| status(&error))?;
        Ok(Response::new(pb::PutBlobReply {}))
    }

    async fn get_blob(
        &self,
        request: Request<pb::GetBlobRequest>,
    ) -> Result<Response<Self::GetBlobStream>, Status> {
        let message = request.into_inner();
        let digest = self.check(&message.cluster_id, &message.sha256)?;
        let content = self.local.get_stream(digest).await;
        let content = content.map_err(|error| status(&error))?;
        let chunks = content
            .map_ok(|data| pb::BlobChunk { data })
            .map_err(|error| status(&error));
        Ok(Response::new(chunks.boxed()))
    }

    async fn has_blob(
        &self,
        request: Request<pb::HasBlobRequest>,
    ) -> Result<Response<pb::HasBlobReply>, Status> {
        let message = request.into_inner();
        let digest = self.check(&message.cluster_id, &message.sha256)?;
        let present = self.local.exists(digest).await;
        let present = present.map_err(|error| status(&error))?;
        Ok(Response::new(pb::HasBlobReply { present }))
    }

    async fn delete_blob(
        &self,
        request: Request<pb::DeleteBlobRequest>,
    ) -> Result<Response<pb::DeleteBlobReply>, Status> {
        let message = request.into_inner();
        let digest = self.check(&message.cluster_id, &message.sha256)?;
        let deleted = self.local.delete(digest).await;
        deleted.map_err(|error| status(&error))?;
        Ok(Response::new(pb::DeleteBlobReply {}))
    }
}

/// The pieces after the start. A stream that breaks off ends in an error, so nothing of it is kept.
fn received(digest: Digest, parts: Streaming<pb::PutBlobRequest>) -> BlobStream {
    use pb::put_blob_request::Part;
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
            Some(_) => Err(interrupted(refusal(
                ErrorCode::InvalidParameterValue,
                "a chunk is missing",
            ))),
        }
    })
    .boxed()
}

fn refusal(code: ErrorCode, message: impl Into<String>) -> Status {
    to_status(&Error::new(code, message.into()))
}

fn status(error: &BlobError) -> Status {
    let message = error.to_string();
    match error {
        BlobError::NotFound(_) => refusal(ErrorCode::NotFound, message),
        BlobError::Mismatch { .. } | BlobError::TooLarge { .. } => {
            refusal(ErrorCode::InvalidParameterValue, message)
        }
        BlobError::Full(_) | BlobError::NoMajority { .. } | BlobError::Unsure(_) => {
            refusal(ErrorCode::Unavailable, message)
        }
        BlobError::Corrupted(_) | BlobError::Io { .. } | BlobError::Store { .. } => {
            refusal(ErrorCode::Internal, message)
        }
    }
}
