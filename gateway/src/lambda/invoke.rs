//! Invoke: checks the request and answers with what the invoke path gives. The path itself is `crate::invoke`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::rules::check_payload_is_json;
use hearth_aws_api::lambda::{InvocationRequest, InvokeAsyncRequest, InvokeAsyncResponse};
use hearth_core::limits::{CLIENT_CONTEXT_MAX_BYTES, SYNC_REQUEST_MAX_BYTES};
use hearth_core::name::FunctionName;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use serde::de::IgnoredAny;

use super::errors::{api_error, invoke_error, unsupported};
use super::{Answer, Call, Caller, denied, named};
use crate::app::App;
use crate::catalog::{Record, not_found};
use crate::events;
use crate::invoke::{InvokeCall, InvokeOutcome};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
pub(super) const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
const LOG_RESULT: HeaderName = HeaderName::from_static("x-amz-log-result");
const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// What a policy calls an invocation.
const ACTION: &str = "lambda:InvokeFunction";

/// Members bound to headers which only the general decoder knows.
const UNUSUAL: [&str; 3] = [
    "x-amz-client-context",
    "x-amz-durable-execution-name",
    "x-amz-tenant-id",
];

/// What an invocation is asked for with, whatever protocol it came by.
#[derive(Debug)]
pub(crate) struct Invocation<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) request_id: &'a str,
    pub(crate) function_name: &'a str,
    pub(crate) qualifier: Option<&'a str>,
    pub(crate) payload: Bytes,
    pub(crate) client_context: String,
    pub(crate) log_tail: bool,
    pub(crate) headers: &'a HeaderMap,
}

pub(super) async fn handle(app: &App, call: &Call) -> Answer {
    let input = input(call)?;
    if input.tenant_id.is_some() || input.durable_execution_name.is_some() {
        return Err(unsupported("tenants and durable executions"));
    }
    let kind = input
        .invocation_type
        .as_deref()
        .unwrap_or("RequestResponse");
    let invocation = Invocation {
        caller: &call.caller,
        request_id: &call.request_id,
        function_name: input.function_name.as_deref().unwrap_or_default(),
        qualifier: input.qualifier.as_deref(),
        payload: input.payload.unwrap_or_default(),
        client_context: input.client_context.unwrap_or_default(),
        log_tail: input.log_type.as_deref() == Some("Tail"),
        headers: &call.parts.headers,
    };
    if kind == "Event" {
        accept(app, invocation).await?;
        return Ok(respond(
            StatusCode::ACCEPTED,
            &call.request_id,
            Bytes::new(),
        ));
    }
    let ready = prepare(app, invocation).await?;
    if kind == "DryRun" {
        return Ok(respond(
            StatusCode::NO_CONTENT,
            &call.request_id,
            Bytes::new(),
        ));
    }
    let log_tail = ready.log_tail;
    let outcome = run(app, ready).await?;
    Ok(answer(call, outcome, log_tail))
}

/// `InvokeAsync`, which AWS calls deprecated: an event invocation with another answer.
pub(super) async fn handle_async(app: &App, call: &Call) -> Answer {
    let input: InvokeAsyncRequest = call.input()?;
    let invocation = Invocation {
        caller: &call.caller,
        request_id: &call.request_id,
        function_name: input.function_name.as_deref().unwrap_or_default(),
        qualifier: None,
        payload: input.invoke_args.unwrap_or_default(),
        client_context: String::new(),
        log_tail: false,
        headers: &call.parts.headers,
    };
    accept(app, invocation).await?;
    call.output(&InvokeAsyncResponse {
        status: Some(StatusCode::ACCEPTED.as_u16().into()),
    })
}

