//! Every controller comes to hold every blob that functions name: one that joined has none, one that was away lacks
//! some. Without this, removing the controllers that took a blob would lose it. How a blob is fetched is `blobs`'.

use std::collections::BTreeSet;
use std::time::Duration;

use hearth_node::grpc;
use hearth_proto::internal::v1 as pb;
use pb::blob_peer_client::BlobPeerClient;
use tokio_util::sync::CancellationToken;

use crate::api::forward::Controllers;
use crate::blobs::{BlobStore, Digest, LocalBlobs};
use crate::machine::ReplicatedState;
use crate::raft::Consensus;

/// How often what is named is compared with what is here.
const EVERY: Duration = Duration::from_secs(1);
/// How long a change of members waits for copies.
const COPIES_TIMEOUT: Duration = Duration::from_secs(50);

/// Fetches missing blobs, one after the other, until `stop`. `store` keeps here what it hands out.
pub(crate) async fn run(
    consensus: Consensus<ReplicatedState>,
    local: LocalBlobs,
    store: std::sync::Arc<dyn BlobStore>,
    stop: CancellationToken,
) {
    let mut here = BTreeSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let named = named(&consensus);
        here.retain(|digest| named.contains(digest));
        for digest in named {
            if here.contains(&digest) {
                continue;
            }
            let fetched = tokio::select! {
                () = stop.cancelled() => return,
                fetched = fetch(&local, &*store, digest) => fetched,
            };
            if fetched {
                here.insert(digest);
            }
        }
    }
}

/// Digests of the blobs that functions name, as far as this node has heard.
pub(crate) fn named(consensus: &Consensus<ReplicatedState>) -> BTreeSet<Digest> {
    let digests = consensus.read(|m| m.state().digests());
    let digests = digests.into_iter();
    digests.map(|d| Digest::from_bytes(d.0)).collect()
}

/// Asks controllers for copies, on behalf of a change of members.
#[derive(Clone, Debug)]
pub(crate) struct Copies {
    pub(crate) cluster_id: String,
    pub(crate) consensus: Consensus<ReplicatedState>,
    pub(crate) controllers: Controllers,
}

impl Copies {
    /// Whether, within [`COPIES_TIMEOUT`], a majority of the controllers at these addresses has every blob that functions
    /// name.
    pub(crate) async fn are_at_majority_of(&self, addrs: &[String]) -> bool {
        let mut safe = BTreeSet::new();
        let all = async {
            loop {
                let mut is_complete = true;
                for digest in named(&self.consensus) {
                    if !safe.contains(&digest) && self.count(addrs, digest).await > addrs.len() / 2
                    {
                        safe.insert(digest);
                    }
                    is_complete &= safe.contains(&digest);
                }
                if is_complete {
                    return;
                }
                tokio::time::sleep(EVERY / 5).await;
            }
        };
        tokio::time::timeout(COPIES_TIMEOUT, all).await.is_ok()
    }

    async fn count(&self, addrs: &[String], digest: Digest) -> usize {
        let mut count = 0;
        for addr in addrs {
            let Ok(channel) = self.controllers.channel(addr) else {
                continue;
            };
            let request = pb::HasBlobRequest {
                cluster_id: self.cluster_id.clone(),
                sha256: digest.as_bytes().to_vec().into(),
            };
            let mut client = BlobPeerClient::new(channel);
            let asked = grpc::with_deadline(client.has_blob(request), EVERY).await;
            count += usize::from(asked.is_ok_and(|reply| reply.get_ref().present));
        }
        count
    }
}

async fn fetch(local: &LocalBlobs, store: &dyn BlobStore, digest: Digest) -> bool {
    if matches!(local.exists(digest).await, Ok(true)) {
        return true;
    }
    match store.get_stream(digest).await {
        Ok(_) => {
            let kept = matches!(local.exists(digest).await, Ok(true));
            tracing::info!(%digest, kept, "blob fetched from another controller");
            kept
        }
        Err(error) => {
            tracing::debug!(%digest, %error, "blob is not here yet");
            false
        }
    }
}
