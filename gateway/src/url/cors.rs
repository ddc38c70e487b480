//! What browsers are told of a URL with a CORS configuration: preflights are answered by the URL itself, and "Lambda
//! automatically adds the CORS headers to all responses through the function URL. [...] If there are conflicting headers, the
//! configured CORS headers on the function URL take precedence." Recorded from AWS: the origin comes back as it was sent, also
//! where all are allowed, with `Vary: Origin`.
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/urls-configuration.html>

use hearth_core::attached::Cors;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// The headers that answer a preflight, if the request is one.
pub(crate) fn preflight(cors: &Cors, method: &Method, asked: &HeaderMap) -> Option<HeaderMap> {
    let wanted = asked.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    if method != Method::OPTIONS || !asked.contains_key(ORIGIN) {
        return None;
    }
    let mut told = HeaderMap::new();
    if !tell_origin(cors, asked, &mut told) {
        return Some(told);
    }
    let wanted_headers = asked.get(ACCESS_CONTROL_REQUEST_HEADERS);
    let methods = named_or_all(cors, cors.methods.as_deref(), Some(wanted));
    let headers = named_or_all(cors, cors.headers.as_deref(), wanted_headers);
    put(&mut told, ACCESS_CONTROL_ALLOW_METHODS, methods);
    put(&mut told, ACCESS_CONTROL_ALLOW_HEADERS, headers);
    let max_age = cors.max_age_s.map(HeaderValue::from);
    put(&mut told, ACCESS_CONTROL_MAX_AGE, max_age);
    Some(told)
}

