//! Events on buses: EventBridge's JSON protocol. One event a request, though the service would take several.

use hearth_core::ids::UnixMs;
use http::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::arn;
use crate::client::{Call, Endpoint};
use crate::error::ServiceError;
use crate::refusal;
use crate::service::Service;
use crate::services::Services;

const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// What a bus is told.
#[derive(Clone, Copy, Debug)]
pub struct BusEvent<'a> {
    /// Who tells it: `lambda`.
    pub source: &'a str,
    /// What kind of event it is.
    pub detail_type: &'a str,
    /// A JSON object, as text.
    pub detail: &'a str,
    /// ARNs of what it is about.
    pub resources: &'a [&'a str],
    /// When it happened; buses count in seconds.
    pub time: UnixMs,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PutEvents<'a> {
    entries: [Entry<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    event_bus_name: &'a str,
    source: &'a str,
    detail_type: &'a str,
    detail: &'a str,
    resources: &'a [&'a str],
    /// Seconds.
    time: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    failed_entry_count: u32,
    #[serde(default)]
    entries: Vec<AnswerEntry>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AnswerEntry {
    error_code: Option<String>,
    error_message: Option<String>,
}

impl Services {
    /// Puts an event on a bus.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub async fn put_event(&self, bus_arn: &str, event: BusEvent<'_>) -> Result<(), ServiceError> {
        arn::parse(bus_arn, Service::EventBridge)?;
        let endpoint = self.endpoint(Service::EventBridge)?;
        let target = HeaderValue::from_static("AWSEvents.PutEvents");
        let call = Call::post(CONTENT_TYPE, input(bus_arn, event)).with("x-amz-target", target);
        let understand = |answer: &[u8]| understand(endpoint, answer);
        self.client.call(endpoint, &call, understand).await
    }
}

fn input(bus_arn: &str, event: BusEvent<'_>) -> Vec<u8> {
    let entry = Entry {
        event_bus_name: bus_arn,
        source: event.source,
        detail_type: event.detail_type,
        detail: event.detail,
        resources: event.resources,
        time: event.time.0 / 1_000,
    };
    let input = PutEvents { entries: [entry] };
    serde_json::to_vec(&input).expect("texts and a number can be written as JSON")
}

/// An event may be refused in an answer of success.
fn understand(endpoint: &Endpoint, answer: &[u8]) -> Result<(), ServiceError> {
    let answer: Answer = serde_json::from_slice(answer)
        .map_err(|_| endpoint.protocol("it tells no FailedEntryCount"))?;
    if answer.failed_entry_count == 0 {
        return Ok(());
    }
    let failed = answer.entries.into_iter().find(|e| e.error_code.is_some());
    let failed = failed.unwrap_or_default();
    Err(refusal::refused(
        endpoint.service,
        200,
        &failed.error_code.unwrap_or_default(),
        &failed.error_message.unwrap_or_default(),
    ))
}
