//! Names and passwords for registries, from a file as `docker login` and Kubernetes' image pull secrets write it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::error::RegistryError;

/// Largest file taken, bytes.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// Name and password. Debug does not show them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) name: String,
    pub(crate) password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

/// Those for a host, as the file has them now; blocks.
pub(crate) fn read(file: &Path, host: &str) -> Result<Option<Credentials>, RegistryError> {
    let failed = |reason: String| RegistryError::Credentials { reason };
    let length = std::fs::metadata(file)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if length > FILE_MAX_BYTES {
        return Err(failed(format!("it has {length} bytes")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    find(&text, host).map_err(|reason| failed(reason.to_owned()))
}

/// Those for a host. The error never has anything of the text in it.
fn find(text: &str, host: &str) -> Result<Option<Credentials>, &'static str> {
    let file: File = serde_json::from_str(text).map_err(|_| "it is not as Docker's config.json")?;
    let is_of = |key: &str| {
        // Docker writes its own registry with a scheme and a path.
        let key = key.split_once("://").map_or(key, |(_, rest)| rest);
        key.split('/').next() == Some(host)
    };
    let Some((_, entry)) = file.auths.iter().find(|(key, _)| is_of(key)) else {
        return Ok(None);
    };
    if !entry.username.is_empty() {
        return Ok(Some(Credentials {
            name: entry.username.clone(),
            password: entry.password.clone(),
        }));
    }
    let unusable = "an entry's auth is not base64 of name:password";
    let decoded = STANDARD.decode(entry.auth.trim()).map_err(|_| unusable)?;
    let decoded = String::from_utf8(decoded).map_err(|_| unusable)?;
    let (name, password) = decoded.split_once(':').ok_or(unusable)?;
    Ok(Some(Credentials {
        name: name.to_owned(),
        password: password.to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_both_forms_are_found_by_host() {
        let text = format!(
            r#"{{"auths": {{"a.io:5000": {{"auth": "{}"}}, "https://b.io/v1/": {{"username": "n", "password": "p"}}, "c.io": {{}}}}, "credsStore": "x"}}"#,
            STANDARD.encode("me:pass:word")
        );
        let found = |host: &str| find(&text, host).map(|c| c.map(|c| (c.name, c.password)));
        let both = |name: &str, password: &str| Ok(Some((name.to_owned(), password.to_owned())));
        assert_eq!(found("a.io:5000"), both("me", "pass:word"));
        assert_eq!(found("b.io"), both("n", "p"));
        assert_eq!(found("a.io"), Ok(None));
        assert!(found("c.io").is_err());
        assert!(find("secret", "a.io").is_err_and(|text| !text.contains("secret")));
    }

    #[test]
    fn secrets_are_not_shown() {
        let credentials = Credentials {
            name: "n".into(),
            password: "hush".into(),
        };
        assert!(!format!("{credentials:?}").contains("hush"));
    }
}
