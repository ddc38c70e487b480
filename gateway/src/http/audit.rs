//! The audit log: a line for each request but invocations. Who asked for what, from where, and how it ended; never what was in it.

use std::net::SocketAddr;

use http::Extensions;
use tracing::info;

/// What is known of a request by and by.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Which service it is for.
    pub(super) service: &'static str,
    /// The operation, once it is found.
    pub(super) operation: Option<&'static str>,
    /// ARN of the caller, once its signature stands.
    pub(super) caller: Option<String>,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// The address that a request came from; empty if it is not known.
pub(super) fn source(extensions: &Extensions) -> String {
    let peer = extensions.get::<Peer>();
    peer.map(|peer| peer.0.ip().to_canonical().to_string())
        .unwrap_or_default()
}

/// Operations that are not written down: they are the work itself.
const INVOCATIONS: [&str; 3] = ["Invoke", "InvokeAsync", "InvokeWithResponseStream"];

/// Writes the line.
pub(super) fn note(seen: &Seen, source: &str, status: u16, request_id: &str) {
    let operation = seen.operation.unwrap_or("unknown");
    if INVOCATIONS.contains(&operation) {
        return;
    }
    info!(
        target: "hearth::audit",
        request_id,
        caller = seen.caller.as_deref().unwrap_or("unknown"),
        service = seen.service,
        operation,
        source,
        status,
        "control call"
    );
}
