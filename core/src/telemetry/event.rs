//! Events of the Telemetry API as AWS's schema has them (Lambda Telemetry API `Event` schema reference): `time`, `type`,
//! `record`.

use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::batch::{Dropped, Rendered};
use super::subscription::Category;
use crate::extensions::Extension;
use crate::metering::billed_ms;
use crate::report::EndStatus;

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// The time of day as events carry it.
pub fn timestamp(unix_ms: u64) -> String {
    let nanos = i128::from(unix_ms) * 1_000_000;
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    at.and_then(|at| at.format(TIME).ok()).unwrap_or_default()
}

/// Where an init phase runs and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InitFacts {
    /// `on-demand` or `provisioned-concurrency`.
    pub initialization_type: &'static str,
    /// `init`, or `invoke` where an invocation waits for it.
    pub phase: &'static str,
}

/// A part of an invocation's time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// AWS's name: `responseLatency`, `responseDuration`, `runtimeOverhead`, `extensionOverhead`.
    pub name: &'static str,
    /// When it began, as [`timestamp`].
    pub start: String,
    /// Its length.
    pub duration_ms: f64,
}

impl Span {
    /// Begins at a time of day, lasts for so many microseconds.
    pub fn new(name: &'static str, start_unix_ms: u64, duration_us: u64) -> Self {
        Self {
            name,
            start: timestamp(start_unix_ms),
            duration_ms: ms(duration_us),
        }
    }
}

/// Contents of `platform.report`.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportFacts<'a> {
    /// The numbers of the REPORT line.
    pub report: &'a crate::report::Report<'a>,
    /// `extensionOverhead`, where there was any.
    pub spans: Vec<Span>,
    /// X-Amzn-Trace-Id, may be empty.
    pub trace_id: &'a str,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Record<'a> {
    /// `platform.initStart`.
    InitStart {
        /// Of the phase.
        facts: InitFacts,
        /// Unqualified.
        function: &'a str,
        /// `$LATEST` or a number.
        version: &'a str,
    },
    /// `platform.initRuntimeDone`: the runtime asked for its first event, or failed.
    InitRuntimeDone {
        /// Of the phase.
        facts: InitFacts,
        /// How it went.
        status: &'a EndStatus,
    },
    /// `platform.initReport`.
    InitReport {
        /// Of the phase.
        facts: InitFacts,
        /// How it went.
        status: &'a EndStatus,
        /// Its length, microseconds.
        duration_us: u64,
    },
    /// `platform.extension`: how one of them came out of the init phase.
    Extension(&'a Extension),
    /// `platform.telemetrySubscription`.
    Subscribed {
        /// Of the extension.
        name: &'a str,
        /// What it wants.
        categories: &'a [Category],
    },
    /// `platform.start`.
    Start {
        /// The invocation.
        request_id: &'a str,
        /// `$LATEST` or a number.
        version: &'a str,
        /// X-Amzn-Trace-Id, may be empty.
        trace_id: &'a str,
    },
    /// `platform.runtimeDone`.
    RuntimeDone {
        /// The invocation.
        request_id: &'a str,
        /// How the runtime ended it.
        status: &'a EndStatus,
        /// From the event to the next request for one, microseconds.
        duration_us: u64,
        /// Length of the response.
        produced_bytes: u64,
        /// Latency and overhead.
        spans: Vec<Span>,
        /// X-Amzn-Trace-Id, may be empty.
        trace_id: &'a str,
    },
    /// `platform.report`.
    Report(ReportFacts<'a>),
    /// `platform.logsDropped`.
    LogsDropped(Dropped),
    /// A line the function or an extension printed.
    Line {
        /// Whose.
        category: Category,
        /// Without its end.
        text: &'a str,
    },
}

/// Microseconds as the milliseconds of events.
#[expect(
    clippy::cast_precision_loss,
    reason = "a duration of a day has 37 bits"
)]
fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

fn status(status: &EndStatus) -> (&'static str, Option<&str>) {
    match status {
        EndStatus::Success => ("success", None),
        EndStatus::Timeout => ("timeout", None),
        EndStatus::Error(kind) if kind.starts_with("Sandbox.") => ("failure", Some(kind)),
        EndStatus::Error(kind) => ("error", Some(kind)),
    }
}

/// Puts in what is not always there.
fn with(
    mut record: serde_json::Value,
    end: &EndStatus,
    spans: &[Span],
    trace_id: &str,
) -> serde_json::Value {
    let (word, error_type) = status(end);
    record["status"] = word.into();
    if let Some(error_type) = error_type {
        record["errorType"] = error_type.into();
    }
    if !spans.is_empty() {
        record["spans"] = json!(spans);
    }
    traced(record, trace_id)
}

fn traced(mut record: serde_json::Value, trace_id: &str) -> serde_json::Value {
    if !trace_id.is_empty() {
        record["tracing"] = json!({"type": "X-Amzn-Trace-Id", "value": trace_id});
    }
    record
}

