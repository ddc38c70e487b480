//! `hearth token create`: asks a controller for a join token and prints it.

use std::time::Duration;

use anyhow::bail;
use hearth_node::grpc::{ChannelOptions, channel, with_deadline};
use hearth_node::tls::rfc3339;
use hearth_proto::internal::v1 as pb;
use pb::trust_client::TrustClient;

use super::operator;
use crate::cli::TokenCommand;
use crate::members;

/// How long a controller may take: it commits the token.
const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) async fn run(command: TokenCommand) -> anyhow::Result<()> {
    let TokenCommand::Create { role, id, ttl, at } = command;
    let (identity, addrs) = members::known(&at)?;
    let net = operator::net(at.tls_dir.as_deref(), &at.data_dir)?;
    let ask = pb::CreateTokenRequest {
        role: role.as_str().to_owned(),
        node_id: id.unwrap_or(0),
        ttl_ms: ttl.as_millis(),
    };
    let mut last = String::new();
    for addr in addrs {
        let channel = channel(&net, &addr, &ChannelOptions::default(), &identity)?;
        let mut client = TrustClient::new(channel);
        match with_deadline(client.create_token(ask.clone()), DEADLINE).await {
            Ok(reply) => {
                let reply = reply.into_inner();
                println!("{}", reply.token);
                eprintln!("good once, until {}", rfc3339(reply.expires_at_ms));
                return Ok(());
            }
            Err(status) => last = format!("controller {addr} answers: {}", status.message()),
        }
    }
    bail!("no token was made; {last}")
}
