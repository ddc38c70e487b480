//! Tells those that a function names of the end of an event: its destination for that end, and of a failure its dead-letter
//! queue. Tried a few times; "If Lambda can't send a record to a destination, it sends a `DestinationDeliveryFailures` metric",
//! and here a line in the log as well.

use hearth_core::error::Error;
use hearth_core::events::FunctionKey;
use hearth_core::events::document::{
    BUS_SOURCE, DeadLetter, Invocation, Response, bus_detail_type, object_key,
};
use hearth_core::events::retry::Condition;
use hearth_core::ids::UnixMs;
use hearth_core::name::{FunctionRef, Scope};
use hearth_services::{BusEvent, ServiceError};
use tracing::warn;

use super::log::{Leased, NewEvent};
use crate::app::App;
use crate::catalog::{Entry, Record};
use crate::invoke::InvokeOutcome;

/// The end of an event.
#[derive(Debug)]
pub(super) struct Ending<'a> {
    pub(super) at: UnixMs,
    pub(super) event: &'a Leased,
    pub(super) condition: Condition,
    /// Those that count, the last one included.
    pub(super) attempts: u32,
    /// Of the last attempt, if the function was run.
    pub(super) outcome: Option<&'a InvokeOutcome>,
}

/// Why somebody was not told.
#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error("it is no queue, topic, bucket, event bus or function")]
    Unknown,
    /// Whether it may be invoked from here nobody has said.
    #[error("it is a function of another account")]
    Foreign,
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error("{0}")]
    Core(#[from] Error),
}

/// Tells all of them.
pub(super) async fn all(app: &App, record: &Record, version: &Entry, ending: &Ending<'_>) {
    let qualifier = ending.event.entry.qualifier.as_ref();
    let destinations = record
        .event_invoke(qualifier)
        .and_then(|m| m.destinations.as_ref());
    let destination = destinations.and_then(|named| {
        let is_failure = ending.condition.is_failure();
        let named = if is_failure {
            &named.on_failure
        } else {
            &named.on_success
        };
        named.as_deref()
    });
    if let Some(arn) = destination {
        said(app, ending, arn, to_destination(app, ending, arn).await);
    }
    if ending.condition.is_failure()
        && let Some(arn) = version.dead_letter.as_deref()
    {
        said(app, ending, arn, to_dead_letters(app, ending, arn).await);
    }
}

fn said(app: &App, ending: &Ending<'_>, arn: &str, result: Result<(), TellError>) {
    let Err(error) = result else {
        return;
    };
    app.metrics.destination_failures.inc();
    let entry = &ending.event.entry;
    warn!(
        %error,
        arn,
        request_id = entry.request_id,
        account = %entry.function.account,
        function = %entry.function.function,
        condition = ending.condition.as_str(),
        "the end of an event could not be told"
    );
}

async fn to_destination(app: &App, ending: &Ending<'_>, arn: &str) -> Result<(), TellError> {
    let entry = &ending.event.entry;
    let function_arn = entry.arn(&app.catalog.region);
    let record = Invocation {
        at: ending.at,
        request_id: &entry.request_id,
        function_arn: &function_arn,
        condition: ending.condition,
        attempts: ending.attempts,
        payload: &ending.event.payload,
        response: ending.outcome.map(response),
    };
    let record = record.record()?;
    let services = &app.events.services;
    match service_of(arn) {
        Some("sqs") => services.send_to_queue(arn, &record, &[]).await?,
        Some("sns") => services.publish(arn, &record, &[]).await?,
        Some("s3") => {
            let random = app.seams.random.uuid();
            let key = object_key(&entry.function.function, ending.at, &random);
            services.put_object(arn, &key, record.into()).await?;
        }
        Some("events") => {
            let event = BusEvent {
                source: BUS_SOURCE,
                detail_type: bus_detail_type(ending.condition),
                detail: &record,
                resources: &[arn, &function_arn],
                time: ending.at,
            };
            services.put_event(arn, event).await?;
        }
        Some("lambda") => to_function(app, ending, arn, record).await?,
        _ => return Err(TellError::Unknown),
    }
    Ok(())
}

/// Another function is invoked with the record as an event of its own.
async fn to_function(
    app: &App,
    ending: &Ending<'_>,
    arn: &str,
    record: String,
) -> Result<(), TellError> {
    let scope = Scope {
        region: app.catalog.region.clone(),
        account: ending.event.entry.function.account.clone(),
    };
    let function = FunctionRef::resolve(arn, None, &scope)?;
    if function.account != scope.account {
        return Err(TellError::Foreign);
    }
    let event = NewEvent {
        request_id: app.seams.random.uuid(),
        function: FunctionKey {
            account: function.account,
            function: function.name,
        },
        qualifier: function.qualifier,
        payload: record.into(),
    };
    app.events.log.append(event).await?;
    Ok(())
}

async fn to_dead_letters(app: &App, ending: &Ending<'_>, arn: &str) -> Result<(), TellError> {
    let request_id = &ending.event.entry.request_id;
    let letter = match ending.outcome {
        Some(outcome) => DeadLetter::of_function_error(request_id, &outcome.payload),
        // It was not run: throttled until it was too old, or not to be run at all.
        None => DeadLetter::new(request_id, 429, "Rate Exceeded."),
    };
    let body = String::from_utf8_lossy(&ending.event.payload);
    let services = &app.events.services;
    match service_of(arn) {
        Some("sqs") => {
            services
                .send_to_queue(arn, &body, &letter.attributes())
                .await?
        }
        Some("sns") => services.publish(arn, &body, &letter.attributes()).await?,
        _ => return Err(TellError::Unknown),
    }
    Ok(())
}

fn response(outcome: &InvokeOutcome) -> Response<'_> {
    let error = outcome.function_error.as_str();
    Response {
        executed_version: outcome.executed_version,
        function_error: (!error.is_empty()).then_some(error),
        payload: &outcome.payload,
    }
}

/// `sqs` of `arn:aws:sqs:...`.
fn service_of(arn: &str) -> Option<&str> {
    let mut parts = arn.split(':');
    (parts.next()? == "arn").then_some(())?;
    parts.nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_known_by_its_arn() {
        let table = [
            ("arn:aws:sqs:us-east-1:000000000000:q", Some("sqs")),
            ("arn:aws:s3:::bucket", Some("s3")),
            ("arn:aws-cn:lambda:r:1:function:f:live", Some("lambda")),
            ("bucket", None),
            ("", None),
        ];
        for (arn, wanted) in table {
            assert_eq!(service_of(arn), wanted, "{arn}");
        }
    }
}
