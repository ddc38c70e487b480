//! Why an image could not be had. Each text says what to do, since it is shown to whoever made the function.

use std::io;
use std::path::PathBuf;

use hearth_core::image::ManifestError;

/// See the module's text.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The operator does not allow that registry.
    #[error(
        "images from {host} are not allowed here. Use a registry that the option registries.allow names, or have it added"
    )]
    NotAllowed {
        /// Which.
        host: String,
    },
    /// There is no such repository, tag or digest.
    #[error("{what} does not exist in {host}. Push it, or name one that is there")]
    NotFound {
        /// Whom was asked.
        host: String,
        /// What for.
        what: String,
    },
    /// The registry does not let it be pulled.
    #[error(
        "{host} does not allow {what} to be pulled. Check its permissions, and the credentials for {host} in the file of the option registries.credentials"
    )]
    Denied {
        /// Whom was asked.
        host: String,
        /// What for.
        what: String,
    },
    /// The registry did not answer, or said that it cannot now.
    #[error(
        "{host} cannot be asked for images: {reason}. Check the name and that it can be reached; a registry without TLS must be named by the option registries.plain_http, the CA of one with a certificate of a CA of its own by registries.ca"
    )]
    Unreachable {
        /// Who.
        host: String,
        /// What happened.
        reason: String,
    },
    /// It is not what a registry would say.
    #[error("{host} does not answer as a registry: {reason}")]
    Protocol {
        /// Who.
        host: String,
        /// What it said.
        reason: String,
    },
    /// Other bytes than the digest says.
    #[error("{host} gave {what} with other content than its digest says. Push the image again")]
    Digest {
        /// Who.
        host: String,
        /// What.
        what: String,
    },
    /// The image is of no use.
    #[error("the image is of no use here: {0}")]
    Manifest(#[source] ManifestError),
    /// The operator's file of credentials.
    #[error("the file of the option registries.credentials cannot be used: {reason}")]
    Credentials {
        /// Why not; never its content.
        reason: String,
    },
    /// This node's disk.
    #[error("cannot write {path}")]
    Disk {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl RegistryError {
    /// Whether the same may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// Whether it is this node's own, so that another registry would not help.
    pub(crate) fn is_own(&self) -> bool {
        matches!(
            self,
            Self::Disk { .. } | Self::Credentials { .. } | Self::NotAllowed { .. }
        )
    }
}
