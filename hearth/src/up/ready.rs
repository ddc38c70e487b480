//! Tells people and programs that the cluster answers: what is printed, and the ready file.

use std::time::Duration;

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;

use hearth_node::Seams;
use hearth_node::data_dir::write_atomic;

use super::plan::{Cluster, Node, Role};
use super::supervise::Pids;
use crate::cli::{AuthMode, UpArgs};
use crate::credentials::Credentials;

/// How long a cluster may take until it answers for the first time.
const FIRST_READY: Duration = Duration::from_secs(120);
/// How often nodes are asked. Cheap: a loopback request each.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How long a node may take to say whether it is ready.
const ASK_DEADLINE: Duration = Duration::from_secs(1);

/// Everything needed to announce a cluster.
#[derive(Debug)]
pub(crate) struct Announcement<'a> {
    pub(crate) args: &'a UpArgs,
    pub(crate) cluster: &'a Cluster,
    pub(crate) credentials: &'a Credentials,
}

#[derive(Serialize)]
struct ReadyFile<'a> {
    endpoint: String,
    endpoints: Vec<String>,
    access_key_id: &'a str,
    secret_access_key: &'a str,
    region: &'a str,
    account_id: &'a str,
    nodes: Vec<ReadyNode<'a>>,
}

#[derive(Serialize)]
struct ReadyNode<'a> {
    #[serde(flatten)]
    node: &'a Node,
    pid: u32,
    ready: bool,
}

impl Announcement<'_> {
    /// Waits until all nodes are ready, announces that, and keeps the ready file true from then on. Ends with an error only.
    pub(crate) async fn when_ready(&self, pids: &Pids, seams: &Seams) -> anyhow::Result<()> {
        let mut announced: Option<(Vec<u32>, Vec<bool>)> = None;
        let begun = seams.clock.monotonic_ms();
        loop {
            let before = pids.all();
            let ready = self.readiness(&before).await;
            let now = (before, ready);
            if pids.all() == now.0 {
                let all = now.1.iter().all(|ready| *ready);
                if all && announced.is_none() {
                    self.write_ready_file(&now.0, &now.1)?;
                    println!("{}", self.text());
                    announced = Some(now);
                } else if announced.as_ref().is_some_and(|last| *last != now) {
                    self.write_ready_file(&now.0, &now.1)?;
                    announced = Some(now);
                }
            }
            let waited = Duration::from_millis(seams.clock.monotonic_ms().saturating_sub(begun));
            if announced.is_none() && waited > FIRST_READY {
                let logs = self.args.data_dir.join("logs");
                bail!(
                    "the cluster is not ready after {} s; see the logs in {}",
                    FIRST_READY.as_secs(),
                    logs.display()
                );
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    async fn readiness(&self, pids: &[u32]) -> Vec<bool> {
        let asks = self
            .cluster
            .nodes
            .iter()
            .zip(pids)
            .map(|(node, pid)| async move { *pid != 0 && is_ready(node).await });
        futures::future::join_all(asks).await
    }

    /// Written whole or not at all: readers never see half of it.
    pub(crate) fn write_ready_file(&self, pids: &[u32], ready: &[bool]) -> anyhow::Result<()> {
        let Some(path) = &self.args.ready_file else {
            return Ok(());
        };
        let nodes = self
            .cluster
            .nodes
            .iter()
            .zip(pids.iter().zip(ready))
            .map(|(node, (pid, ready))| ReadyNode {
                node,
                pid: *pid,
                ready: *ready,
            })
            .collect();
        let endpoints: Vec<String> = super::addresses(self.cluster, Role::Gateway)
            .map(|a| format!("http://{a}"))
            .collect();
        let file = ReadyFile {
            endpoint: endpoints
                .first()
                .cloned()
                .context("a cluster has a gateway")?,
            endpoints,
            access_key_id: &self.credentials.access_key_id,
            secret_access_key: &self.credentials.secret_access_key,
            region: &self.cluster.region,
            account_id: &self.cluster.account_id,
            nodes,
        };
        let bytes = serde_json::to_vec_pretty(&file).context("encoding the ready file")?;
        write_atomic(path, &bytes, 0o600).with_context(|| format!("writing {}", path.display()))
    }

    /// What a person needs next.
    pub(crate) fn text(&self) -> String {
        let endpoint = super::addresses(self.cluster, Role::Gateway)
            .next()
            .map(|a| format!("http://{a}"))
            .unwrap_or_default();
        let count = |role| super::addresses(self.cluster, role).count();
        let warning = match self.args.auth {
            AuthMode::Sigv4 => "",
            AuthMode::Any => {
                "\n  WARNING: --auth any: every request is accepted, whoever signed it. For development only.\n"
            }
        };
        format!(
            "\nHearth is ready: {} controller(s), {} worker(s), {} gateway(s). Ctrl-C stops it.\n{warning}\n  \
             export AWS_ENDPOINT_URL={endpoint}\n  export AWS_ACCESS_KEY_ID={}\n  export AWS_SECRET_ACCESS_KEY={}\n  \
             export AWS_DEFAULT_REGION={}\n\n  aws --endpoint-url {endpoint} lambda list-functions\n",
            count(Role::Controller),
            count(Role::Worker),
            count(Role::Gateway),
            self.credentials.access_key_id,
            self.credentials.secret_access_key,
            self.cluster.region,
        )
    }
}

/// Whether a node's `/readyz` says yes in time.
async fn is_ready(node: &Node) -> bool {
    let ask = async {
        let uri = format!("http://{}/readyz", node.admin_addr).parse().ok()?;
        let client: Client<_, Empty<hyper::body::Bytes>> =
            Client::builder(TokioExecutor::new()).build_http();
        let answer = client.get(uri).await.ok()?;
        let ok = answer.status().is_success();
        let _ = answer.into_body().collect().await;
        Some(ok)
    };
    tokio::time::timeout(ASK_DEADLINE, ask)
        .await
        .ok()
        .flatten()
        .unwrap_or(false)
}