/// Into the event log, after the same checks as any invocation. "Lambda passes the ClientContext object to your function for
/// synchronous invocations only."
pub(crate) async fn accept(app: &App, invocation: Invocation<'_>) -> Result<(), ApiError> {
    let (caller, name) = (invocation.caller, invocation.function_name);
    let function = named(app, caller, name, invocation.qualifier)?;
    let (request_id, payload) = (invocation.request_id, invocation.payload.clone());
    prepare(app, invocation).await?;
    events::accept(app, request_id, function, payload).await
}

/// The typed input. Nearly all invocations name a function by its bare name and say nothing unusual: these are taken
/// without the general decoder, which gives the same for them at some microseconds more.
fn input(call: &Call) -> Result<InvocationRequest, ApiError> {
    plain(call).map_or_else(|| call.input(), Ok)
}

fn plain(call: &Call) -> Option<InvocationRequest> {
    let headers = &call.parts.headers;
    let [(_, name)] = call.route.labels.as_slice() else {
        return None;
    };
    name.parse::<FunctionName>().ok()?;
    if call.parts.uri.query().is_some() || UNUSUAL.iter().any(|name| headers.contains_key(*name)) {
        return None;
    }
    let one_of = |header: &str, known: &[&str]| match headers.get(header) {
        None => Some(None),
        Some(value) => {
            let text = known
                .iter()
                .find(|text| text.as_bytes() == value.as_bytes())?;
            Some(Some((*text).to_owned()))
        }
    };
    Some(InvocationRequest {
        function_name: Some(name.clone()),
        invocation_type: one_of(
            "x-amz-invocation-type",
            &["RequestResponse", "DryRun", "Event"],
        )?,
        log_type: one_of("x-amz-log-type", &["None", "Tail"])?,
        payload: Some(call.body.clone()),
        ..InvocationRequest::default()
    })
}

