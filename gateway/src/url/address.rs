//! Which URL a request is for: by its host, as AWS writes them, or by its path, where no domain leads to the gateway.

use http::Uri;

/// Where addresses without a domain of their own begin; no path of AWS's does.
pub(crate) const PREFIX: &str = "/_hearth/url/";
/// What follows the id in a host.
const LABEL: &str = "lambda-url.";

/// A URL as a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// Whether there is such a URL is not known here.
    pub(crate) id: String,
    /// The host that was asked, without a port.
    pub(crate) domain: String,
    /// The port that was asked.
    pub(crate) port: Option<u16>,
    /// What the function sees of the path, as it was sent: "preserves encoding".
    pub(crate) path: String,
}

/// The URL that a request is for, if it is for one. `domain` is what hosts of URLs end with; empty: anything.
pub(crate) fn of(uri: &Uri, host: &str, region: &str, domain: &str) -> Option<Address> {
    let (name, port) = split_port(host);
    let path = uri.path();
    let (id, path) = match by_host(name, region, domain) {
        Some(id) => (id, path),
        None => by_path(path)?,
    };
    let path = match path.strip_prefix('/') {
        Some(_) => path.to_owned(),
        // `OPTIONS *` and the like.
        None => format!("/{}", path.trim_start_matches('*')),
    };
    Some(Address {
        id: id.to_ascii_lowercase(),
        domain: name.to_ascii_lowercase(),
        port,
        path,
    })
}

/// `<id>.lambda-url.<region>.<domain>`
fn by_host<'h>(name: &'h str, region: &str, domain: &str) -> Option<&'h str> {
    let (id, rest) = name.split_once('.')?;
    let label = rest.get(..LABEL.len())?;
    if id.is_empty() || !label.eq_ignore_ascii_case(LABEL) {
        return None;
    }
    let (of_region, of_domain) = rest[LABEL.len()..].split_once('.')?;
    let of_domain = of_domain.strip_suffix('.').unwrap_or(of_domain);
    let is_ours = of_region.eq_ignore_ascii_case(region)
        && (domain.is_empty() || of_domain.eq_ignore_ascii_case(domain));
    is_ours.then_some(id)
}

/// `/_hearth/url/<id>/...`
fn by_path(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix(PREFIX)?;
    Some(match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    })
}

fn split_port(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        // An IPv6 address without a port ends with a bracket.
        Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
        Some(_) | None => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: &str, path: &str, domain: &str) -> Option<(String, String, Option<u16>)> {
        let uri: Uri = path.parse().unwrap();
        let found = of(&uri, host, "eu-west-1", domain)?;
        Some((found.id, found.path, found.port))
    }

    #[test]
    fn a_host_names_a_url_of_this_region_and_domain() {
        for (host, domain, expected) in [
            ("ab.lambda-url.eu-west-1.on.aws", "on.aws", true),
            ("AB.Lambda-URL.EU-west-1.ON.aws", "on.aws", true),
            ("ab.lambda-url.eu-west-1.on.aws.", "on.aws", true),
            ("ab.lambda-url.eu-west-1.localhost", "", true),
            ("ab.lambda-url.eu-west-1.example.org", "on.aws", false),
            ("ab.lambda-url.us-east-1.on.aws", "on.aws", false),
            ("ab.lambda-url.eu-west-1", "", false),
            (".lambda-url.eu-west-1.on.aws", "on.aws", false),
            ("lambda.eu-west-1.amazonaws.com", "", false),
            ("127.0.0.1", "", false),
            ("[::1]", "", false),
            ("", "", false),
            ("ab.lambda-ürl.eu-west-1.x", "", false),
        ] {
            let found = asked(host, "/a/b", domain);
            let expected = expected.then(|| ("ab".to_owned(), "/a/b".to_owned(), None));
            assert_eq!(found, expected, "{host}");
        }
        let (_, path, port) =
            asked("ab.lambda-url.eu-west-1.x:9100", "/_hearth/url/cd/", "").unwrap();
        assert_eq!((path.as_str(), port), ("/_hearth/url/cd/", Some(9100)));
    }

    #[test]
    fn a_path_names_a_url_at_any_host_and_stays_encoded() {
        for (path, expected) in [
            ("/_hearth/url/ab/", Some("/")),
            ("/_hearth/url/ab", Some("/")),
            ("/_hearth/url/ab/x%20y//%2F?q=1", Some("/x%20y//%2F")),
            ("/2015-03-31/functions", None),
            ("/", None),
        ] {
            let found = asked("127.0.0.1:9100", path, "on.aws");
            let expected = expected.map(|path| ("ab".to_owned(), path.to_owned(), Some(9100)));
            assert_eq!(found, expected, "{path}");
        }
        let (_, path, _) = asked("ab.lambda-url.eu-west-1.x", "*", "").unwrap();
        assert_eq!(path, "/");
    }
}
