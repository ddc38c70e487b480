//! The end of an invocation: its lines in the log, its metrics, its answer. When it ends is in [`super::sandbox`].

use bytes::Bytes;
use hearth_core::metering::billed_ms;
use hearth_core::report::{EndStatus, Report, end_line};
use tracing::debug;

use super::invocation::Invocation;
use super::sandbox::{Current, Ending, Post, Posted, Sandbox, mib};
use crate::invoke::outbox::Outcome;
use crate::metrics::{Ended, seconds};
use crate::runtime_api::fault::{self, Fault};

/// The peak of memory is read from the kernel at most this often, unless the log tail is asked for.
const PEAK_EVERY_US: u64 = 1_000_000;

/// What an invocation's end comes to.
struct Resolved {
    payload: Bytes,
    status: EndStatus,
    ended: Ended,
}

/// The lines and numbers of an invocation that is over.
struct Lines<'a> {
    request_id: &'a str,
    trace_id: &'a str,
    duration_us: u64,
    status: EndStatus,
    /// Since when it was the extensions alone that it waited for.
    overhead_us: Option<u64>,
    /// Whether the caller wants them.
    is_wanted: bool,
}

impl Sandbox {
    /// END and REPORT lines, metrics, and the answer.
    pub(super) fn finish(&self, current: Current, ending: Ending) {
        let Current {
            invocation,
            taken_us,
        } = current;
        let now = self.clock.monotonic_us();
        let duration_us = now.saturating_sub(taken_us);
        let resolved = self.resolve(&invocation.request_id, ending);
        if let Some(hub) = self.log.hub() {
            hub.runtime_failed(&invocation, &resolved.status, duration_us);
        }
        let lines = Lines {
            request_id: &invocation.request_id,
            trace_id: &invocation.trace_id,
            duration_us,
            status: resolved.status.clone(),
            overhead_us: None,
            is_wanted: invocation.log_tail,
        };
        self.push_lines(lines, now);
        let log_tail = self.log.take_tail();
        self.answer(invocation, resolved, duration_us, log_tail);
    }

    /// The answer alone: its extensions have something left to do.
    pub(super) fn answer_early(&self, current: Current, ending: Ending) {
        let duration_us = self.clock.monotonic_us().saturating_sub(current.taken_us);
        let resolved = self.resolve(&current.invocation.request_id, ending);
        self.answer(current.invocation, resolved, duration_us, Vec::new());
    }

    /// The extensions are done too, or never will be: `status` says how if not as the runtime answered.
    pub(super) fn finish_post(&self, mut post: Post, status: Option<EndStatus>) {
        let now = self.clock.monotonic_us();
        let duration_us = now.saturating_sub(post.taken_us);
        let overhead_us = now.saturating_sub(post.runtime_done_us.unwrap_or(now));
        self.metrics.extensions.observe(seconds(overhead_us));
        let status = status.unwrap_or_else(|| post.status.clone());
        if status == EndStatus::Timeout {
            self.timed_out(&post.request_id);
        }
        if let Some(hub) = self.log.hub().filter(|_| post.runtime_done_us.is_none()) {
            post.status = status.clone();
            hub.runtime_done(&post, now);
        }
        let lines = Lines {
            request_id: &post.request_id,
            trace_id: &post.trace_id,
            duration_us,
            status,
            overhead_us: Some(overhead_us),
            is_wanted: post.held.is_some(),
        };
        self.push_lines(lines, now);
        let log_tail = self.log.take_tail();
        // First, so that whoever hears the answer finds the permit free.
        drop(post.permit);
        if let Some((current, posted)) = post.held {
            let resolved = self.resolve(&post.request_id, Ending::Posted(posted));
            self.answer(current.invocation, resolved, duration_us, log_tail);
        }
    }

    /// The line of a timeout, pushed; its text.
    fn timed_out(&self, request_id: &str) -> String {
        let timeout_ms = self.pool.timeout_us() / 1_000;
        let text = fault::timed_out(self.clock.unix_ms(), request_id, timeout_ms);
        self.log.push(format!("{text}\n\n").as_bytes());
        text
    }

    fn resolve(&self, id: &str, ending: Ending) -> Resolved {
        let (payload, status, ended) = match ending {
            Ending::Posted(Posted::Response(payload)) => {
                (payload, EndStatus::Success, Ended::Success)
            }
            Ending::Posted(Posted::Error(payload)) => {
                (payload, EndStatus::Success, Ended::FunctionError)
            }
            Ending::Posted(Posted::Streamed(_)) => {
                (Bytes::new(), EndStatus::Success, Ended::Success)
            }
            Ending::Posted(Posted::TooLarge(limit)) => {
                let fault = Fault::ResponseTooLarge(limit);
                (fault.document(id), fault.end_status(), Ended::FunctionError)
            }
            Ending::Fault(fault) => {
                let ended = match fault {
                    Fault::Exited(_) | Fault::Stopped | Fault::Extension { .. } => Ended::Exit,
                    _ => Ended::InitError,
                };
                (fault.document(id), fault.end_status(), ended)
            }
            Ending::TimedOut => (
                fault::timeout_document(&self.timed_out(id)),
                EndStatus::Timeout,
                Ended::Timeout,
            ),
        };
        Resolved {
            payload,
            status,
            ended,
        }
    }

    fn answer(
        &self,
        invocation: Invocation,
        resolved: Resolved,
        duration_us: u64,
        log_tail: Vec<u8>,
    ) {
        let Resolved { payload, ended, .. } = resolved;
        let wanted = invocation.log_tail;
        self.metrics.invoke.observe(seconds(duration_us));
        self.metrics.in_flight.dec();
        self.metrics.ended(ended);
        debug!(
            request_id = invocation.request_id,
            duration_us,
            ?ended,
            "invocation ended"
        );
        let free = invocation.reply.received.with(|| self.pool.free());
        invocation.answer(Outcome {
            function_error: if ended == Ended::Success {
                ""
            } else {
                "Unhandled"
            },
            payload,
            log_tail: if wanted {
                log_tail.into()
            } else {
                Bytes::new()
            },
            billed_ms: u32::try_from(billed_ms(duration_us)).unwrap_or(u32::MAX),
            free,
        });
    }

    fn push_lines(&self, over: Lines<'_>, now: u64) {
        let read_peak = {
            let life = self.life();
            let is_old = now.saturating_sub(life.peak_read_us) > PEAK_EVERY_US;
            let is_unknown = life.peak_read_us == 0;
            over.is_wanted || is_unknown || (is_old && self.pool.memory.may_read_peak(now))
        };
        let peak = read_peak
            .then(|| self.control.get().and_then(|c| c.memory_peak_bytes()))
            .flatten();
        let mut life = self.life();
        if read_peak {
            life.peak_read_us = now;
        }
        if let Some(bytes) = peak {
            life.peak_mib = life.peak_mib.max(mib(bytes));
        }
        let report = Report {
            request_id: over.request_id,
            duration_us: over.duration_us,
            memory_mib: self.pool.memory_mib(),
            max_memory_used_mib: life.peak_mib.min(self.pool.memory_mib()),
            init_us: life.init_us.take(),
            status: over.status,
        };
        drop(life);
        let mut lines = end_line(report.request_id);
        lines.push_str(&report.line());
        self.log.push(lines.as_bytes());
        if let Some(hub) = self.log.hub() {
            hub.report(&report, over.trace_id, over.overhead_us);
        }
    }
}
