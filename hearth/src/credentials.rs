//! The root credentials of a cluster on one machine: from the environment, else made once and kept.

use std::path::Path;

use anyhow::{Context as _, bail};
use hearth_node::Seams;
use hearth_node::config::Secret;
use hearth_node::data_dir::write_atomic;
use serde::{Deserialize, Serialize};

/// Environment variable with the access key id.
pub(crate) const ACCESS_KEY_VAR: &str = "HEARTH_ACCESS_KEY_ID";
/// Environment variable with the secret.
pub(crate) const SECRET_VAR: &str = "HEARTH_SECRET_ACCESS_KEY";

/// Environment variable with the key that session tokens are sealed with.
pub(crate) const SESSION_KEY_VAR: &str = "HEARTH_SESSION_KEY";

/// Takes that key from the environment, where the options have none.
pub(crate) fn fill_session_key(key: &mut Secret) {
    if key.0.is_empty() {
        key.0 = std::env::var(SESSION_KEY_VAR).unwrap_or_default();
    }
}

/// The root user's key pair.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// The pair from the environment; `None` when neither variable is set.
pub(crate) fn from_env() -> anyhow::Result<Option<Credentials>> {
    let var = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
    match (var(ACCESS_KEY_VAR), var(SECRET_VAR)) {
        (Some(access_key_id), Some(secret_access_key)) => Ok(Some(Credentials {
            access_key_id,
            secret_access_key,
        })),
        (None, None) => Ok(None),
        _ => bail!("set both {ACCESS_KEY_VAR} and {SECRET_VAR}, or neither"),
    }
}

/// The pair from the environment, else from `file`, else a new one written there.
pub(crate) fn load_or_create(file: &Path, seams: &Seams) -> anyhow::Result<Credentials> {
    if let Some(credentials) = from_env()? {
        return Ok(credentials);
    }
    match std::fs::read(file) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).with_context(|| format!("reading {}", file.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let credentials = generate(seams);
            let bytes = serde_json::to_vec_pretty(&credentials).context("encoding credentials")?;
            write_atomic(file, &bytes, 0o600)
                .with_context(|| format!("writing {}", file.display()))?;
            Ok(credentials)
        }
        Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
    }
}

/// AWS's shapes: 20 and 40 characters.
fn generate(seams: &Seams) -> Credentials {
    const BASE32: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = |alphabet: &[u8], count: usize| -> String {
        (0..count)
            .map(|_| {
                let draw = seams.random.u64() % alphabet.len() as u64;
                char::from(alphabet[usize::try_from(draw).expect("an index into a short alphabet")])
            })
            .collect()
    };
    Credentials {
        access_key_id: format!("AKIA{}", text(BASE32, 16)),
        secret_access_key: text(BASE64, 40),
    }
}