impl Record<'_> {
    /// Who wants it.
    pub fn category(&self) -> Category {
        match self {
            Self::Line { category, .. } => *category,
            Self::InitStart { .. }
            | Self::InitRuntimeDone { .. }
            | Self::InitReport { .. }
            | Self::Extension(_)
            | Self::Subscribed { .. }
            | Self::Start { .. }
            | Self::RuntimeDone { .. }
            | Self::Report(_)
            | Self::LogsDropped(_) => Category::Platform,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::InitStart { .. } => "platform.initStart",
            Self::InitRuntimeDone { .. } => "platform.initRuntimeDone",
            Self::InitReport { .. } => "platform.initReport",
            Self::Extension(_) => "platform.extension",
            Self::Subscribed { .. } => "platform.telemetrySubscription",
            Self::Start { .. } => "platform.start",
            Self::RuntimeDone { .. } => "platform.runtimeDone",
            Self::Report(_) => "platform.report",
            Self::LogsDropped(_) => "platform.logsDropped",
            Self::Line { category, .. } => category.as_str(),
        }
    }

    fn body(&self) -> serde_json::Value {
        match self {
            Self::InitStart {
                facts,
                function,
                version,
            } => {
                let mut record = json!(facts);
                record["functionName"] = (*function).into();
                record["functionVersion"] = (*version).into();
                record
            }
            Self::InitRuntimeDone { facts, status } => with(json!(facts), status, &[], ""),
            Self::InitReport {
                facts,
                status,
                duration_us,
            } => {
                let mut record = json!(facts);
                record["metrics"] = json!({"durationMs": ms(*duration_us)});
                with(record, status, &[], "")
            }
            Self::Extension(extension) => extension_record(extension),
            Self::Subscribed { name, categories } => {
                let types: Vec<_> = categories
                    .iter()
                    .map(|category| category.as_str())
                    .collect();
                json!({"name": name, "state": "Subscribed", "types": types})
            }
            Self::Start {
                request_id,
                version,
                trace_id,
            } => traced(
                json!({"requestId": request_id, "version": version}),
                trace_id,
            ),
            Self::RuntimeDone {
                request_id,
                status,
                duration_us,
                produced_bytes,
                spans,
                trace_id,
            } => {
                let metrics =
                    json!({"durationMs": ms(*duration_us), "producedBytes": produced_bytes});
                let record = json!({"requestId": request_id, "metrics": metrics});
                with(record, status, spans, trace_id)
            }
            Self::Report(facts) => report_record(facts),
            Self::LogsDropped(dropped) => json!({
                "reason": "Some logs were dropped because the downstream consumer is slower than the logs production rate",
                "droppedRecords": dropped.records,
                "droppedBytes": dropped.bytes,
            }),
            Self::Line { text, .. } => (*text).into(),
        }
    }

    /// As it is sent.
    pub fn render(&self, unix_ms: u64) -> Rendered {
        let event = json!({"time": timestamp(unix_ms), "type": self.kind(), "record": self.body()});
        event.to_string().into_bytes().into()
    }
}

fn extension_record(extension: &Extension) -> serde_json::Value {
    let state = extension.state.to_string();
    let mut record = json!({"name": extension.name, "state": state, "events": extension.events()});
    if let Some(error_type) = &extension.error_type {
        record["errorType"] = error_type.as_str().into();
    }
    record
}

fn report_record(facts: &ReportFacts<'_>) -> serde_json::Value {
    let report = facts.report;
    let mut metrics = json!({
        "durationMs": ms(report.duration_us),
        "billedDurationMs": billed_ms(report.billed_us()),
        "memorySizeMB": report.memory_mib,
        "maxMemoryUsedMB": report.max_memory_used_mib,
    });
    if let Some(init_us) = report.init_us {
        metrics["initDurationMs"] = ms(init_us).into();
    }
    let record = json!({"requestId": report.request_id, "metrics": metrics});
    with(record, &report.status, &facts.spans, facts.trace_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    const AT: u64 = 1_665_532_815_064;

    fn rendered(record: &Record<'_>) -> serde_json::Value {
        serde_json::from_slice(&record.render(AT)).unwrap()
    }

    #[test]
    fn events_have_the_members_of_the_schema() {
        let facts = InitFacts {
            initialization_type: "on-demand",
            phase: "init",
        };
        let (function, version) = ("f", "$LATEST");
        let start = rendered(&Record::InitStart {
            facts,
            function,
            version,
        });
        assert_eq!(
            start,
            json!({"time": "2022-10-12T00:00:15.064Z", "type": "platform.initStart", "record": {
                "initializationType": "on-demand", "phase": "init", "functionName": "f", "functionVersion": "$LATEST"}})
        );
        let status = EndStatus::Error("Extension.Crash".to_owned());
        let done = rendered(&Record::RuntimeDone {
            request_id: "r",
            status: &status,
            duration_us: 1_500,
            produced_bytes: 2,
            spans: vec![Span::new("responseLatency", AT, 1_000)],
            trace_id: "Root=1",
        });
        assert_eq!(
            done["record"],
            json!({"requestId": "r", "status": "error", "errorType": "Extension.Crash",
                "metrics": {"durationMs": 1.5, "producedBytes": 2},
                "spans": [{"name": "responseLatency", "start": "2022-10-12T00:00:15.064Z", "durationMs": 1.0}],
                "tracing": {"type": "X-Amzn-Trace-Id", "value": "Root=1"}})
        );
    }

    #[test]
    fn a_report_has_the_numbers_of_its_line() {
        let report = Report {
            request_id: "r",
            duration_us: 1_234,
            memory_mib: 128,
            max_memory_used_mib: 36,
            init_us: Some(104_996),
            status: EndStatus::Success,
        };
        let event = rendered(&Record::Report(ReportFacts {
            report: &report,
            spans: Vec::new(),
            trace_id: "",
        }));
        assert_eq!(
            event["record"],
            json!({"requestId": "r", "status": "success", "metrics": {"durationMs": 1.234, "billedDurationMs": 107,
                "memorySizeMB": 128, "maxMemoryUsedMB": 36, "initDurationMs": 104.996}})
        );
    }

    #[test]
    fn a_line_is_its_text() {
        let (category, text) = (Category::Function, "say \"hi\"");
        let event = rendered(&Record::Line { category, text });
        assert_eq!(
            (event["type"].as_str(), event["record"].as_str()),
            (Some("function"), Some(text))
        );
    }
}
