//! The audit log: a line for each request but invocations. Who asked for what, from where, and how it ended; never what was in it.

use std::net::IpAddr;

use tracing::info;

use super::url;
use crate::caller::Caller;

/// What is known of a request by and by.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Which service it is for.
    pub(super) service: &'static str,
    /// The operation, once it is found.
    pub(super) operation: Option<&'static str>,
    /// ARN of the caller, once its signature stands; of invocations it is not noted.
    pub(super) caller: Option<String>,
}

impl Seen {
    /// Who it is, for the line that is to be written.
    pub(super) fn by(&mut self, caller: &Caller) {
        if self.is_written() {
            self.caller = Some(caller.arn());
        }
    }

    fn is_written(&self) -> bool {
        !self
            .operation
            .is_some_and(|name| INVOCATIONS.contains(&name))
    }
}

/// Operations that are not written down: they are the work itself.
const INVOCATIONS: [&str; 4] = [
    "Invoke",
    "InvokeAsync",
    "InvokeWithResponseStream",
    url::OPERATION,
];

/// Writes the line.
pub(super) fn note(seen: &Seen, source: IpAddr, status: u16, request_id: &str) {
    if !seen.is_written() {
        return;
    }
    info!(
        target: "hearth::audit",
        request_id,
        caller = seen.caller.as_deref().unwrap_or("unknown"),
        service = seen.service,
        operation = seen.operation.unwrap_or("unknown"),
        source = %source.to_canonical(),
        status,
        "control call"
    );
}
