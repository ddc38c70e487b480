//! References to images: `host[:port]/repository[:tag][@sha256:digest]`. There is no default host: a name that leaves it out is
//! refused rather than sent to a registry of somebody's choice.

use std::fmt;
use std::str::FromStr;

use crate::ids::Digest;

/// Longest reference, bytes. Ours: room for the longest host, repository, tag and digest.
const REFERENCE_MAX_BYTES: usize = 1_024;
/// Longest repository, bytes. Source: the limit of Docker's reference grammar.
const REPOSITORY_MAX_BYTES: usize = 255;
/// Longest tag, bytes. Source: the OCI distribution specification.
const TAG_MAX_BYTES: usize = 128;
/// What a reference without tag and digest means.
const DEFAULT_TAG: &str = "latest";

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Host, with a port if it has one.
    pub host: String,
    /// Path of the repository.
    pub repository: String,
    /// The tag; none when only a digest was given.
    pub tag: Option<String>,
    /// The digest of a manifest; wins over the tag.
    pub digest: Option<Digest>,
}

/// Why a reference is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Longer than 1,024 bytes.
    #[error("it is too long")]
    TooLong,
    /// The first part is no host.
    #[error("it must begin with a registry's host, as in host.example.com/repository:tag")]
    Host,
    /// The repository is empty or has characters it may not have.
    #[error("the repository must be lower-case words with . _ - or / between them")]
    Repository,
    /// The tag is empty, too long, or has characters it may not have.
    #[error("the tag must be at most 128 letters, digits, . _ and -")]
    Tag,
    /// The digest is not one of SHA-256.
    #[error("the digest must be sha256: and 64 lower-case hexadecimal digits")]
    Digest,
}

impl Reference {
    /// What a registry is asked for: the digest if there is one, else the tag.
    pub fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("sha256:{digest}"),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    /// The same image pinned: AWS's `ResolvedImageUri`.
    pub fn pinned(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@sha256:{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() > REFERENCE_MAX_BYTES {
            return Err(ReferenceError::TooLong);
        }
        let (host, rest) = text.split_once('/').ok_or(ReferenceError::Host)?;
        if !is_host(host) {
            return Err(ReferenceError::Host);
        }
        let (rest, digest) = match rest.split_once('@') {
            None => (rest, None),
            Some((rest, digest)) => {
                let digest = parse_digest(digest).ok_or(ReferenceError::Digest)?;
                (rest, Some(digest))
            }
        };
        let (repository, tag) = match rest.split_once(':') {
            None => (rest, None),
            Some((_, tag)) if !is_tag(tag) => return Err(ReferenceError::Tag),
            Some((repository, tag)) => (repository, Some(tag.to_owned())),
        };
        if repository.len() > REPOSITORY_MAX_BYTES || !repository.split('/').all(is_component) {
            return Err(ReferenceError::Repository);
        }
        Ok(Self {
            host: host.to_owned(),
            repository: repository.to_owned(),
            tag,
            digest,
        })
    }
}

/// `sha256:` and the digits.
pub(super) fn parse_digest(text: &str) -> Option<Digest> {
    text.strip_prefix("sha256:")?.parse().ok()
}

/// Whether it is a host, with or without a port, and cannot be taken for the first part of a repository.
pub fn is_host(text: &str) -> bool {
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    };
    let is_label = |label: &str| {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(is_plain)
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let is_told_apart = name.contains('.') || port.is_some() || name == "localhost";
    name.split('.').all(is_label) && is_port && is_told_apart
}

/// Lower-case words with one `.`, one or two `_`, or any number of `-` between them.
fn is_component(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(is_word) && text.bytes().last().is_some_and(is_word);
    let separators = text.split(|c: char| u8::try_from(c).is_ok_and(is_word));
    let are_plain = separators
        .filter(|separator| !separator.is_empty())
        .all(|separator| {
            matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        });
    ends && are_plain
}

fn is_tag(text: &str) -> bool {
    let is_first = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= TAG_MAX_BYTES
        && text.bytes().next().is_some_and(is_first)
        && text
            .bytes()
            .all(|b| is_first(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_reference_names_host_repository_and_what_is_wanted() {
        let pinned = format!("r.example.com/a@sha256:{HEX}");
        let both = format!("r.example.com/a:1@sha256:{HEX}");
        let digest = format!("sha256:{HEX}");
        for (text, host, repository, wanted) in [
            ("r.example.com/a", "r.example.com", "a", "latest"),
            (
                "127.0.0.1:5000/fn/py:v1.2",
                "127.0.0.1:5000",
                "fn/py",
                "v1.2",
            ),
            ("localhost/a__b/c-d.e:_x", "localhost", "a__b/c-d.e", "_x"),
            (&pinned, "r.example.com", "a", &digest),
            (&both, "r.example.com", "a", &digest),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(
                (&*reference.host, &*reference.repository),
                (host, repository),
                "{text}"
            );
            assert_eq!(reference.wanted(), wanted);
            assert_eq!(reference.to_string(), text);
        }
        let tagged: Reference = "r.example.com/a:1".parse().unwrap();
        assert_eq!(tagged.pinned(HEX.parse().unwrap()).to_string(), pinned);
    }

    #[test]
    fn what_is_no_reference_is_refused_by_its_part() {
        use ReferenceError as E;
        let long_tag = format!("r.io/a:{}", "t".repeat(129));
        let long_name = format!("r.io/{}", "a".repeat(256));
        let long = "a".repeat(1_025);
        for (text, error) in [
            ("", E::Host),
            ("python", E::Host),
            ("library/python:3", E::Host),
            ("http://r.io/a", E::Host),
            ("user@r.io/a", E::Host),
            ("r.io:0/a", E::Host),
            ("r.io:99999/a", E::Host),
            ("-r.io/a", E::Host),
            ("r..io/a", E::Host),
            ("r.io/", E::Repository),
            ("r.io/A", E::Repository),
            ("r.io/a//b", E::Repository),
            ("r.io/../a", E::Repository),
            ("r.io/a..b", E::Repository),
            ("r.io/a___b", E::Repository),
            ("r.io/a?x=1", E::Repository),
            (&long_name, E::Repository),
            ("r.io/a:", E::Tag),
            ("r.io/a:-x", E::Tag),
            ("r.io/a:1/b", E::Tag),
            (&long_tag, E::Tag),
            ("r.io/a@sha256:12", E::Digest),
            ("r.io/a@sha512:12", E::Digest),
            (&long, E::TooLong),
        ] {
            assert_eq!(text.parse::<Reference>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_comes_back_as_it_was(text in "[a-z0-9.:/@_ -]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string(), text);
            }
        }
    }
}
