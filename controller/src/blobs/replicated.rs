//! Blobs on a majority of the controllers: put here and at peers before success, read from here or from
//! whichever peer has it. Files are [`super::local`]'s.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hearth_proto::internal::v1 as pb;
use hearth_proto::internal::v1::blob_peer_client::BlobPeerClient;
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::service::MAX_MESSAGE_BYTES;
use super::{
    BlobError, BlobInfo, BlobStore, BlobStream, CHUNK_BYTES, Digest, LocalBlobs, in_chunks,
};
use crate::raft::Dialer;

/// Deadline of one transfer: 256 MiB at a few MB per second.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(120);
/// Deadline of a question.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// The controllers at the moment, this one among them: id and address.
pub trait BlobPeers: Send + Sync + fmt::Debug + 'static {
    /// All controllers that count for a majority.
    fn controllers(&self) -> BTreeMap<u64, String>;
}

/// The blob store of a cluster of controllers.
#[derive(Debug, Clone)]
pub struct ReplicatedBlobs {
    node_id: u64,
    cluster_id: String,
    local: LocalBlobs,
    peers: Arc<dyn BlobPeers>,
    dialer: Arc<dyn Dialer>,
    channels: Arc<Mutex<BTreeMap<String, Channel>>>,
}

impl ReplicatedBlobs {
    /// The store of controller `node_id`.
    pub fn new(
        node_id: u64,
        cluster_id: impl Into<String>,
        local: LocalBlobs,
        peers: Arc<dyn BlobPeers>,
        dialer: Arc<dyn Dialer>,
    ) -> Self {
        Self {
            node_id,
            cluster_id: cluster_id.into(),
            local,
            peers,
            dialer,
            channels: Arc::default(),
        }
    }

    /// This controller's own copies.
    pub fn local(&self) -> &LocalBlobs {
        &self.local
    }

    fn others(&self) -> BTreeMap<u64, String> {
        let mut controllers = self.peers.controllers();
        controllers.remove(&self.node_id);
        controllers
    }

