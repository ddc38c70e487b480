//! Joining with a token: a key made here, a certificate for it from a controller that is known by its CA's hash.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hearth_node::Seams;
use hearth_node::grpc::{ChannelOptions, ClusterIdentity, channel, with_deadline};
use hearth_node::tls::{Bundle, Credentials, Request, TlsOptions, joining_net};
use hearth_proto::internal::v1 as pb;
use pb::trust_client::TrustClient;
use tonic::Code;
use tracing::{info, warn};

use super::Me;

/// How long a controller may take: it commits the token's use.
const JOIN_DEADLINE: Duration = Duration::from_secs(10);
/// How long a node waits for a controller before its start fails.
const JOIN_LIMIT_MS: u64 = 60_000;
/// Pause between two rounds over all controllers.
const ROUND_PAUSE: Duration = Duration::from_millis(500);

/// What `hearth token create` prints: `hearth1.<SHA-256 of the CA>.<secret>`. Debug does not show the secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) pin: String,
    pub(crate) secret: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("pin", &self.pin)
            .finish_non_exhaustive()
    }
}

/// Says nothing of what was read: it may be a secret in the wrong place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("that is not a join token; `hearth token create` prints one, which begins with hearth1.")]
pub(crate) struct NotAToken;

impl FromStr for Token {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let is_hash = |text: &str| {
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        match parts[..] {
            ["hearth1", pin, secret] if is_hash(pin) && is_hash(secret) => Ok(Self {
                pin: pin.to_owned(),
                secret: secret.to_owned(),
            }),
            _ => Err(NotAToken),
        }
    }
}

/// Gets a certificate and writes it to the node's own directory.
pub(super) async fn run(options: &TlsOptions, me: &Me<'_>, seams: &Seams) -> anyhow::Result<()> {
    let path = &options.join_token_file;
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("reading the join token in {}", path.display()))?;
    let token: Token = text.parse().with_context(|| path.display().to_string())?;
    let dir = options
        .own_dir(me.data_dir)
        .context("tls.dir is needed: where the certificate is kept")?;
    let name = me.name()?;
    let request = Request::new(&name)?;
    let ask = pb::JoinRequest {
        secret: token.secret.clone(),
        cluster_id: me.cluster.to_owned(),
        role: me.role.as_str().to_owned(),
        node_id: me.id,
        request: request.der.clone().into(),
    };
    let signed = ask_all(&token, &ask, me, seams).await?;
    let bundle = Bundle::parse(Path::new("the cluster's bundle of CAs"), &signed.bundle)?;
    let credentials = Credentials::parse(bundle, &signed.chain, request.key)?;
    if credentials.name != name {
        bail!(
            "the cluster signed a certificate for {}, not for {name}",
            credentials.name
        );
    }
    credentials.save(&dir)?;
    info!(node = %name, dir = %dir.display(), "joined the cluster");
    Ok(())
}

/// Controllers one after the other, until one signs or refuses; with the same request, so that an answer which was lost does
/// not cost the token.
async fn ask_all(
    token: &Token,
    ask: &pb::JoinRequest,
    me: &Me<'_>,
    seams: &Seams,
) -> anyhow::Result<pb::SignedReply> {
    let net = joining_net(&seams.net, &token.pin, me.cluster, &seams.clock)?;
    let begun = seams.clock.monotonic_ms();
    let mut last = "no controllers are named in the options".to_owned();
    loop {
        for addr in &me.controllers {
            let identity = ClusterIdentity::unknown();
            let channel = channel(&net, addr, &ChannelOptions::default(), &identity)?;
            let mut client = TrustClient::new(channel);
            match with_deadline(client.join(ask.clone()), JOIN_DEADLINE).await {
                Ok(signed) => return Ok(signed.into_inner()),
                // The token is what it is at every controller.
                Err(status) if status.code() == Code::PermissionDenied => {
                    bail!(
                        "controller {addr} does not let this node in: {}",
                        status.message()
                    )
                }
                Err(status) => {
                    let said = format!("controller {addr}: {}", status.message());
                    if said != last {
                        warn!("cannot join yet: {said}");
                    }
                    last = said;
                }
            }
        }
        if seams.clock.monotonic_ms().saturating_sub(begun) > JOIN_LIMIT_MS {
            bail!("cannot join: {last}");
        }
        tokio::time::sleep(ROUND_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_and_never_shown() {
        let (pin, secret) = ("a".repeat(64), "b".repeat(64));
        let token: Token = format!("hearth1.{pin}.{secret}\n").parse().unwrap();
        assert_eq!((&token.pin, &token.secret), (&pin, &secret));
        assert!(!format!("{token:?}").contains(&secret));
        for text in [
            "",
            "hearth1",
            &format!("hearth2.{pin}.{secret}"),
            &format!("hearth1.{pin}.{secret}.x"),
            &format!("hearth1.{pin}.short"),
            &format!("hearth1.{}.{secret}", "g".repeat(64)),
        ] {
            assert_eq!(text.parse::<Token>(), Err(NotAToken), "{text}");
        }
    }
}
