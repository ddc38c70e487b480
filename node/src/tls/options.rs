//! The `[tls]` section of every role's options.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{DocumentedOptions, HumanDuration};

/// Whether nodes speak TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// With a certificate or a join token: TLS. With neither: plaintext, which the executable refuses beyond loopback.
    #[default]
    Auto,
    /// TLS, or no start.
    On,
    /// Plaintext: for development and private networks.
    Off,
}

/// How a node proves who it is to others, and whom it believes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsOptions {
    /// `auto`, `on` or `off`. Default `auto`.
    pub mode: TlsMode,
    /// Directory of `ca.pem` and `node.pem` (certificate and key); written when the node joins and at each renewal. Default
    /// empty: `tls` in the data directory. A gateway has no data directory.
    pub dir: PathBuf,
    /// Certificates of the CAs to trust, PEM, one or several. Default empty: `ca.pem` in `dir`.
    pub ca: PathBuf,
    /// This node's certificate, then intermediate ones, PEM. Default empty: `node.pem` in `dir`. With a file of the
    /// operator's nothing is renewed: replace the file, and it is taken up without a restart.
    pub cert: PathBuf,
    /// Its private key, PEM. Default empty: `node.pem` in `dir`.
    pub key: PathBuf,
    /// File with a join token (`hearth token create`), used when there is no certificate yet. Default empty.
    pub join_token_file: PathBuf,
    /// Controllers alone: `host:port` of controllers of the running cluster, asked for this one's certificate. Default empty:
    /// its peers.
    pub join_at: Vec<String>,
    /// Controllers alone: private key of one of the CAs in `ca`, PEM; it signs for nodes that join and renew.
    /// Default empty: this controller signs nothing.
    pub ca_key: PathBuf,
    /// Controllers alone: life of the certificates it signs. Default 30d.
    pub certificate_life: HumanDuration,
    /// How often changed files and changes of the cluster's trust are looked for. Default 10s.
    pub check_every: HumanDuration,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            mode: TlsMode::Auto,
            dir: PathBuf::new(),
            ca: PathBuf::new(),
            cert: PathBuf::new(),
            key: PathBuf::new(),
            join_token_file: PathBuf::new(),
            join_at: Vec::new(),
            ca_key: PathBuf::new(),
            certificate_life: HumanDuration::from_secs(30 * 86_400),
            check_every: HumanDuration::from_secs(10),
        }
    }
}

/// Where a node's credentials are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The trust bundle.
    pub ca: PathBuf,
    /// The certificate with its chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// The names used in a directory of Hearth's own. Certificate and key are in one file: it is replaced whole, so that a crash
    /// never leaves one without the other.
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            ca: dir.join("ca.pem"),
            cert: dir.join("node.pem"),
            key: dir.join("node.pem"),
        }
    }
}

impl TlsOptions {
    /// Plaintext.
    pub fn off() -> Self {
        Self {
            mode: TlsMode::Off,
            ..Self::default()
        }
    }

    /// The files in use; `data_dir` is where `dir` is by default.
    pub fn files(&self, data_dir: Option<&Path>) -> TlsFiles {
        let dir = self.own_dir(data_dir).unwrap_or_default();
        let own = TlsFiles::in_dir(&dir);
        let or = |set: &PathBuf, own| {
            if set.as_os_str().is_empty() {
                own
            } else {
                set.clone()
            }
        };
        TlsFiles {
            ca: or(&self.ca, own.ca),
            cert: or(&self.cert, own.cert),
            key: or(&self.key, own.key),
        }
    }

    /// The directory that Hearth itself writes to, if there is one.
    pub fn own_dir(&self, data_dir: Option<&Path>) -> Option<PathBuf> {
        if self.dir.as_os_str().is_empty() {
            data_dir.map(|dir| dir.join("tls"))
        } else {
            Some(self.dir.clone())
        }
    }

    /// Whether certificate and key are the operator's to replace.
    pub fn is_operators(&self) -> bool {
        !self.cert.as_os_str().is_empty() || !self.key.as_os_str().is_empty()
    }

    /// Whether this node speaks TLS: as told, else if it has a certificate or can get one.
    pub fn is_on(&self, data_dir: Option<&Path>) -> bool {
        match self.mode {
            TlsMode::On => true,
            TlsMode::Off => false,
            TlsMode::Auto => {
                !self.join_token_file.as_os_str().is_empty()
                    || self.is_operators()
                    || self.files(data_dir).cert.exists()
            }
        }
    }
}

/// [`TlsOptions`] as a part of a role's documented file, for `concat!`.
#[macro_export]
macro_rules! tls_sample {
    () => {
        r#"# "on": TLS between nodes, or no start. "off": plaintext, for development. "auto": TLS with a certificate or a join token; without
# either plaintext, on loopback addresses alone.
mode = "auto"
# Directory of ca.pem and node.pem (certificate and key), written when the node joins and at each renewal. Empty: tls in the data directory.
dir = ""
# Certificates of the CAs to trust, one or several. Empty: ca.pem in dir.
ca = ""
# This node's certificate, with the intermediate ones. Empty: node.pem in dir. A file named here is the operator's to replace; it is
# taken up without a restart.
cert = ""
# Its private key. Empty: node.pem in dir.
key = ""
# File with a join token (hearth token create), used when there is no certificate yet.
join_token_file = ""
# Controllers alone: host:port of controllers of the running cluster, asked for this one's certificate. Empty: its peers.
join_at = []
# Controllers alone: private key of one of the CAs, which signs for nodes that join and renew. Empty: this controller signs nothing.
ca_key = ""
# Controllers alone: life of the certificates it signs.
certificate_life = "30d"
# How often changed files and changes of the cluster's trust are looked for.
check_every = "10s"
"#
    };
}

impl DocumentedOptions for TlsOptions {
    const SAMPLE: &'static str = crate::tls_sample!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::assert_documented;

    #[test]
    fn options_are_documented() {
        assert_documented::<TlsOptions>();
    }

    #[test]
    fn auto_is_on_with_a_certificate_or_the_means_to_get_one() {
        let dir = tempfile::tempdir().unwrap();
        let data = Some(dir.path());
        let auto = TlsOptions::default();
        assert!(!auto.is_on(data));
        assert!(!auto.is_on(None));
        let token = TlsOptions {
            join_token_file: "t".into(),
            ..TlsOptions::default()
        };
        assert!(token.is_on(data));
        std::fs::create_dir(dir.path().join("tls")).unwrap();
        std::fs::write(dir.path().join("tls/node.pem"), "").unwrap();
        assert!(auto.is_on(data));
        assert!(!TlsOptions::off().is_on(data));
    }
}
