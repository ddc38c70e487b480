//! Certificates of nodes from the side that has and gets them: joining, renewing, and what operators do with CAs and
//! tokens. What a certificate is worth is `hearth_node::tls`'s business, who gets one the controllers'.

pub(crate) mod ca;
mod join;
mod keep;
pub(crate) mod operator;
mod token;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;

use anyhow::bail;
use hearth_node::Seams;
use hearth_node::tls::{NodeName, NodeRole, TlsMode, TlsOptions};
use tracing::warn;

pub(crate) use self::keep::Keeper;
pub(crate) use self::token::run as token;

/// What there is to know of a node before it starts.
#[derive(Debug)]
pub(crate) struct Me<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) role: NodeRole,
    pub(crate) id: u64,
    pub(crate) data_dir: Option<&'a Path>,
    /// `host:port` of controllers.
    pub(crate) controllers: Vec<String>,
    /// Every address the node is reached at by others, and those it calls.
    pub(crate) addresses: Vec<String>,
}

impl Me<'_> {
    fn name(&self) -> anyhow::Result<NodeName> {
        Ok(NodeName::new(self.cluster, self.role, self.id)?)
    }
}

/// Joins if that is wanted, refuses or tells of plaintext beyond loopback, and gives what keeps the certificate good; none
/// without TLS, and where the operator replaces the certificate.
pub(crate) async fn prepare(
    options: &TlsOptions,
    me: Me<'_>,
    seams: &Seams,
) -> anyhow::Result<Option<Keeper>> {
    if !options.is_on(me.data_dir) {
        check_plaintext(options, &me)?;
        return Ok(None);
    }
    if !options.files(me.data_dir).cert.exists() && !options.join_token_file.as_os_str().is_empty()
    {
        join::run(options, &me, seams).await?;
    }
    if options.is_operators() {
        return Ok(None);
    }
    Keeper::new(options, &me, seams).map(Some)
}

fn check_plaintext(options: &TlsOptions, me: &Me<'_>) -> anyhow::Result<()> {
    let Some(outside) = me.addresses.iter().find(|addr| !is_loopback(addr)) else {
        return Ok(());
    };
    if options.mode == TlsMode::Off {
        warn!(
            "TLS BETWEEN NODES IS OFF (tls.mode = \"off\"): whoever reaches {outside} can act as a node of this cluster and reads \
             every event and all code"
        );
        return Ok(());
    }
    bail!(
        "this node has no certificate, and {outside} is beyond this machine: join with a token (tls.join_token_file, \
         `hearth token create`), name a certificate in [tls], or say tls.mode = \"off\" to let everybody on the network in"
    )
}

/// Whether an address is of this machine alone. One that cannot be resolved is not.
fn is_loopback(addr: &str) -> bool {
    if addr.is_empty() {
        return true;
    }
    addr.to_socket_addrs().is_ok_and(|addrs| {
        let addrs: Vec<SocketAddr> = addrs.collect();
        !addrs.is_empty() && addrs.iter().all(|addr| addr.ip().is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mode: TlsMode, addresses: &[&str]) -> anyhow::Result<()> {
        let options = TlsOptions {
            mode,
            ..TlsOptions::default()
        };
        let me = Me {
            cluster: "c",
            role: NodeRole::Worker,
            id: 1,
            data_dir: None,
            controllers: Vec::new(),
            addresses: addresses.iter().map(|&addr| addr.to_owned()).collect(),
        };
        check_plaintext(&options, &me)
    }

    #[test]
    fn plaintext_beyond_loopback_must_be_asked_for() {
        check(
            TlsMode::Auto,
            &["127.0.0.1:1", "[::1]:2", "localhost:3", ""],
        )
        .unwrap();
        for outside in [
            "0.0.0.0:1",
            "10.0.0.1:1",
            "[::]:1",
            "no.such.host.invalid:1",
        ] {
            let refused = check(TlsMode::Auto, &["127.0.0.1:1", outside]).unwrap_err();
            assert!(refused.to_string().contains(outside), "{refused}");
            check(TlsMode::Off, &[outside]).unwrap();
        }
    }
}
