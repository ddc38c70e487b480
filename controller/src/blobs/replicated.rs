//! Blobs on a majority of the controllers: put here and at peers before success, read from here or from
//! whichever peer has it. Files are [`super::local`]'s.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{Stream, StreamExt, TryStreamExt, future, stream};
use hearth_proto::internal::v1 as pb;
use hearth_proto::internal::v1::blob_peer_client::BlobPeerClient;
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::read::checked;
use super::service::MAX_MESSAGE_BYTES;
use super::{BlobError, BlobInfo, BlobStore, BlobStream, Digest, LocalBlobs, collect};
use crate::raft::{Consensus, Dialer, Machine};

/// Deadline of one transfer: 256 MiB at a few MB per second.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(120);
/// Deadline of a question.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// The controllers at the moment, this one among them: id and address.
pub trait BlobPeers: Send + Sync + fmt::Debug + 'static {
    /// All controllers that count for a majority.
    fn controllers(&self) -> BTreeMap<u64, String>;
}

/// Controllers serve blobs where they serve Raft, and the voters are those that count.
impl<M: Machine> BlobPeers for Consensus<M> {
    fn controllers(&self) -> BTreeMap<u64, String> {
        self.members().voters
    }
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

    /// Streams the copy here to one peer.
    async fn put_at(self, address: String, digest: Digest) -> Result<(), String> {
        let start = pb::BlobStart {
            cluster_id: self.cluster_id.clone(),
            sha256: Self::sha256(digest),
        };
        let content = self.local.get_stream(digest).await;
        let content = content.map_err(|error| error.to_string())?;
        let parts = put_parts(start, content);
        let mut client = self.client(&address)?;
        let put = client.put_blob(with_deadline(parts, TRANSFER_TIMEOUT));
        match tokio::time::timeout(TRANSFER_TIMEOUT, put).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(format!("{address}: {}", status.message())),
            Err(_) => Err(format!("{address}: no answer in {TRANSFER_TIMEOUT:?}")),
        }
    }

    /// The blob from one peer, unchecked; `None` if that peer has none or does not answer.
    async fn fetch(&self, address: &str, digest: Digest) -> Option<BlobStream> {
        let request = with_deadline(
            pb::GetBlobRequest {
                cluster_id: self.cluster_id.clone(),
                sha256: Self::sha256(digest),
            },
            TRANSFER_TIMEOUT,
        );
        let mut client = self.client(address).ok()?;
        let reply = tokio::time::timeout(ASK_TIMEOUT, client.get_blob(request)).await;
        let chunks = match reply.ok()? {
            Ok(reply) => reply.into_inner(),
            Err(status) => {
                if status.code() != Code::NotFound {
                    tracing::warn!(%digest, address, %status, "peer cannot hand out a blob");
                }
                return None;
            }
        };
        let chunks = chunks
            .map_ok(|chunk| chunk.data)
            .map_err(move |status| BlobError::Io {
                action: "receive",
                digest,
                source: status.into(),
            });
        Some(chunks.boxed())
    }

    /// The blob from the first peer that has it, kept here if there is room.
    async fn repair(&self, digest: Digest) -> Result<BlobStream, BlobError> {
        for address in self.others().values() {
            let Some(content) = self.fetch(address, digest).await else {
                continue;
            };
            let kept = self.local.put_stream(digest, content);
            match tokio::time::timeout(TRANSFER_TIMEOUT, kept).await {
                Ok(Ok(())) => return self.local.get_stream(digest).await,
                Ok(Err(BlobError::Full(_))) => {
                    if let Some(content) = self.fetch(address, digest).await {
                        return Ok(checked(digest, content, || ()));
                    }
                }
                Ok(Err(error)) => {
                    tracing::warn!(%digest, address, %error, "blob of a peer cannot be kept");
                }
                Err(_) => tracing::warn!(%digest, address, "peer is too slow for a blob"),
            }
        }
        Err(BlobError::NotFound(digest))
    }

    /// What a peer says; none when it says nothing.
    async fn has(&self, address: &str, digest: Digest) -> Option<bool> {
        let request = with_deadline(
            pb::HasBlobRequest {
                cluster_id: self.cluster_id.clone(),
                sha256: Self::sha256(digest),
            },
            ASK_TIMEOUT,
        );
        let mut client = self.client(address).ok()?;
        let asked = tokio::time::timeout(ASK_TIMEOUT, client.has_blob(request)).await;
        Some(asked.ok()?.ok()?.get_ref().present)
    }
}

/// The messages of a put. A copy that turns out corrupted ends early, and the peer refuses what it got.
fn put_parts(start: pb::BlobStart, content: BlobStream) -> PutParts {
    use pb::put_blob_request::Part;
    let chunks = content
        .take_while(|chunk| future::ready(chunk.is_ok()))
        .filter_map(|chunk| future::ready(chunk.ok().map(Part::Chunk)));
    let parts = stream::once(future::ready(Part::Start(start))).chain(chunks);
    PutParts(
        parts
            .map(|part| pb::PutBlobRequest { part: Some(part) })
            .boxed(),
    )
}

/// A named type, because the compiler cannot prove a task `Send` that holds the boxed one across an await.
struct PutParts(BoxStream<'static, pb::PutBlobRequest>);

impl Stream for PutParts {
    type Item = pb::PutBlobRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
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
        // Kept here first: the peers' copies are made from a checked one.
        self.local.put_stream(expected, content).await?;
        let mut controllers = self.peers.controllers();
        let needed = controllers.len() / 2 + 1;
        let mut stored = usize::from(controllers.remove(&self.node_id).is_some());
        if stored >= needed {
            return Ok(());
        }
        let mut copies: FuturesUnordered<_> = controllers
            .into_values()
            .map(|address| {
                let store = self.clone();
                // A task, so that the copies beyond the majority are made too.
                tokio::spawn(async move { store.put_at(address, expected).await })
            })
            .collect();
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
            Err(BlobError::NotFound(_)) => self.repair(digest).await,
            other => other,
        }
    }

    async fn get(&self, digest: Digest) -> Result<Bytes, BlobError> {
        match self.local.get(digest).await {
            Err(BlobError::NotFound(_) | BlobError::Corrupted(_)) => {
                collect(self.repair(digest).await?).await
            }
            other => other,
        }
    }

    /// A copy anywhere will do. That there is none is said only when so many deny it that no majority can have it.
    async fn exists(&self, digest: Digest) -> Result<bool, BlobError> {
        if self.local.exists(digest).await? {
            return Ok(true);
        }
        let mut others = self.peers.controllers();
        let most_absent = others.len().saturating_sub(1) / 2;
        let mut absent = usize::from(others.remove(&self.node_id).is_some());
        let mut asked: FuturesUnordered<_> = others
            .values()
            .map(|address| self.has(address, digest))
            .collect();
        while let Some(answer) = asked.next().await {
            match answer {
                Some(true) => return Ok(true),
                Some(false) => absent += 1,
                None => {}
            }
        }
        if absent > most_absent {
            return Ok(false);
        }
        Err(BlobError::Unsure(digest))
    }

    /// Deletes the copy here. Each controller collects its own garbage, by the same rule.
    async fn delete(&self, digest: Digest) -> Result<(), BlobError> {
        self.local.delete(digest).await
    }

    async fn delete_unchanged(&self, info: &BlobInfo) -> Result<bool, BlobError> {
        self.local.delete_unchanged(info).await
    }

    /// The copies here.
    async fn list(&self) -> Result<Vec<BlobInfo>, BlobError> {
        self.local.list().await
    }
}
