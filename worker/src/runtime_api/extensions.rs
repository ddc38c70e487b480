//! The Lambda Extensions API 2020-01-01 and the Telemetry API 2022-07-01: paths, headers and status codes. Which call is
//! allowed when is `hearth_core::extensions`.

use bytes::Bytes;
use hearth_core::extensions::Refusal;
use hearth_core::telemetry::subscription;
use hearth_node::random::SharedRandom;
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use uuid::Uuid;

use super::serve::{Answer, Read, accepted, document, gone, header, json, not_found, read, status};
use crate::pool::sandbox::{NotTaken, Registering, Sandbox, WeakSandbox};

const NAME: HeaderName = HeaderName::from_static("lambda-extension-name");
const IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-identifier");
const EVENT_IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-event-identifier");
const ACCEPT_FEATURE: HeaderName = HeaderName::from_static("lambda-extension-accept-feature");
const ERROR_TYPE: HeaderName = HeaderName::from_static("lambda-extension-function-error-type");

/// Largest body of a request, bytes. Ours: a list of events, a subscription, an error document.
const BODY_MAX_BYTES: usize = 64 * 1024;

/// An extension's call.
pub(super) async fn answer(
    head: &Parts,
    body: Incoming,
    sandbox: &WeakSandbox,
    random: &SharedRandom,
) -> Answer {
    match (&head.method, head.uri.path()) {
        (&Method::POST, "/2020-01-01/extension/register") => {
            register(head, body, sandbox, random).await
        }
        (&Method::GET, "/2020-01-01/extension/event/next") => next(head, sandbox, random).await,
        (&Method::POST, "/2020-01-01/extension/init/error") => {
            error(head, body, sandbox, true).await
        }
        (&Method::POST, "/2020-01-01/extension/exit/error") => {
            error(head, body, sandbox, false).await
        }
        (&Method::PUT, "/2022-07-01/telemetry" | "/2022-07-01/telemetry/") => {
            subscribe(head, body, sandbox).await
        }
        // As AWS's own emulator says it.
        (&Method::PUT, "/2020-08-15/logs") => {
            let text = "Logs API is not supported".to_owned();
            document(StatusCode::ACCEPTED, "Logs.NotSupported", text)
        }
        (
            _,
            "/2020-01-01/extension/register"
            | "/2020-01-01/extension/event/next"
            | "/2020-01-01/extension/init/error"
            | "/2020-01-01/extension/exit/error"
            | "/2022-07-01/telemetry"
            | "/2022-07-01/telemetry/"
            | "/2020-08-15/logs",
        ) => status(StatusCode::METHOD_NOT_ALLOWED),
        _ => not_found(),
    }
}

fn forbidden(error_type: &str, message: impl Into<String>) -> Answer {
    document(StatusCode::FORBIDDEN, error_type, message.into())
}

fn refused(refusal: &Refusal) -> Answer {
    forbidden(refusal.error_type(), refusal.to_string())
}

async fn whole(body: Incoming) -> Result<Bytes, Answer> {
    match read(body, BODY_MAX_BYTES).await {
        Read::Whole(body, _) => Ok(body),
        Read::TooLarge => Err(status(StatusCode::PAYLOAD_TOO_LARGE)),
        Read::Broken => Err(status(StatusCode::BAD_REQUEST)),
    }
}

#[derive(Deserialize)]
struct Register {
    #[serde(default)]
    events: Vec<String>,
    #[serde(default, rename = "configurationKeys")]
    configuration_keys: Vec<String>,
}

async fn register(
    head: &Parts,
    body: Incoming,
    sandbox: &WeakSandbox,
    random: &SharedRandom,
) -> Answer {
    let body = match whole(body).await {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let name = header(&head.headers, &NAME);
    if name.is_empty() {
        return refused(&Refusal::InvalidName);
    }
    const FORMAT: &str = "InvalidRequestFormat";
    let wanted: Register = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(error) => return forbidden(FORMAT, error.to_string()),
    };
    if !wanted.configuration_keys.is_empty() {
        let text = "configurationKeys are deprecated; use environment variables instead";
        return forbidden(FORMAT, text);
    }
    let Some(sandbox) = sandbox.upgrade() else {
        return gone();
    };
    let registering = Registering {
        name: &name,
        events: &wanted.events,
        identifier: random.uuid(),
    };
    match sandbox.register(registering) {
        Ok(identifier) => registered(head, &sandbox, &identifier),
        Err(refusal) => refused(&refusal),
    }
}

