//! The end of an invocation: its lines in the log, its metrics, its answer. When it ends is in [`super::sandbox`].

use bytes::Bytes;
use hearth_core::metering::billed_ms;
use hearth_core::report::{EndStatus, Report, end_line};
use tracing::debug;

use super::invocation::Invocation;
use super::sandbox::{Current, Ending, Posted, Sandbox, mib};
use crate::invoke::outbox::Outcome;
use crate::metrics::{Ended, seconds};
use crate::runtime_api::fault::{self, Fault};

/// The peak of memory is read from the kernel at most this often, unless the log tail is asked for.
const PEAK_EVERY_US: u64 = 1_000_000;

impl Sandbox {
    /// END and REPORT lines, metrics, and the answer.
    pub(super) fn finish(&self, current: Current, ending: Ending) {
        let Current {
            invocation,
            taken_us,
        } = current;
        let now = self.clock.monotonic_us();
        let duration_us = now.saturating_sub(taken_us);
        let timeout_ms = self.pool.timeout_us() / 1_000;
        let id = invocation.request_id.as_str();
        let (payload, status, ended) = match ending {
            Ending::Posted(Posted::Response(payload)) => {
                (payload, EndStatus::Success, Ended::Success)
            }
            Ending::Posted(Posted::Error(payload)) => {
                (payload, EndStatus::Success, Ended::FunctionError)
            }
            Ending::Posted(Posted::TooLarge) => {
                let fault = Fault::ResponseTooLarge;
                (fault.document(id), fault.end_status(), Ended::FunctionError)
            }
            Ending::Fault(fault) => {
                let ended = match fault {
                    Fault::Exited(_) | Fault::Stopped => Ended::Exit,
                    _ => Ended::InitError,
                };
                (fault.document(id), fault.end_status(), ended)
            }
            Ending::TimedOut => {
                let text = fault::timed_out(self.clock.unix_ms(), id, timeout_ms);
                self.log.push(format!("{text}\n\n").as_bytes());
                (
                    fault::timeout_document(&text),
                    EndStatus::Timeout,
                    Ended::Timeout,
                )
            }
        };
        let line = self.report_line(&invocation, duration_us, status, now);
        self.log.push(line.as_bytes());
        let log_tail = self.log.take_tail();
        let wanted = invocation.log_tail;
        self.metrics.invoke.observe(seconds(duration_us));
        self.metrics.in_flight.dec();
        self.metrics.ended(ended);
        debug!(request_id = id, duration_us, ?ended, "invocation ended");
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

    fn report_line(
        &self,
        invocation: &Invocation,
        duration_us: u64,
        status: EndStatus,
        now: u64,
    ) -> String {
        let read_peak = {
            let life = self.life();
            invocation.log_tail || now.saturating_sub(life.peak_read_us) > PEAK_EVERY_US
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
            request_id: &invocation.request_id,
            duration_us,
            memory_mib: self.pool.memory_mib(),
            max_memory_used_mib: life.peak_mib.min(self.pool.memory_mib()),
            init_us: life.init_us.take(),
            status,
        };
        drop(life);
        let mut lines = end_line(report.request_id);
        lines.push_str(&report.line());
        lines
    }
}
