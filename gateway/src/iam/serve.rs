//! Which requests are IAM's or STS's, and the way of one of them from its form to its answer.

use bytes::Bytes;
use hearth_aws_api::operation::QueryService;
use hearth_aws_api::protocol::query::{Form, QueryError, encode_error};
use hearth_aws_api::{iam, sigv4, sts};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, Response};
use tracing::debug;

use super::{Call, dispatch, resource};
use crate::app::App;
use crate::auth::Service;
use crate::caller::Caller;

/// A request that says it is for one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Its credentials are scoped to IAM.
    Iam,
    /// Its credentials are scoped to STS.
    Sts,
    /// It is a form without credentials: `Version` says which.
    Unsigned,
}

/// Whose a request is; `None` of one that is Lambda's.
pub(crate) fn claim(parts: &Parts) -> Option<Claim> {
    if parts.method != Method::POST || parts.uri.path() != "/" {
        return None;
    }
    let content_type = parts.headers.get(CONTENT_TYPE);
    let is_form = content_type.is_some_and(|value| {
        value
            .as_bytes()
            .starts_with(b"application/x-www-form-urlencoded")
    });
    match sigv4::claimed_service(parts).as_deref() {
        Some("iam") => Some(Claim::Iam),
        Some("sts") => Some(Claim::Sts),
        Some(_) => None,
        None => is_form.then_some(Claim::Unsigned),
    }
}

impl Claim {
    /// What its credentials have to be scoped to.
    pub(crate) fn signed(self) -> Service {
        match self {
            Self::Iam | Self::Unsigned => Service::Iam,
            Self::Sts => Service::Sts,
        }
    }

    /// In whose words it is answered before its form is read.
    pub(crate) fn service(self) -> &'static QueryService {
        match self {
            Self::Iam | Self::Unsigned => &iam::SERVICE,
            Self::Sts => &sts::SERVICE,
        }
    }
}

/// An answer, and what it was to.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) response: Response<Bytes>,
    pub(crate) operation: Option<&'static str>,
}

/// Answers a request whose signature stands.
pub(crate) async fn serve(
    app: &App,
    claim: Claim,
    caller: Caller,
    body: &Bytes,
    request_id: &str,
) -> Served {
    let mut service = claim.service();
    let mut operation = None;
    let answer = answer(
        app,
        claim,
        caller,
        body,
        (request_id, &mut service, &mut operation),
    )
    .await;
    let response = answer.unwrap_or_else(|error| {
        debug!(
            code = error.code().shape().code,
            message = error.message(),
            "request refused"
        );
        encode_error(service, &error, request_id)
    });
    Served {
        response,
        operation,
    }
}

async fn answer(
    app: &App,
    claim: Claim,
    caller: Caller,
    body: &Bytes,
    (request_id, service, operation): (&str, &mut &'static QueryService, &mut Option<&'static str>),
) -> Result<Response<Bytes>, QueryError> {
    let form = Form::parse(body)?;
    if claim == Claim::Unsigned && form.version() == Some(sts::SERVICE.version) {
        *service = &sts::SERVICE;
    }
    let index = form.operation(service)?;
    let call = Call {
        caller,
        request_id: request_id.to_owned(),
        service,
        spec: &service.operations[index],
        form,
    };
    *operation = Some(call.spec.name);
    if std::ptr::eq(*service, &raw const sts::SERVICE) {
        dispatch::sts(app, &call, sts::Operation::ALL[index])
    } else {
        resource::check(app, &call)?;
        dispatch::iam(app, &call, iam::Operation::ALL[index]).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, path: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn requests_are_told_apart_by_the_scope_of_their_credentials() {
        let signed = |service: &str| {
            format!(
                "AWS4-HMAC-SHA256 Credential=AKID/20300102/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
            )
        };
        let of = |service: &str| {
            let headers = [
                ("authorization", &*signed(service)),
                ("x-amz-date", "20300102T000000Z"),
            ];
            claim(&parts("POST", "/", &headers))
        };
        assert_eq!(of("iam"), Some(Claim::Iam));
        assert_eq!(of("sts"), Some(Claim::Sts));
        assert_eq!(of("lambda"), None);
        let form = [(
            "content-type",
            "application/x-www-form-urlencoded; charset=utf-8",
        )];
        assert_eq!(claim(&parts("POST", "/", &form)), Some(Claim::Unsigned));
        assert_eq!(claim(&parts("POST", "/2015-03-31/functions", &form)), None);
        assert_eq!(claim(&parts("GET", "/", &form)), None);
    }
}
