//! One invocation while the worker has it, and the ways it is answered. What a sandbox does with it is in
//! [`super::sandbox`].

use std::sync::Arc;

use bytes::Bytes;
use hearth_core::ids::VersionKey;
use hearth_core::planted::{self, Bug};
use hearth_proto::internal::v1::refused::Reason;
use tracing::Span;

use crate::invoke::outbox::{Outbox, Outcome, Received};
use crate::invoke::parts::{Parts, Window};
use crate::pool::gates::HeldPermit;

/// An accepted invocation. It holds its permit until it is answered, or its sandbox keeps it for longer.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// Lasts as long as this; nothing enters it.
    pub(crate) span: Span,
    /// `x-amzn-RequestId`.
    pub(crate) request_id: String,
    /// What is run.
    pub(crate) version: VersionKey,
    /// ARN as invoked.
    pub(crate) invoked_arn: String,
    /// X-Amzn-Trace-Id, may be empty.
    pub(crate) trace_id: String,
    /// Base64 as the caller sent it, may be empty.
    pub(crate) client_context: String,
    /// The event.
    pub(crate) payload: Bytes,
    /// Whether the caller wants the tail of the log.
    pub(crate) log_tail: bool,
    /// Given back when this is dropped; none once the sandbox has it.
    pub(crate) permit: Option<HeldPermit>,
    /// Who waits.
    pub(crate) reply: Reply,
}

/// Where the answer goes. Used up by answering.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) id: u64,
    /// Counts this one and its likes.
    pub(crate) received: Received,
    /// Where the caller takes the answer in parts.
    pub(crate) window: Option<Arc<Window>>,
}

impl Reply {
    /// Where the parts of a streamed answer go, if the caller takes such.
    pub(crate) fn parts(&self) -> Option<Parts> {
        let window = Arc::clone(self.window.as_ref()?);
        Some(Parts {
            outbox: Arc::clone(&self.outbox),
            id: self.id,
            window,
        })
    }
}

impl Invocation {
    /// The function ran, or failed in a way that is the caller's answer.
    pub(crate) fn answer(self, outcome: Outcome) {
        let Self { permit, reply, .. } = self;
        if planted::is(Bug::PermitLeaked) && !outcome.function_error.is_empty() {
            std::mem::forget(permit);
            return reply.outbox.respond(reply.id, outcome);
        }
        // First, so that whoever hears the answer finds the permit free.
        drop(permit);
        reply.outbox.respond(reply.id, outcome);
    }

    /// The event was not taken: it may go elsewhere.
    pub(crate) fn refuse(self, reason: Reason, idle: impl FnOnce() -> u32) {
        let Self { permit, reply, .. } = self;
        drop(permit);
        let free = reply.received.with(idle);
        reply.outbox.refuse(reply.id, reason, free);
    }
}