/// Finds the function and checks the payload.
pub(crate) async fn prepare(app: &App, invocation: Invocation<'_>) -> Result<InvokeCall, ApiError> {
    let region = &app.catalog.region;
    let name = invocation.function_name;
    let function = named(app, invocation.caller, name, invocation.qualifier)?;
    check_payload(&invocation.payload)?;
    check_client_context(&invocation.client_context)?;
    let record = app.lookups.find(&function, app.now()).await;
    // Whether another account's function exists is not told to who may not invoke it.
    let is_own = function.account == invocation.caller.account;
    let may = |record: &Record| record.lets(invocation.caller, ACTION, &function, region);
    if !is_own && !record.as_ref().is_ok_and(|record| may(record)) {
        return Err(denied(app, invocation.caller, &function, "InvokeFunction"));
    }
    let record = record.map_err(api_error)?;
    let entry = record
        .find(function.qualifier.as_ref(), app.seams.random.u64())
        .ok_or_else(|| api_error(not_found(&function, region)))?;
    entry.check_invocable().map_err(api_error)?;
    let header = |name: &str| {
        let value = invocation.headers.get(name).and_then(|v| v.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    Ok(InvokeCall {
        request_id: invocation.request_id.to_owned(),
        payload: or_empty(invocation.payload),
        client_context: invocation.client_context,
        log_tail: invocation.log_tail,
        invoked_arn: match &function.qualifier {
            Some(qualifier) => format!("{}:{qualifier}", entry.arn),
            None => entry.arn.clone(),
        },
        parts: None,
        trace_id: header(TRACE_ID.as_str()),
        traceparent: hearth_node::telemetry::traceparent(&tracing::Span::current())
            .unwrap_or_else(|| header("traceparent")),
        entry,
    })
}

/// Runs it.
pub(crate) async fn run(app: &App, call: InvokeCall) -> Result<InvokeOutcome, ApiError> {
    let arn = call.invoked_arn.clone();
    let started = app.now();
    let outcome = app
        .invoker
        .invoke(call)
        .await
        .map_err(|error| invoke_error(error, &arn));
    app.metrics.invoked_ms(app.now().since(started));
    outcome
}

/// The event a function gets: AWS hands an empty payload over as an empty object.
pub(crate) fn or_empty(payload: Bytes) -> Bytes {
    if payload.is_empty() {
        return Bytes::from_static(b"{}");
    }
    payload
}

/// An empty payload is taken as an empty object; anything else must be JSON.
fn check_payload(payload: &[u8]) -> Result<(), ApiError> {
    check_length(payload, SYNC_REQUEST_MAX_BYTES)?;
    check_payload_is_json(payload)
}

/// Synchronous invocations and events have limits of their own, and the same text.
pub(crate) fn check_length(payload: &[u8], most: usize) -> Result<(), ApiError> {
    if payload.len() <= most {
        return Ok(());
    }
    Err(ApiError::request_entity_too_large(format!(
        "Request must be smaller than {most} bytes for the InvokeFunction operation"
    )))
}

/// "Up to 3,583 bytes of base64-encoded data about the invoking client", which is JSON.
fn check_client_context(context: &str) -> Result<(), ApiError> {
    if context.is_empty() {
        return Ok(());
    }
    if context.len() > CLIENT_CONTEXT_MAX_BYTES {
        return Err(ApiError::invalid_request_content(format!(
            "Client context must be no larger than {CLIENT_CONTEXT_MAX_BYTES} bytes"
        )));
    }
    let is_object = STANDARD.decode(context).is_ok_and(|json| {
        json.trim_ascii_start().first() == Some(&b'{')
            && serde_json::from_slice::<IgnoredAny>(&json).is_ok()
    });
    if is_object {
        return Ok(());
    }
    Err(ApiError::invalid_request_content(
        "Client context must be a valid Base64-encoded JSON object.",
    ))
}

pub(super) fn respond<B>(status: StatusCode, request_id: &str, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    insert(response.headers_mut(), REQUEST_ID, request_id);
    response
}

pub(super) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // What goes in here is ours: ids, numbers, base64.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn answer(call: &Call, outcome: InvokeOutcome, log_tail: bool) -> Response<Bytes> {
    let mut response = respond(StatusCode::OK, &call.request_id, outcome.payload);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    insert(
        headers,
        EXECUTED_VERSION,
        &outcome.executed_version.to_string(),
    );
    if !outcome.function_error.is_empty() {
        insert(headers, FUNCTION_ERROR, &outcome.function_error);
    }
    if log_tail {
        insert(headers, LOG_RESULT, &STANDARD.encode(&outcome.log_tail));
    }
    if let Some(trace) = call.parts.headers.get(&TRACE_ID) {
        headers.insert(TRACE_ID, trace.clone());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_must_be_json_of_at_most_6_mb() {
        for good in [&b""[..], b"{}", b" [1] ", b"null", b"\"\xc3\xa4\""] {
            assert!(check_payload(good).is_ok(), "{good:?}");
        }
        for bad in [&b"{"[..], b"{} x", b"nul", b"\xff"] {
            let error = check_payload(bad).unwrap_err();
            assert_eq!(error.status().as_u16(), 400);
            assert!(error.message().starts_with(
                "Could not parse request body into json: Could not parse payload into json: "
            ));
        }
        let message = check_payload(b"hello").unwrap_err();
        assert!(
            message.message().contains("Unrecognized token 'hello'"),
            "{message:?}"
        );
        let error = check_payload(&vec![b' '; SYNC_REQUEST_MAX_BYTES + 1]).unwrap_err();
        assert_eq!(
            (error.status().as_u16(), error.message()),
            (
                413,
                "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
            )
        );
    }

    #[test]
    fn client_context_is_base64_of_json() {
        assert!(check_client_context("").is_ok());
        assert!(check_client_context(&STANDARD.encode("{\"a\":1}")).is_ok());
        assert!(check_client_context("***").is_err());
        assert!(check_client_context(&STANDARD.encode("[1]")).is_err());
        assert!(check_client_context(&STANDARD.encode("x".repeat(4_000))).is_err());
    }
}