/// Puts the configuration's headers in the place of the function's.
pub(crate) fn apply(cors: &Cors, asked: &HeaderMap, told: &mut HeaderMap) {
    if tell_origin(cors, asked, told) {
        let exposed = listed(cors.exposed.as_deref());
        put(told, ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// Whether the origin is one of those that may call, and if so what it is told.
fn tell_origin(cors: &Cors, asked: &HeaderMap, told: &mut HeaderMap) -> bool {
    let Some(origin) = asked.get(ORIGIN) else {
        return false;
    };
    vary(told);
    let mut origins = cors.origins.iter().flatten();
    let is_allowed =
        origins.any(|of| of == "*" || of.as_bytes().eq_ignore_ascii_case(origin.as_bytes()));
    if is_allowed {
        told.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        let credentials = cors.credentials.unwrap_or_default();
        let credentials = credentials.then(|| HeaderValue::from_static("true"));
        put(told, ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials);
    }
    is_allowed
}

fn vary(told: &mut HeaderMap) {
    let is_said = told.get_all(VARY).iter().any(|value| {
        let mut names = value.as_bytes().split(|byte| *byte == b',');
        names.any(|name| name.trim_ascii().eq_ignore_ascii_case(b"origin"))
    });
    if !is_said {
        told.append(VARY, HeaderValue::from_static("Origin"));
    }
}

/// What is listed; where that is everything, what was asked for: browsers that send credentials take a `*` for a name.
fn named_or_all(
    cors: &Cors,
    list: Option<&[String]>,
    asked: Option<&HeaderValue>,
) -> Option<HeaderValue> {
    let is_all = list.is_some_and(|list| list.iter().any(|one| one == "*"));
    match asked {
        Some(asked) if is_all && cors.credentials.unwrap_or_default() => Some(asked.clone()),
        Some(_) | None => listed(list),
    }
}

/// Users write what they like; what cannot stand in a header is left out.
fn listed(list: Option<&[String]>) -> Option<HeaderValue> {
    let list = list.filter(|list| !list.is_empty())?;
    HeaderValue::try_from(list.join(",")).ok()
}

fn put(told: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        told.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(values: &[&str]) -> Option<Vec<String>> {
        Some(values.iter().map(|value| (*value).to_owned()).collect())
    }

    fn cors() -> Cors {
        Cors {
            credentials: Some(true),
            headers: list(&["content-type", "x-a"]),
            methods: list(&["GET", "POST"]),
            origins: list(&["https://a.example", "https://b.example"]),
            exposed: list(&["date", "x-b"]),
            max_age_s: Some(300),
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        pairs.collect()
    }

    fn shown(headers: &HeaderMap) -> Vec<String> {
        let mut shown: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        shown.sort();
        shown
    }

    #[test]
    fn a_preflight_is_answered_from_the_configuration() {
        let asked = [
            ("origin", "https://b.example"),
            ("access-control-request-method", "PUT"),
        ];
        let told = preflight(&cors(), &Method::OPTIONS, &headers(&asked)).unwrap();
        assert_eq!(
            shown(&told),
            [
                "access-control-allow-credentials: true",
                "access-control-allow-headers: content-type,x-a",
                "access-control-allow-methods: GET,POST",
                "access-control-allow-origin: https://b.example",
                "access-control-max-age: 300",
                "vary: Origin",
            ]
        );
        let stranger = [
            ("origin", "https://c.example"),
            ("access-control-request-method", "GET"),
        ];
        let told = preflight(&cors(), &Method::OPTIONS, &headers(&stranger)).unwrap();
        assert_eq!(shown(&told), ["vary: Origin"]);
    }

    #[test]
    fn what_is_no_preflight_goes_to_the_function() {
        let asked = headers(&[
            ("origin", "https://b.example"),
            ("access-control-request-method", "PUT"),
        ]);
        assert!(preflight(&cors(), &Method::POST, &asked).is_none());
        let half = headers(&[("origin", "https://b.example")]);
        assert!(preflight(&cors(), &Method::OPTIONS, &half).is_none());
        let half = headers(&[("access-control-request-method", "PUT")]);
        assert!(preflight(&cors(), &Method::OPTIONS, &half).is_none());
    }

    #[test]
    fn everything_is_a_star_or_what_was_asked_for_where_credentials_are_sent() {
        let mut cors = Cors {
            headers: list(&["*"]),
            methods: list(&["*"]),
            origins: list(&["*"]),
            ..Cors::default()
        };
        let asked = headers(&[
            ("origin", "null"),
            ("access-control-request-method", "DELETE"),
            ("access-control-request-headers", "x-q, x-r"),
        ]);
        let told = preflight(&cors, &Method::OPTIONS, &asked).unwrap();
        assert_eq!(told[ACCESS_CONTROL_ALLOW_METHODS], "*");
        assert_eq!(told[ACCESS_CONTROL_ALLOW_HEADERS], "*");
        assert_eq!(told[ACCESS_CONTROL_ALLOW_ORIGIN], "null");
        assert!(!told.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
        cors.credentials = Some(true);
        let told = preflight(&cors, &Method::OPTIONS, &asked).unwrap();
        assert_eq!(told[ACCESS_CONTROL_ALLOW_METHODS], "DELETE");
        assert_eq!(told[ACCESS_CONTROL_ALLOW_HEADERS], "x-q, x-r");
    }

    #[test]
    fn headers_of_the_function_give_way_and_vary_is_said_once() {
        let mut told = headers(&[
            ("access-control-allow-origin", "*"),
            ("access-control-allow-credentials", "false"),
            ("vary", "accept, origin"),
            ("x-b", "1"),
        ]);
        apply(
            &cors(),
            &headers(&[("origin", "https://a.example")]),
            &mut told,
        );
        assert_eq!(
            shown(&told),
            [
                "access-control-allow-credentials: true",
                "access-control-allow-origin: https://a.example",
                "access-control-expose-headers: date,x-b",
                "vary: accept, origin",
                "x-b: 1",
            ]
        );
        let mut told = headers(&[("x-b", "1")]);
        apply(&cors(), &HeaderMap::new(), &mut told);
        assert_eq!(shown(&told), ["x-b: 1"], "no browser asked");
    }

    #[test]
    fn a_configuration_that_cannot_stand_in_headers_is_left_out() {
        let cors = Cors {
            headers: list(&["a\r\nb"]),
            ..cors()
        };
        let asked = [
            ("origin", "https://b.example"),
            ("access-control-request-method", "PUT"),
        ];
        let told = preflight(&cors, &Method::OPTIONS, &headers(&asked)).unwrap();
        assert!(!told.contains_key(ACCESS_CONTROL_ALLOW_HEADERS));
    }
}
