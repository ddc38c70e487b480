//! One request to a registry: its address, its authentication, its status. What is asked for is in [`crate::pull`].
//!
//! ```text
//! GET -> 200
//! GET -> 401 Basic  -> GET with name and password
//! GET -> 401 Bearer -> GET realm (with name and password, if there are any) -> token -> GET with the token
//! ```

use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hearth_node::blocking;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Response, StatusCode, Url};
use serde::Deserialize;

use crate::challenge::{self, Challenge};
use crate::credentials::{self, Credentials};
use crate::error::RegistryError;
use crate::options::RegistryOptions;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Redirects followed; registries send clients to the store that has a layer.
const REDIRECTS_MAX: usize = 5;
/// Largest answer of a token server, bytes.
const TOKEN_MAX_BYTES: usize = 256 * 1024;

/// Asks registries. One for each node.
#[derive(Debug)]
pub struct Registry {
    pub(crate) options: RegistryOptions,
    /// Made when it is first needed: it reads the system's CAs, which a node without images need not have.
    http: OnceLock<Result<Client, String>>,
}

/// What is asked of which host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) host: &'a str,
    pub(crate) repository: &'a str,
    /// Below the repository: `manifests/TAG`.
    pub(crate) path: &'a str,
    pub(crate) accept: &'static str,
}

impl Question<'_> {
    /// For messages.
    pub(crate) fn what(&self) -> String {
        let thing = match self.path.split_once('/') {
            Some(("manifests", wanted)) if wanted.starts_with("sha256:") => format!("@{wanted}"),
            Some(("manifests", tag)) => format!(":{tag}"),
            Some((_, digest)) => format!(" {digest}"),
            None => String::new(),
        };
        format!("{}{thing}", self.repository)
    }

    pub(crate) fn unreachable(&self, reason: impl Into<String>) -> RegistryError {
        RegistryError::Unreachable {
            host: self.host.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn protocol(&self, reason: impl Into<String>) -> RegistryError {
        RegistryError::Protocol {
            host: self.host.to_owned(),
            reason: reason.into(),
        }
    }

    fn denied(&self) -> RegistryError {
        RegistryError::Denied {
            host: self.host.to_owned(),
            what: self.what(),
        }
    }
}

impl Registry {
    /// A client with these options.
    #[must_use]
    pub fn new(options: RegistryOptions) -> Self {
        Self {
            options,
            http: OnceLock::new(),
        }
    }

    fn http(&self, question: &Question<'_>) -> Result<&Client, RegistryError> {
        let made = self.http.get_or_init(|| build(&self.options));
        made.as_ref().map_err(|reason| question.unreachable(reason))
    }

    /// The answer, authenticated if need be; its status is 200.
    pub(crate) async fn get(&self, question: &Question<'_>) -> Result<Response, RegistryError> {
        let scheme = self.options.scheme(question.host);
        let Question {
            host,
            repository,
            path,
            ..
        } = question;
        let url = format!("{scheme}://{host}/v2/{repository}/{path}");
        let url: Url = url
            .parse()
            .map_err(|_| question.protocol("its address is none"))?;
        let first = self.send(question, url.clone(), None).await?;
        let response = if first.status() == StatusCode::UNAUTHORIZED {
            let authorization = self.authorization(question, &first).await?;
            self.send(question, url, Some(authorization)).await?
        } else {
            first
        };
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(question.denied()),
            StatusCode::NOT_FOUND => Err(RegistryError::NotFound {
                host: question.host.to_owned(),
                what: question.what(),
            }),
            status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
                Err(question.unreachable(format!("it answered {status}")))
            }
            status => Err(question.protocol(format!("it answered {status}"))),
        }
    }

    async fn send(
        &self,
        question: &Question<'_>,
        url: Url,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let mut request = self
            .http(question)?
            .get(url)
            .header(ACCEPT, question.accept);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        request
            .send()
            .await
            .map_err(|error| question.unreachable(cause(error)))
    }

    /// What a registry that answered 401 wants to see.
    async fn authorization(
        &self,
        question: &Question<'_>,
        refusal: &Response,
    ) -> Result<HeaderValue, RegistryError> {
        let headers = refusal.headers().get_all(WWW_AUTHENTICATE);
        let challenge = headers
            .iter()
            .filter_map(|header| header.to_str().ok())
            .find_map(challenge::parse)
            .ok_or_else(|| question.denied())?;
        let credentials = self.credentials(question.host).await?;
        match (challenge, credentials) {
            (Challenge::Basic, Some(credentials)) => {
                basic(&credentials).ok_or_else(|| question.denied())
            }
            (Challenge::Basic, None) => Err(question.denied()),
            (Challenge::Bearer { realm, service }, credentials) => {
                let url = self.token_url(question, &realm, service.as_deref())?;
                self.token(question, url, credentials).await
            }
        }
    }

    async fn credentials(&self, host: &str) -> Result<Option<Credentials>, RegistryError> {
        if self.options.credentials.as_os_str().is_empty() {
            return Ok(None);
        }
        let (file, host) = (self.options.credentials.clone(), host.to_owned());
        let read = blocking::run(move || credentials::read(&file, &host)).await;
        read.unwrap_or_else(|error| {
            Err(RegistryError::Credentials {
                reason: error.to_string(),
            })
        })
    }

    /// Where a token is fetched; over plain HTTP only where that is allowed, since it may carry a password.
    fn token_url(
        &self,
        question: &Question<'_>,
        realm: &str,
        service: Option<&str>,
    ) -> Result<Url, RegistryError> {
        let mut url: Url = realm
            .parse()
            .map_err(|_| question.protocol("its token server has no address"))?;
        if !is_allowed(&self.options, &url) {
            let text = "its token server is not asked over plain HTTP unless registries.plain_http names it";
            return Err(question.protocol(text));
        }
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = service {
                query.append_pair("service", service);
            }
            query.append_pair("scope", &format!("repository:{}:pull", question.repository));
        }
        Ok(url)
    }

    async fn token(
        &self,
        question: &Question<'_>,
        url: Url,
        credentials: Option<Credentials>,
    ) -> Result<HeaderValue, RegistryError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            token: String,
            #[serde(default)]
            access_token: String,
        }
        let authorization = credentials.as_ref().and_then(basic);
        let response = self.send(question, url, authorization).await?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_client_error() => return Err(question.denied()),
            status => {
                return Err(question.unreachable(format!("its token server answered {status}")));
            }
        }
        let bytes = read_limited(question, response, TOKEN_MAX_BYTES).await?;
        let unusable = || question.protocol("its token server gave no token");
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| unusable())?;
        let token = if answer.token.is_empty() {
            answer.access_token
        } else {
            answer.token
        };
        if token.is_empty() {
            return Err(unusable());
        }
        secret(format!("Bearer {token}")).ok_or_else(unusable)
    }
}

