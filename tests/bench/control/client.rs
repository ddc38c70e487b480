//! What a gateway asks of controllers, asked by the bench itself: operations, code, capacity, the catalog.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use hearth_core::control::{ClusterSummary, ControlReply, ControlRequest};
use hearth_core::function::{CodeRef, FunctionConfig};
use hearth_core::ids::{AccountId, Digest};
use hearth_core::name::FunctionName;
use hearth_node::Seams;
use hearth_node::grpc::{ChannelOptions, ClusterChannel, ClusterIdentity, channel};
use hearth_proto::convert::{decode_answer, encode_request};
use hearth_proto::internal::v1 as pb;
use pb::blobs_client::BlobsClient;
use pb::catalog_client::CatalogClient;
use pb::control_client::ControlClient;
use pb::need_capacity_reply::Outcome;
use sha2::Digest as _;

const CLUSTER_ID: &str = "bench-control";
const TIMEOUT: Duration = Duration::from_secs(30);
/// A decision is asked for as a gateway would: again after a pause while no worker is known.
const NEED_TRIES: u32 = 500;
const NEED_PAUSE: Duration = Duration::from_millis(20);

/// Channels to every controller.
#[derive(Clone, Debug)]
pub(crate) struct Controllers {
    channels: Vec<ClusterChannel>,
    pub(crate) account: AccountId,
}

impl Controllers {
    pub(crate) fn new(addresses: &[String], account: &str) -> anyhow::Result<Self> {
        let identity = ClusterIdentity::known(CLUSTER_ID).context("naming the cluster")?;
        let net = Seams::system().net;
        let channels = addresses
            .iter()
            .map(|addr| channel(&net, addr, &ChannelOptions::default(), &identity));
        Ok(Self {
            channels: channels
                .collect::<Result<_, _>>()
                .context("connecting to controllers")?,
            account: account.parse().context("reading the account")?,
        })
    }

    fn control(&self, turn: usize) -> ControlClient<ClusterChannel> {
        ControlClient::new(self.channels[turn % self.channels.len()].clone())
    }

    /// Runs an operation at the controller whose turn it is.
    pub(crate) async fn execute(
        &self,
        turn: usize,
        request: &ControlRequest,
    ) -> anyhow::Result<ControlReply> {
        let mut control = self.control(turn).max_decoding_message_size(64 << 20);
        let call = control.execute(encode_request(request));
        let answer = tokio::time::timeout(TIMEOUT, call)
            .await
            .context("waiting for a controller")?
            .context("asking a controller")?;
        decode_answer(answer.get_ref()).map_err(|error| anyhow::anyhow!("refused: {error}"))
    }

    pub(crate) async fn cluster(&self, turn: usize) -> anyhow::Result<ClusterSummary> {
        match self.execute(turn, &ControlRequest::ClusterStatus).await? {
            ControlReply::Cluster(summary) => Ok(summary),
            other => bail!("a status that is none: {other:?}"),
        }
    }

    /// Puts a package; all functions of the bench share one.
    pub(crate) async fn put(&self, package: Vec<u8>) -> anyhow::Result<CodeRef> {
        let digest: [u8; 32] = sha2::Sha256::digest(&package).into();
        let size_bytes = package.len() as u64;
        let start = pb::BlobStart {
            cluster_id: CLUSTER_ID.to_owned(),
            sha256: Bytes::copy_from_slice(&digest),
        };
        let parts = [
            pb::put_blob_request::Part::Start(start),
            pb::put_blob_request::Part::Chunk(package.into()),
        ];
        let parts = parts.map(|part| pb::PutBlobRequest { part: Some(part) });
        BlobsClient::new(self.channels[0].clone())
            .put(futures::stream::iter(parts))
            .await
            .context("storing the package")?;
        Ok(CodeRef {
            digest: Digest(digest),
            size_bytes,
            unpacked_bytes: 0,
            image: None,
        })
    }

    pub(crate) fn create(&self, name: &FunctionName, code: &CodeRef) -> ControlRequest {
        let mut config = FunctionConfig::with_defaults("arn:aws:iam::000000000000:role/b".into());
        config.runtime = Some("provided.al2023".to_owned());
        config.handler = Some("bootstrap".to_owned());
        ControlRequest::CreateFunction {
            account: self.account.clone(),
            name: name.clone(),
            config,
            code: code.clone(),
            tags: std::collections::BTreeMap::default(),
            code_signing: None,
        }
    }

    pub(crate) fn reserve(&self, name: &FunctionName, reserved: u32) -> ControlRequest {
        ControlRequest::SetReservedConcurrency {
            account: self.account.clone(),
            name: name.clone(),
            reserved: Some(reserved),
        }
    }

    /// One cold-start decision: a worker that holds a permit of the function, committed and taken.
    pub(crate) async fn need(&self, turn: usize, name: &FunctionName) -> anyhow::Result<()> {
        let request = pb::NeedCapacityRequest {
            gateway_id: 1,
            account: self.account.as_str().to_owned(),
            function: name.to_string(),
            wanted: 1,
            refused_by: Vec::new(),
            ejected: Vec::new(),
            memory_mib: 0,
        };
        for _ in 0..NEED_TRIES {
            let mut control = self.control(turn);
            let call = control.need_capacity(request.clone());
            match tokio::time::timeout(TIMEOUT, call).await {
                Ok(Ok(reply)) => {
                    let reply = reply.into_inner();
                    match reply.outcome() {
                        Outcome::Granted => return Ok(()),
                        // A new leader that has not heard its workers yet.
                        Outcome::NoWorker => tokio::time::sleep(NEED_PAUSE).await,
                        other => bail!("{name}: {other:?} {}", reply.reason),
                    }
                }
                // "Ask again."
                Ok(Err(status)) if status.code() == tonic::Code::Unavailable => {}
                Ok(Err(status)) => bail!("{name}: {status}"),
                Err(_) => bail!("{name}: no answer in {TIMEOUT:?}"),
            }
        }
        bail!("{name}: asked too often")
    }

    /// Watches the catalog as a gateway does, from the controller whose turn it is.
    pub(crate) async fn watch(
        &self,
        turn: usize,
    ) -> anyhow::Result<tonic::Streaming<pb::CatalogUpdate>> {
        let request = pb::WatchCatalogRequest {
            node_id: 9_100 + turn as u64,
            audience: pb::watch_catalog_request::Audience::Gateway.into(),
            ..pb::WatchCatalogRequest::default()
        };
        let channel = self.channels[turn % self.channels.len()].clone();
        let watching = CatalogClient::new(channel)
            .max_decoding_message_size(64 << 20)
            .watch(request)
            .await
            .context("watching the catalog")?;
        Ok(watching.into_inner())
    }
}
