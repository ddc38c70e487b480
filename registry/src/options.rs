//! What an operator says of registries; the same table for gateways, which resolve references, and workers, which pull.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hearth_core::image::reference::is_host;
use hearth_node::config::HumanDuration;
use serde::{Deserialize, Serialize};

use crate::error::RegistryError;

/// See `registries_sample!` for the same as a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryOptions {
    /// Registries that images may come from, `host` or `host:port`. Default none named: any.
    pub allow: Vec<String>,
    /// Registries, and their token servers, that are asked over plain HTTP. Default none.
    pub plain_http: Vec<String>,
    /// PEM file of CAs trusted besides the system's. Default none.
    pub ca: PathBuf,
    /// File with credentials, in the format of Docker's `config.json`; read at each pull. Default none.
    pub credentials: PathBuf,
    /// Longest silence of a registry. Default 30s.
    pub timeout: HumanDuration,
    /// Registries that are asked before another one. Default none.
    pub mirrors: BTreeMap<String, Vec<String>>,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            plain_http: Vec::new(),
            ca: PathBuf::new(),
            credentials: PathBuf::new(),
            timeout: HumanDuration::from_secs(30),
            mirrors: BTreeMap::new(),
        }
    }
}

/// The table as text, for the sample files of the roles. It ends within the table of mirrors.
#[macro_export]
macro_rules! registries_sample {
    () => {
        r#"# Registries that functions of container images may name, host or host:port. Default none: any.
allow = []
# Registries, and their token servers, that are asked over plain HTTP; all others over HTTPS. Default none.
plain_http = []
# PEM file of CAs that sign registries' certificates, besides the system's. Default "": none.
ca = ""
# File with credentials, in the format of Docker's config.json ("auths"). It is read at each pull, so that it may be replaced
# while the node runs. Default "": none.
credentials = ""
# Longest silence of a registry. Default 30s.
timeout = "30s"

# Registries that are asked before another one, for the same repositories. Default none.
[registries.mirrors]
# "registry.example.com" = ["mirror.example.com:5000"]
"#
    };
}

/// A host that is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("registries.{option}: {host:?} is not host or host:port")]
pub struct RegistryOptionsError {
    option: &'static str,
    host: String,
}

impl RegistryOptions {
    /// Checks once, at start.
    ///
    /// # Errors
    /// The first host that is none.
    pub fn validate(&self) -> Result<(), RegistryOptionsError> {
        let mirrors = self
            .mirrors
            .iter()
            .flat_map(|(host, mirrors)| std::iter::once(host).chain(mirrors));
        let all = (self.allow.iter().map(|host| ("allow", host)))
            .chain(self.plain_http.iter().map(|host| ("plain_http", host)))
            .chain(mirrors.map(|host| ("mirrors", host)));
        for (option, host) in all {
            if !is_host(host) {
                let host = host.clone();
                return Err(RegistryOptionsError { option, host });
            }
        }
        Ok(())
    }

    /// Whom to ask for images of a registry, in order; itself comes last.
    pub(crate) fn asked_for(&self, host: &str) -> Result<Vec<String>, RegistryError> {
        if !self.allow.is_empty() && !self.allow.iter().any(|allowed| allowed == host) {
            return Err(RegistryError::NotAllowed {
                host: host.to_owned(),
            });
        }
        let mirrors = self.mirrors.get(host).cloned().unwrap_or_default();
        Ok(mirrors.into_iter().chain([host.to_owned()]).collect())
    }

    pub(crate) fn scheme(&self, host: &str) -> &'static str {
        if self.plain_http.iter().any(|plain| plain == host) {
            "http"
        } else {
            "https"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_before_the_registry_and_only_allowed_ones_are_asked() {
        let mut options = RegistryOptions::default();
        options
            .mirrors
            .insert("a.io".into(), vec!["m.io".into(), "n.io:5000".into()]);
        assert_eq!(
            options.asked_for("a.io").unwrap(),
            ["m.io", "n.io:5000", "a.io"]
        );
        assert_eq!(options.asked_for("b.io").unwrap(), ["b.io"]);
        options.allow = vec!["a.io".into()];
        assert!(options.asked_for("a.io").is_ok());
        assert!(matches!(
            options.asked_for("b.io"),
            Err(RegistryError::NotAllowed { .. })
        ));
        options.plain_http = vec!["a.io:80".into()];
        assert_eq!(
            (options.scheme("a.io:80"), options.scheme("a.io")),
            ("http", "https")
        );
        options.validate().unwrap();
        options.plain_http = vec!["http://a.io".into()];
        assert_eq!(
            options.validate().unwrap_err().to_string(),
            "registries.plain_http: \"http://a.io\" is not host or host:port"
        );
    }
}
