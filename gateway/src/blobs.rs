//! Code packages to and from the cluster's blob store, through any controller: durable before a command names them,
//! verified when read. What a package must contain is checked in `lambda/code`.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use hearth_core::error::{Error, ErrorCode, Result};
use hearth_core::ids::Digest;
use hearth_core::limits::ZIPPED_MAX_BYTES;
use hearth_node::grpc::ClusterChannel as Channel;
use hearth_proto::internal::v1 as pb;
use pb::blobs_client::BlobsClient;
use pb::put_blob_request::Part;
use sha2::Digest as _;
use tonic::Status;

use crate::controllers::Controllers;

/// Piece of a package on its way; the protocol takes at most 256 KiB.
const CHUNK_BYTES: usize = 128 << 10;
/// One package to or from one controller.
const TIMEOUT: Duration = Duration::from_secs(60);

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Blobs {
    controllers: Arc<Controllers>,
    cluster_id: String,
}

impl Blobs {
    pub(crate) fn new(controllers: Arc<Controllers>, cluster_id: String) -> Self {
        Self {
            controllers,
            cluster_id,
        }
    }

    /// Durable when it returns, in the way of the cluster's store (on a majority of the controllers by default).
    /// Content has its digest as name, so that storing it twice does no harm and the next controller may be asked.
    pub(crate) async fn put(&self, digest: &Digest, content: Bytes) -> Result<()> {
        let mut last = None;
        for channel in self.controllers.channels() {
            match self.put_on(channel.clone(), *digest, content.clone()).await {
                Ok(()) => return Ok(()),
                Err(status) => last = Some(status),
            }
        }
        Err(failure(last.as_ref()))
    }

    async fn put_on(&self, channel: Channel, digest: Digest, content: Bytes) -> Result<(), Status> {
        let start = pb::BlobStart {
            cluster_id: self.cluster_id.clone(),
            sha256: Bytes::copy_from_slice(&digest.0),
        };
        let chunks = stream::unfold(content, |mut rest| async move {
            if rest.is_empty() {
                return None;
            }
            let chunk = rest.split_to(rest.len().min(CHUNK_BYTES));
            Some((Part::Chunk(chunk), rest))
        });
        let parts = stream::once(async { Part::Start(start) })
            .chain(chunks)
            .map(|part| pb::PutBlobRequest { part: Some(part) });
        let mut client = BlobsClient::new(channel);
        let put = tokio::time::timeout(TIMEOUT, client.put(parts)).await;
        put.unwrap_or_else(|_| Err(Status::deadline_exceeded("the blob was not stored in time")))?;
        Ok(())
    }

    /// The package, from the first controller that has it.
    pub(crate) async fn get(&self, digest: &Digest) -> Result<Bytes> {
        let mut last = None;
        for channel in self.controllers.channels() {
            match tokio::time::timeout(TIMEOUT, self.get_from(channel.clone(), digest)).await {
                Ok(Ok(content)) => return Ok(content),
                Ok(Err(status)) => last = Some(status),
                Err(_) => last = Some(Status::deadline_exceeded("the blob was not sent in time")),
            }
        }
        Err(failure(last.as_ref()))
    }

    async fn get_from(&self, channel: Channel, digest: &Digest) -> Result<Bytes, Status> {
        let request = pb::GetBlobRequest {
            cluster_id: self.cluster_id.clone(),
            sha256: Bytes::copy_from_slice(&digest.0),
        };
        let mut chunks = BlobsClient::new(channel).get(request).await?.into_inner();
        let mut content = BytesMut::new();
        while let Some(chunk) = chunks.message().await? {
            if content.len() + chunk.data.len() > ZIPPED_MAX_BYTES {
                return Err(Status::data_loss(
                    "the blob is larger than a package can be",
                ));
            }
            content.extend_from_slice(&chunk.data);
        }
        if <[u8; 32]>::from(sha2::Sha256::digest(&content)) != digest.0 {
            return Err(Status::data_loss("the blob is not what its digest says"));
        }
        Ok(content.freeze())
    }
}

fn failure(status: Option<&Status>) -> Error {
    match status {
        Some(status) if status.code() == tonic::Code::ResourceExhausted => {
            tracing::error!(%status, "no room for code packages");
            Error::new(
                ErrorCode::Unavailable,
                "The cluster has no room to store the function's code.",
            )
        }
        // The controller says what is wrong, a full disk for example; it is for the operator's log.
        Some(status) => {
            tracing::warn!(%status, "code package could not be stored or read");
            Error::new(
                ErrorCode::Unavailable,
                "The function's code could not be stored or read. Try again.",
            )
        }
        None => Error::new(ErrorCode::Unavailable, "There are no controllers."),
    }
}
