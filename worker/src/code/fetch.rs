//! Fetches packages from controllers and images from registries, each verified while it is written. What is done with them is in
//! [`super`].

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hearth_core::function::CodeRef;
use hearth_core::ids::Digest;
use hearth_core::image::{Descriptor, Reference};
use hearth_node::{Seams, blocking};
use hearth_proto::internal::v1 as pb;
use hearth_registry::{Image, Registry};
use pb::blob_peer_client::BlobPeerClient;
use sha2::{Digest as _, Sha256};
use tracing::debug;

use super::{CodeError, PackageSource};
use crate::controllers::Controllers;

/// Rounds over all controllers before a fetch is given up.
const ROUNDS: u32 = 3;

/// Pause between rounds.
const PAUSE: Duration = Duration::from_millis(200);

/// Longest wait for the next piece of a package.
const CHUNK_DEADLINE: Duration = Duration::from_secs(10);

/// Longest piece, bytes; more is refused.
const CHUNK_MAX_BYTES: usize = 1 << 20;

/// The controllers as a source, and the registries for images.
#[derive(Debug)]
pub(crate) struct FromControllers {
    pub(crate) controllers: Controllers,
    pub(crate) cluster_id: String,
    pub(crate) seams: Seams,
    pub(crate) registry: Registry,
}

#[async_trait]
impl PackageSource for FromControllers {
    async fn fetch(&self, code: &CodeRef, file: &Path) -> Result<(), CodeError> {
        let mut reasons = Vec::new();
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(PAUSE * round).await;
            }
            reasons.clear();
            // A controller has its own copies only, and not all have all: ask in turn, from a random one on.
            for controller in self.controllers.in_random_order(&self.seams) {
                match self.fetch_from(&controller, code, file).await {
                    Ok(()) => return Ok(()),
                    Err(Failure::Peer(reason)) => {
                        debug!(%controller, reason, "package not fetched");
                        reasons.push(format!("{controller}: {reason}"));
                    }
                    Err(Failure::Own(error)) => return Err(error),
                }
            }
        }
        Err(CodeError::Fetch {
            digest: code.digest,
            reason: if reasons.is_empty() {
                "no controller is known".to_owned()
            } else {
                reasons.join("; ")
            },
        })
    }

    async fn image(&self, reference: &Reference, architecture: &str) -> Result<Image, CodeError> {
        Ok(self.registry.image(reference, architecture).await?)
    }

    async fn layer(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        file: &Path,
    ) -> Result<(), CodeError> {
        Ok(self.registry.layer(reference, blob, file).await?)
    }
}

enum Failure {
    /// Another controller may do better.
    Peer(String),
    /// The disk here.
    Own(CodeError),
}

async fn create(path: &Path) -> io::Result<File> {
    let path = path.to_owned();
    let created = blocking::run(move || File::create(path)).await;
    created.unwrap_or_else(|ended| Err(io::Error::other(ended)))
}

async fn write(mut file: File, data: Bytes) -> io::Result<File> {
    let written = blocking::run(move || file.write_all(&data).map(|()| file)).await;
    written.unwrap_or_else(|ended| Err(io::Error::other(ended)))
}

impl FromControllers {
    async fn fetch_from(&self, addr: &str, code: &CodeRef, path: &Path) -> Result<(), Failure> {
        let peer = |status: &dyn std::fmt::Display| Failure::Peer(status.to_string());
        let own = |source| {
            let path = path.to_owned();
            Failure::Own(CodeError::Disk { path, source })
        };
        let channel = self.controllers.channel(addr).map_err(|e| peer(&e))?;
        let mut client = BlobPeerClient::new(channel).max_decoding_message_size(CHUNK_MAX_BYTES);
        let request = pb::GetBlobRequest {
            cluster_id: self.cluster_id.clone(),
            sha256: code.digest.0.to_vec().into(),
        };
        let opened = hearth_node::grpc::with_deadline(client.get_blob(request), CHUNK_DEADLINE);
        let mut chunks = opened.await.map_err(|e| peer(&e.message()))?.into_inner();
        let mut file = create(path).await.map_err(own)?;
        let (mut hash, mut length) = (Sha256::new(), 0);
        loop {
            let next = hearth_node::grpc::with_deadline(chunks.message(), CHUNK_DEADLINE);
            let Some(chunk) = next.await.map_err(|e| peer(&e.message()))? else {
                break;
            };
            length += chunk.data.len() as u64;
            if length > code.size_bytes {
                return Err(peer(&"more bytes than the package has"));
            }
            hash.update(&chunk.data);
            file = write(file, chunk.data).await.map_err(own)?;
        }
        if Digest(hash.finalize().into()) != code.digest {
            return Err(peer(&"the content does not have the digest"));
        }
        Ok(())
    }
}