fn build(options: &RegistryOptions) -> Result<Client, String> {
    let rules = options.clone();
    let redirects = Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS_MAX {
            return attempt.error("too many redirects");
        }
        if is_allowed(&rules, attempt.url()) {
            attempt.follow()
        } else {
            attempt.error("a redirect to plain HTTP, which registries.plain_http does not allow")
        }
    });
    let mut builder = Client::builder()
        .user_agent(concat!("hearth/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(options.timeout.0)
        .redirect(redirects);
    if !options.ca.as_os_str().is_empty() {
        let failed = |reason: String| {
            format!("the file of the option registries.ca cannot be used: {reason}")
        };
        let pem = std::fs::read(&options.ca).map_err(|error| failed(error.to_string()))?;
        let certificates =
            Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.to_string()))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(cause)
}

/// HTTPS, or plain HTTP to a host for which the operator allows it.
fn is_allowed(options: &RegistryOptions, url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let authority = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    match url.scheme() {
        "https" => true,
        "http" => options.scheme(&authority) == "http",
        _ => false,
    }
}

fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let both = format!("{}:{}", credentials.name, credentials.password);
    secret(format!("Basic {}", STANDARD.encode(both)))
}

/// A header that no log shows.
fn secret(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The last cause: it says most, and has no address in it, which may carry a signature.
pub(crate) fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
    causes.last().map_or_else(String::new, ToString::to_string)
}

/// A whole answer, which must be short.
pub(crate) async fn read_limited(
    question: &Question<'_>,
    mut response: Response,
    most: usize,
) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| question.unreachable(cause(error)))?
    {
        if bytes.len() + chunk.len() > most {
            return Err(
                question.protocol(format!("{} is larger than {most} bytes", question.what()))
            );
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
