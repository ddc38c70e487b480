//! One call of a service: its request, signed, its attempts, its answer. What is asked is in the file of each service.
//!
//! ```text
//! call -> attempt (sign, send, read; within the timeout) -> understood
//!              ^                                        \-> refused, unreachable
//!              +------------- pause, up to twice ----------/
//! ```

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use hearth_aws_api::sigv4::{self, SecretKey, Signer};
use hearth_node::Seams;
use hearth_node::clock::SharedClock;
use hearth_node::grpc::retry;
use hearth_node::random::SharedRandom;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use reqwest::redirect::Policy;
use reqwest::{Response, Url};
use time::OffsetDateTime;
use tracing::debug;

use crate::error::ServiceError;
use crate::options::{EndpointOptions, ServicesOptionsError};
use crate::refusal;
use crate::retry::BACKOFF;
use crate::service::Service;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer that is read, bytes; the services' have some hundred.
pub(crate) const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// Everything but RFC 3986's unreserved characters, in forms and in paths.
pub(crate) const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Sends requests. One for all services.
#[derive(Debug)]
pub(crate) struct Client {
    /// Made when it is first needed: it reads the system's CAs, which a node that tells nobody need not have.
    http: OnceLock<Result<reqwest::Client, String>>,
    clock: SharedClock,
    random: SharedRandom,
}

/// Where a service is, and how requests to it are signed.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) service: Service,
    url: Url,
    region: String,
    /// Id and secret; none for requests without signature.
    key: Option<(String, SecretKey)>,
    timeout: Duration,
}

/// A request before it is signed; the same for all attempts.
#[derive(Debug)]
pub(crate) struct Call {
    method: Method,
    /// Below the endpoint's, escaped; empty, or with a slash before it.
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Call {
    /// A request to the endpoint itself.
    pub(crate) fn post(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            method: Method::POST,
            path: String::new(),
            headers: vec![(CONTENT_TYPE, HeaderValue::from_static(content_type))],
            body: body.into(),
        }
    }

    /// A request to something at the endpoint.
    pub(crate) fn put(path: String, content_type: &'static str, body: Bytes) -> Self {
        Self {
            method: Method::PUT,
            path,
            ..Self::post(content_type, body)
        }
    }

    /// With one header more.
    pub(crate) fn with(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.push((HeaderName::from_static(name), value));
        self
    }
}

impl Endpoint {
    /// That of the options, if they name one.
    pub(crate) fn new(
        service: Service,
        options: &EndpointOptions,
        region: &str,
    ) -> Result<Option<Self>, ServicesOptionsError> {
        let Some(url) = options.address(service)? else {
            return Ok(None);
        };
        let region = match options.region.as_str() {
            "" => region,
            own => own,
        };
        let key = (!options.access_key_id.is_empty()).then(|| {
            let secret = SecretKey::new(options.secret_access_key.0.as_str());
            (options.access_key_id.clone(), secret)
        });
        Ok(Some(Self {
            service,
            url,
            region: region.to_owned(),
            key,
            timeout: options.timeout.0,
        }))
    }

    /// The request, signed if there is a key.
    fn request(&self, call: &Call, now: OffsetDateTime) -> Result<reqwest::Request, ServiceError> {
        let unsendable = |reason: String| self.unsendable(reason);
        let mut url = self.url.clone();
        if !call.path.is_empty() {
            let path = format!("{}{}", url.path().trim_end_matches('/'), call.path);
            url.set_path(&path);
        }
        let request = Request::builder()
            .method(call.method.clone())
            .uri(url.as_str())
            .body(())
            .map_err(|error| unsendable(error.to_string()))?;
        let (mut parts, ()) = request.into_parts();
        parts.headers.extend(call.headers.iter().cloned());
        if let Some((access_key_id, secret)) = &self.key {
            let signer = Signer {
                access_key_id,
                secret,
                session_token: None,
                region: &self.region,
                service: self.service.id(),
            };
            sigv4::sign(&mut parts, &call.body, signer, now)
                .map_err(|error| unsendable(error.to_string()))?;
            if let Some(value) = parts.headers.get_mut(AUTHORIZATION) {
                value.set_sensitive(true);
            }
        }
        Request::from_parts(parts, call.body.clone())
            .try_into()
            .map_err(|error| unsendable(cause(error)))
    }

    fn unsendable(&self, reason: String) -> ServiceError {
        let service = self.service;
        ServiceError::Unsendable { service, reason }
    }

    fn unreachable(&self, reason: String) -> ServiceError {
        let service = self.service;
        ServiceError::Unreachable { service, reason }
    }

    /// For answers that are none of the service's.
    pub(crate) fn protocol(&self, reason: impl Into<String>) -> ServiceError {
        ServiceError::Protocol {
            service: self.service,
            reason: reason.into(),
        }
    }
}

impl Client {
    pub(crate) fn new(seams: &Seams) -> Self {
        Self {
            http: OnceLock::new(),
            clock: seams.clock.clone(),
            random: seams.random.clone(),
        }
    }

    /// Asks, again if need be, until `understand` has made something of an answer of success.
    pub(crate) async fn call<T>(
        &self,
        endpoint: &Endpoint,
        call: &Call,
        understand: impl Fn(&[u8]) -> Result<T, ServiceError> + Sync,
    ) -> Result<T, ServiceError> {
        let understand = &understand;
        retry(
            &BACKOFF,
            &*self.random,
            ServiceError::is_retryable,
            || async move {
                let answer = self.attempt(endpoint, call).await;
                let understood = answer.and_then(|body| understand(&body));
                if let Err(error) = &understood {
                    debug!(service = %endpoint.service, %error, "an attempt failed");
                }
                understood
            },
        )
        .await
    }

    /// The body of an answer of success.
    async fn attempt(&self, endpoint: &Endpoint, call: &Call) -> Result<Vec<u8>, ServiceError> {
        let http = self.http.get_or_init(build);
        let http = http
            .as_ref()
            .map_err(|reason| endpoint.unsendable(reason.clone()))?;
        let request = endpoint.request(call, self.now())?;
        let exchange = async {
            let failed = |error| endpoint.unreachable(cause(error));
            let mut response = http.execute(request).await.map_err(failed)?;
            let (body, is_whole) = read_limited(&mut response).await.map_err(failed)?;
            let status = response.status();
            if !status.is_success() {
                return Err(refusal::read(endpoint.service, status.as_u16(), &body));
            }
            if !is_whole {
                return Err(ServiceError::TooLarge {
                    service: endpoint.service,
                    limit_bytes: ANSWER_MAX_BYTES,
                });
            }
            Ok(body)
        };
        match tokio::time::timeout(endpoint.timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => {
                let waited = endpoint.timeout.as_millis();
                Err(endpoint.unreachable(format!("no answer within {waited} ms")))
            }
        }
    }

    fn now(&self) -> OffsetDateTime {
        let seconds = i64::try_from(self.clock.unix_ms() / 1_000).unwrap_or(0);
        OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

fn build() -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .user_agent(concat!("hearth/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        // A redirect would lead to a host that nobody configured.
        .redirect(Policy::none())
        .build()
        .map_err(cause)
}

/// As much of a body as is read of any, and whether it is all.
async fn read_limited(response: &mut Response) -> reqwest::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = ANSWER_MAX_BYTES - bytes.len();
        if chunk.len() > room {
            bytes.extend_from_slice(&chunk[..room]);
            return Ok((bytes, false));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok((bytes, true))
}

/// The last cause: it says most.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
    causes.last().map_or_else(String::new, ToString::to_string)
}