    fn client(&self, address: &str) -> Result<BlobPeerClient<Channel>, String> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match channels.get(address) {
            Some(channel) => channel.clone(),
            None => {
                let known = self.peers.controllers();
                channels.retain(|address, _| known.values().any(|known| known == address));
                let channel = self.dialer.dial(address)?;
                channels.insert(address.to_owned(), channel.clone());
                channel
            }
        };
        Ok(BlobPeerClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    fn sha256(digest: Digest) -> Bytes {
        Bytes::copy_from_slice(digest.as_bytes())
    }

    /// Puts a copy at one peer.
    async fn put_at(&self, address: &str, digest: Digest, content: Bytes) -> Result<(), String> {
        use pb::put_blob_request::Part;
        let start = pb::BlobStart {
            cluster_id: self.cluster_id.clone(),
            sha256: Self::sha256(digest),
            length: content.len() as u64,
        };
        let mut rest = content;
        let chunks = std::iter::from_fn(move || {
            let length = rest.len().min(CHUNK_BYTES);
            (length > 0).then(|| Part::Chunk(rest.split_to(length)))
        });
        let parts = std::iter::once(Part::Start(start)).chain(chunks);
        let parts = parts.map(|part| pb::PutBlobRequest { part: Some(part) });
        let request = with_deadline(tokio_stream::iter(parts), TRANSFER_TIMEOUT);
        let mut client = self.client(address)?;
        let put = tokio::time::timeout(TRANSFER_TIMEOUT, client.put_blob(request)).await;
        match put {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(format!("{address}: {}", status.message())),
            Err(_) => Err(format!("{address}: no answer in {TRANSFER_TIMEOUT:?}")),
        }
    }

    /// Fetches the blob from one peer and checks it; `None` if that peer has no good copy.
    async fn get_from(&self, address: &str, digest: Digest) -> Option<Bytes> {
        let request = with_deadline(
            pb::GetBlobRequest {
                cluster_id: self.cluster_id.clone(),
                sha256: Self::sha256(digest),
            },
            TRANSFER_TIMEOUT,
        );
        let fetch = async {
            let mut client = self.client(address).ok()?;
            let mut chunks = match client.get_blob(request).await {
                Ok(reply) => reply.into_inner(),
                Err(status) if status.code() == Code::NotFound => return None,
                Err(status) => {
                    tracing::warn!(%digest, address, %status, "peer cannot hand out a blob");
                    return None;
                }
            };
            let mut content = Vec::new();
            let mut check = super::read::Check::default();
            while let Some(chunk) = chunks.message().await.ok()? {
                check.add(&chunk.data).ok()?;
                content.extend_from_slice(&chunk.data);
            }
            (check.digest() == digest).then(|| content.into())
        };
        tokio::time::timeout(TRANSFER_TIMEOUT, fetch).await.ok()?
    }

    /// Fetches the blob from the first peer that has it and keeps it here.
    async fn repair(&self, digest: Digest) -> Result<Bytes, BlobError> {
        for address in self.others().values() {
            if let Some(content) = self.get_from(address, digest).await {
                if let Err(error) = self.local.put(digest, content.clone()).await {
                    tracing::warn!(%digest, %error, "blob of a peer cannot be kept here");
                }
                return Ok(content);
            }
        }
        Err(BlobError::NotFound(digest))
    }

    async fn has(&self, address: &str, digest: Digest) -> bool {
        let request = with_deadline(
            pb::HasBlobRequest {
                cluster_id: self.cluster_id.clone(),
                sha256: Self::sha256(digest),
            },
            ASK_TIMEOUT,
        );
        let Ok(mut client) = self.client(address) else {
            return false;
        };
        let asked = tokio::time::timeout(ASK_TIMEOUT, client.has_blob(request)).await;
        matches!(asked, Ok(Ok(reply)) if reply.get_ref().present)
    }
}

fn with_deadline<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

#[async_trait]
impl BlobStore for ReplicatedBlobs {
    /// Success once a majority of the controllers has it. Copies beyond the majority are still being made
    /// then; one that fails is repaired when it is first read.
    async fn put_stream(&self, expected: Digest, content: BlobStream) -> Result<(), BlobError> {
        // Kept here first: the peers' copies are read from a checked one.
        self.local.put_stream(expected, content).await?;
        let others = self.others();
        let needed = (others.len() + 1) / 2 + 1;
        if needed == 1 {
            return Ok(());
        }
        let content = self.local.get(expected).await?;
        let mut copies: FuturesUnordered<_> = others
            .into_values()
            .map(|address| {
                let (store, content) = (self.clone(), content.clone());
                tokio::spawn(async move { store.put_at(&address, expected, content).await })
            })
            .collect();
        let mut stored = 1;
        let mut detail = Vec::new();
        while let Some(copy) = copies.next().await {
            match copy {
                Ok(Ok(())) => stored += 1,
                Ok(Err(error)) => detail.push(error),
                Err(error) => detail.push(error.to_string()),
            }
            if stored >= needed {
                return Ok(());
            }
        }
        Err(BlobError::NoMajority {
            digest: expected,
            stored,
            needed,
            detail: detail.join("; "),
        })
    }

    /// From here if there is a good copy here, else from a peer. A copy that turns out corrupted while it is
    /// streamed ends the stream with an error and is put aside; [`BlobStore::get`] then asks the peers.
    async fn get_stream(&self, digest: Digest) -> Result<BlobStream, BlobError> {
        match self.local.get_stream(digest).await {
            Err(BlobError::NotFound(_)) => Ok(in_chunks(self.repair(digest).await?)),
            other => other,
        }
    }

    async fn get(&self, digest: Digest) -> Result<Bytes, BlobError> {
        match self.local.get(digest).await {
            Err(BlobError::NotFound(_) | BlobError::Corrupted(_)) => self.repair(digest).await,
            other => other,
        }
    }

    async fn exists(&self, digest: Digest) -> Result<bool, BlobError> {
        if self.local.exists(digest).await? {
            return Ok(true);
        }
        let others = self.others();
        let asked: FuturesUnordered<_> = others
            .values()
            .map(|address| self.has(address, digest))
            .collect();
        Ok(asked.any(|present| async move { present }).await)
    }

    /// Deletes the copy here. Each controller collects its own garbage, by the same rule.
    async fn delete(&self, digest: Digest) -> Result<(), BlobError> {
        self.local.delete(digest).await
    }

    /// The copies here.
    async fn list(&self) -> Result<Vec<BlobInfo>, BlobError> {
        self.local.list().await
    }
}