fn registered(head: &Parts, sandbox: &Sandbox, identifier: &str) -> Answer {
    let (key, config) = (&sandbox.pool.key, &sandbox.pool.version.config);
    let mut facts = serde_json::json!({
        "functionName": key.function.as_str(),
        "functionVersion": key.version.to_string(),
        "handler": config.handler.as_deref().unwrap_or_default(),
    });
    // "accountId: If set, the Extensions API registration response will contain the account ID".
    let features = header(&head.headers, &ACCEPT_FEATURE);
    if features
        .split(',')
        .any(|feature| feature.trim() == "accountId")
    {
        facts["accountId"] = key.account.to_string().into();
    }
    let mut answer = json(StatusCode::OK, facts.to_string().into());
    put(&mut answer, IDENTIFIER, identifier);
    answer
}

fn put(answer: &mut Answer, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        answer.headers_mut().insert(name, value);
    }
}

/// Who calls. Any UUID will do here; whose it is, if anybody's, is asked later.
fn identifier(head: &Parts) -> Result<String, Box<Answer>> {
    let text = header(&head.headers, &IDENTIFIER);
    if text.is_empty() {
        let message = "Missing Lambda-Extension-Identifier header";
        return Err(Box::new(forbidden(
            "Extension.MissingExtensionIdentifier",
            message,
        )));
    }
    match Uuid::parse_str(&text) {
        Ok(identifier) => Ok(identifier.to_string()),
        Err(_) => {
            let message = "Invalid Lambda-Extension-Identifier";
            Err(Box::new(forbidden(
                "Extension.InvalidExtensionIdentifier",
                message,
            )))
        }
    }
}

async fn next(head: &Parts, sandbox: &WeakSandbox, random: &SharedRandom) -> Answer {
    let identifier = match identifier(head) {
        Ok(identifier) => identifier,
        Err(answer) => return *answer,
    };
    let Some(waiting) = sandbox
        .upgrade()
        .map(|sandbox| sandbox.on_extension_next(&identifier))
    else {
        return gone();
    };
    let receiver = match waiting {
        Ok(receiver) => receiver,
        Err(refusal) => return refused(&refusal),
    };
    // The sandbox is not held meanwhile: an idle one may be dropped.
    match receiver.await {
        Ok(told) => {
            let mut answer = json(StatusCode::OK, told.0.into());
            put(&mut answer, EVENT_IDENTIFIER, &random.uuid());
            answer
        }
        Err(_) => gone(),
    }
}

async fn error(head: &Parts, body: Incoming, sandbox: &WeakSandbox, is_init: bool) -> Answer {
    // The document is the extension's own; its type is in the header.
    if let Err(answer) = whole(body).await {
        return answer;
    }
    let identifier = match identifier(head) {
        Ok(identifier) => identifier,
        Err(answer) => return *answer,
    };
    let error_type = header(&head.headers, &ERROR_TYPE);
    if error_type.is_empty() {
        let text = "Lambda-Extension-Function-Error-Type not found";
        return forbidden("Extension.MissingHeader", text);
    }
    let Some(sandbox) = sandbox.upgrade() else {
        return gone();
    };
    match sandbox.on_extension_error(&identifier, &error_type, is_init) {
        Ok(()) => accepted(),
        Err(refusal @ Refusal::Unknown(_)) => {
            forbidden(refusal.error_type(), "Unknown Lambda-Extension-Identifier")
        }
        Err(refusal) => refused(&refusal),
    }
}

async fn subscribe(head: &Parts, body: Incoming, sandbox: &WeakSandbox) -> Answer {
    let body = match whole(body).await {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let identifier = match identifier(head) {
        Ok(identifier) => identifier,
        Err(answer) => return *answer,
    };
    let Some(sandbox) = sandbox.upgrade() else {
        return gone();
    };
    let name = match sandbox.may_subscribe(&identifier) {
        Ok(name) => name,
        Err(NotTaken::Unknown) => return refused(&Refusal::Unknown(identifier)),
        Err(NotTaken::Closed) => {
            let text = "Telemetry API subscription is closed already";
            return forbidden("Telemetry.SubscriptionClosed", text);
        }
    };
    match subscription::parse(&body) {
        Ok(subscription) => {
            sandbox.subscribe(&name, subscription);
            json(StatusCode::OK, Bytes::from_static(b"\"OK\""))
        }
        Err(error) => document(
            StatusCode::BAD_REQUEST,
            "ValidationError",
            error.to_string(),
        ),
    }
}
