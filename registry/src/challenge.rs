//! How a registry says what it wants to see: `WWW-Authenticate` (RFC 9110, Docker's "Token Authentication Specification").

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// Name and password with the request itself.
    Basic,
    /// A token, to be fetched elsewhere.
    Bearer {
        /// Where.
        realm: String,
        /// What the token server knows the registry as.
        service: Option<String>,
    },
}

/// The first challenge of a header that can be met.
pub(crate) fn parse(header: &str) -> Option<Challenge> {
    let header = header.trim();
    let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let find = |wanted: &str| {
        let found = Parameters(rest).find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value)
    };
    Some(Challenge::Bearer {
        realm: find("realm")?,
        service: find("service"),
    })
}

/// `name="value", name=value`.
struct Parameters<'a>(&'a str);

impl Iterator for Parameters<'_> {
    type Item = (String, String);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0.trim_start_matches([' ', ',', '\t']);
        let (name, rest) = text.split_once('=')?;
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].trim().to_owned(), &rest[end..])
            }
        };
        self.0 = rest;
        Some((name.trim().to_owned(), value))
    }
}

/// The text up to the closing quote, and what follows; `None` without one.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
        })
    }

    #[test]
    fn challenges_of_registries_are_understood() {
        assert_eq!(parse("Basic realm=\"r\""), Some(Challenge::Basic));
        assert_eq!(parse("basic"), Some(Challenge::Basic));
        let docker =
            "Bearer realm=\"https://a.io/token\",service=\"s, t\",scope=\"repository:a/b:pull\"";
        assert_eq!(parse(docker), bearer("https://a.io/token", Some("s, t")));
        assert_eq!(
            parse("bearer scope=x , Realm=https://a.io"),
            bearer("https://a.io", None)
        );
        assert_eq!(parse(r#"Bearer realm="a\"b""#), bearer("a\"b", None));
        for none in [
            "",
            "Negotiate",
            "Bearer",
            "Bearer service=\"x\"",
            "Bearer realm=\"x",
        ] {
            assert_eq!(parse(none), None, "{none}");
        }
    }
}
