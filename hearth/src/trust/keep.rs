//! Keeps a node's certificate good while it runs: renews it in time, follows changes of the CAs the cluster trusts. The role
//! takes up the files by itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hearth_node::Seams;
use hearth_node::grpc::{ChannelOptions, ClusterChannel, ClusterIdentity, channel, with_deadline};
use hearth_node::tls::{
    Bundle, Credentials, NodeName, NodeRole, Request, Tls, TlsFiles, TlsOptions, rfc3339,
};
use hearth_proto::internal::v1 as pb;
use pb::trust_client::TrustClient;
use tracing::{debug, info, warn};

use super::Me;

/// How long a controller may take for an answer.
const ASK_DEADLINE: Duration = Duration::from_secs(5);
/// A renewal that is due and fails is told so often.
const WARN_EVERY_MS: u64 = 60_000;

/// A task's worth of care for one node's certificate.
#[derive(Debug)]
pub(crate) struct Keeper {
    tls: Tls,
    name: NodeName,
    dir: PathBuf,
    /// Whether the bundle of CAs is this node's to write, or a file of the operator's.
    writes_bundle: bool,
    check_every: Duration,
    controllers: Vec<(String, ClusterChannel)>,
    seams: Seams,
    warned_at_ms: Option<u64>,
}

impl Keeper {
    pub(super) fn new(options: &TlsOptions, me: &Me<'_>, seams: &Seams) -> anyhow::Result<Self> {
        let named = (me.cluster, me.role, me.id);
        let tls = Tls::open(options, me.data_dir, named, &seams.clock)?;
        let net = tls.net(&seams.net, NodeRole::Controller);
        let identity = ClusterIdentity::known(me.cluster)?;
        let controllers = me.controllers.iter().map(|addr| {
            let channel = channel(&net, addr, &ChannelOptions::default(), &identity)?;
            Ok((addr.clone(), channel))
        });
        let dir: PathBuf = options
            .own_dir(me.data_dir)
            .context("tls.dir is needed: where the certificate is kept")?;
        Ok(Self {
            name: me.name()?,
            dir,
            writes_bundle: options.ca.as_os_str().is_empty(),
            check_every: options.check_every.0,
            controllers: controllers.collect::<anyhow::Result<_>>()?,
            seams: seams.clone(),
            tls,
            warned_at_ms: None,
        })
    }

    /// Never ends; it is dropped with the node.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::time::sleep(self.check_every).await;
            let tls = self.tls.clone();
            drop(tokio::task::spawn_blocking(move || tls.reload()).await);
            if let Err(error) = self.look().await {
                self.tell(&error);
            }
        }
    }

    /// Loud when the certificate should be renewed by now, else not: controllers may be away for a while.
    fn tell(&mut self, error: &anyhow::Error) {
        let now = self.seams.clock.monotonic_ms();
        let is_due = self
            .tls
            .certificate()
            .is_some_and(|(validity, _)| validity.is_due(self.seams.clock.unix_ms()));
        let said = self.warned_at_ms.is_some_and(|at| now < at + WARN_EVERY_MS);
        if !is_due || said {
            debug!("the cluster's trust cannot be looked at: {error:#}");
            return;
        }
        self.warned_at_ms = Some(now);
        warn!(node = %self.name, "the certificate cannot be renewed: {error:#}");
    }

    async fn look(&self) -> anyhow::Result<()> {
        let mut last = None;
        for (addr, channel) in &self.controllers {
            let mut client = TrustClient::new(channel.clone());
            match self.look_at(&mut client).await {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error.context(format!("controller {addr}"))),
            }
        }
        last.map_or(Ok(()), Err)
    }

    async fn look_at(&self, client: &mut TrustClient<ClusterChannel>) -> anyhow::Result<()> {
        let asked = with_deadline(client.bundle(pb::BundleRequest {}), ASK_DEADLINE).await;
        let reply = asked.map_err(|status| anyhow::anyhow!("{}", status.message().to_owned()))?;
        let reply = reply.into_inner();
        let trusted = Bundle::parse(Path::new("the cluster's bundle of CAs"), &reply.bundle)?;
        let (Some((validity, issuer)), Some(own)) = (self.tls.certificate(), self.tls.bundle())
        else {
            return Ok(());
        };
        let another_signs = !reply.signer.is_empty() && reply.signer != issuer;
        if validity.is_due(self.seams.clock.unix_ms()) || another_signs {
            // The new certificate comes with the bundle.
            return self.renew(client).await;
        }
        if self.writes_bundle && trusted != own {
            // A CA that goes takes with it whoever has not renewed; this node's own signer must stay until then.
            if !trusted.fingerprints().contains(&issuer) {
                bail!(
                    "the CA that signed this node's certificate is trusted no more, and no controller here signs a new one"
                );
            }
            trusted.save(&TlsFiles::in_dir(&self.dir).ca)?;
            info!(
                cas = trusted.certificates().len(),
                "the cluster's CAs have changed"
            );
        }
        Ok(())
    }

    async fn renew(&self, client: &mut TrustClient<ClusterChannel>) -> anyhow::Result<()> {
        let request = Request::new(&self.name)?;
        let ask = pb::RenewRequest {
            request: request.der.clone().into(),
        };
        let asked = with_deadline(client.renew(ask), ASK_DEADLINE).await;
        let signed = asked.map_err(|status| anyhow::anyhow!("{}", status.message().to_owned()))?;
        let signed = signed.into_inner();
        let bundle = Bundle::parse(Path::new("the cluster's bundle of CAs"), &signed.bundle)?;
        let credentials = Credentials::parse(bundle, &signed.chain, request.key)?;
        if credentials.name != self.name {
            bail!("the cluster signed a certificate for {}", credentials.name);
        }
        credentials.save(&self.dir)?;
        let until = rfc3339(credentials.validity.not_after_ms);
        info!(node = %self.name, %until, "certificate renewed");
        Ok(())
    }
}
