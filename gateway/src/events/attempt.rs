//! One event, one attempt: whether it is to be tried at all, the run on the invoke path, and what is to become of the event.
//! The rules are `hearth_core::events::retry`'s.

use std::sync::Arc;

use hearth_core::error::ErrorCode;
use hearth_core::events::retry::{AttemptEnd, Decision, RetryRules, after_attempt, before_attempt};
use hearth_core::events::{EventEntry, Settlement};
use hearth_core::ids::UnixMs;
use hearth_core::name::FunctionRef;
use tracing::{debug, info_span};

use super::log::Leased;
use super::tell::{self, Ending};
use crate::app::App;
use crate::catalog::{Entry, Record};
use crate::invoke::{InvokeCall, InvokeError, InvokeOutcome};
use crate::lambda::invoke::or_empty;

/// The function of an event as it is now.
struct Found {
    record: Arc<Record>,
    version: Arc<Entry>,
}

/// Runs an event whose lease this gateway has, and tells those that the function names if that was its end.
pub(super) async fn attempt(app: &App, event: Leased) -> Settlement {
    let entry = &event.entry;
    let found = find(app, entry).await;
    let record = found.as_ref().ok().map(|found| &found.record);
    let base_delay_ms = app.options.events.retry_base_delay.as_millis();
    let members = record.and_then(|record| record.event_invoke(entry.qualifier.as_ref()));
    let rules = RetryRules::of(members, base_delay_ms);
    let (end, outcome) = match before_attempt(&entry.progress, &rules, now(app)) {
        Some(decision) => return settle(app, event, found.ok(), decision, None).await,
        None => match &found {
            Ok(found) => run(app, &event, found).await,
            Err(end) => (*end, None),
        },
    };
    let [.., high, low] = app.seams.random.u64().to_be_bytes();
    let jitter = u16::from_be_bytes([high, low]);
    let decision = after_attempt(end, &entry.progress, &rules, now(app), jitter);
    debug!(
        request_id = entry.request_id,
        ?end,
        ?decision,
        "attempt of an event"
    );
    settle(app, event, found.ok(), decision, outcome).await
}

fn now(app: &App) -> UnixMs {
    UnixMs(app.unix_ms())
}

async fn settle(
    app: &App,
    event: Leased,
    found: Option<Found>,
    decision: Decision,
    outcome: Option<InvokeOutcome>,
) -> Settlement {
    if let (Decision::Deliver { condition, .. }, Some(found)) = (decision, found) {
        let ending = Ending {
            at: now(app),
            event: &event,
            condition,
            attempts: event.entry.progress.after(&decision).attempts,
            outcome: outcome.as_ref(),
        };
        tell::all(app, &found.record, &found.version, &ending).await;
    }
    Settlement {
        lease: event.id(),
        decision,
    }
}

/// An alias is resolved at each attempt.
async fn find(app: &App, entry: &EventEntry) -> Result<Found, AttemptEnd> {
    let function = FunctionRef {
        account: entry.function.account.clone(),
        name: entry.function.function.clone(),
        qualifier: entry.qualifier.clone(),
    };
    let record = app.lookups.find(&function, app.now()).await;
    let record = record.map_err(|error| match error.code {
        ErrorCode::NotFound => AttemptEnd::FunctionGone,
        _ => AttemptEnd::SystemError,
    })?;
    let version = record.find(entry.qualifier.as_ref(), app.seams.random.u64());
    let version = version.ok_or(AttemptEnd::FunctionGone)?;
    Ok(Found { record, version })
}

async fn run(app: &App, event: &Leased, found: &Found) -> (AttemptEnd, Option<InvokeOutcome>) {
    use tracing::Instrument as _;
    let version = &found.version;
    if version.terms.quota.is_stopped() {
        return (AttemptEnd::ZeroConcurrency, None);
    }
    if version.check_invocable().is_err() {
        // It is being made, or could not be.
        return (AttemptEnd::SystemError, None);
    }
    app.metrics.event_attempts.inc();
    let entry = &event.entry;
    let span = info_span!("event", request_id = entry.request_id);
    let call = InvokeCall {
        request_id: entry.request_id.clone(),
        payload: or_empty(event.payload.clone()),
        client_context: String::new(),
        log_tail: false,
        invoked_arn: match &entry.qualifier {
            Some(qualifier) => format!("{}:{qualifier}", version.arn),
            None => version.arn.clone(),
        },
        parts: None,
        trace_id: String::new(),
        traceparent: hearth_node::telemetry::traceparent(&span).unwrap_or_default(),
        entry: Arc::clone(version),
    };
    match app.invoker.invoke(call).instrument(span).await {
        Ok(outcome) if outcome.function_error.is_empty() => (AttemptEnd::Succeeded, Some(outcome)),
        Ok(outcome) => (AttemptEnd::FunctionError, Some(outcome)),
        Err(error) => (end_of(&error), None),
    }
}

/// "throttling errors (429) and system errors (500-series)": of both the function had no say.
fn end_of(error: &InvokeError) -> AttemptEnd {
    match error {
        InvokeError::Throttled { .. } | InvokeError::Limited { .. } => AttemptEnd::Throttled,
        InvokeError::Gone => AttemptEnd::FunctionGone,
        InvokeError::WaitedTooLong
        | InvokeError::NoWorker
        | InvokeError::NotRunnable(_)
        | InvokeError::Superseded
        | InvokeError::Lost
        | InvokeError::NoAnswer => AttemptEnd::SystemError,
    }
}
