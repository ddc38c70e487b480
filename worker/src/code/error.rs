//! Why there is no code, what AWS calls it, and what whoever made the function is told.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hearth_core::ids::Digest;
use hearth_registry::RegistryError;

use super::image::LayerError;
use super::unpack::UnpackError;

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    /// No controller gave it.
    #[error("code {digest} could not be fetched: {reason}")]
    Fetch {
        /// Which.
        digest: Digest,
        /// What each said.
        reason: String,
    },
    /// It was fetched and cannot be used.
    #[error("code {digest} is unusable")]
    Unpack {
        /// Which.
        digest: Digest,
        /// Why.
        #[source]
        source: UnpackError,
    },
    /// A registry did not give it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// An image was fetched and cannot be used.
    #[error("image {digest} is unusable")]
    Image {
        /// The manifest, or the layer by the digest of its plain tar.
        digest: Digest,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// A part of it could not be had.
    #[error(transparent)]
    Part(Arc<Self>),
    /// The worker's disk.
    #[error("the code cache at {path} cannot be written")]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl CodeError {
    /// AWS's reason code, and whether another worker would say the same.
    pub(crate) fn reason_code(&self) -> (&'static str, bool) {
        match self {
            Self::Unpack { source, .. } if source.is_archive_fault() => {
                ("InvalidZipFileException", true)
            }
            Self::Registry(error) => match error {
                RegistryError::NotFound { .. } => ("ImageDeleted", true),
                RegistryError::Denied { .. } | RegistryError::NotAllowed { .. } => {
                    ("ImageAccessDenied", true)
                }
                RegistryError::Digest { .. }
                | RegistryError::Manifest(_)
                | RegistryError::Protocol { .. } => ("InvalidImage", true),
                RegistryError::Unreachable { .. }
                | RegistryError::Credentials { .. }
                | RegistryError::Disk { .. } => ("InternalError", false),
            },
            Self::Image { source, .. } if source.is_image_fault() => ("InvalidImage", true),
            Self::Part(part) => part.reason_code(),
            Self::Fetch { .. } | Self::Unpack { .. } | Self::Image { .. } | Self::Disk { .. } => {
                ("InternalError", false)
            }
        }
    }

    /// For whoever made the function: what is wrong and what to do.
    pub(crate) fn told(&self) -> String {
        match self {
            // Its text says what to do; its causes are the operator's matter.
            Self::Registry(error) if !matches!(error, RegistryError::Disk { .. }) => {
                error.to_string()
            }
            Self::Image { source, .. } if source.is_image_fault() => source.to_string(),
            Self::Part(part) => part.told(),
            // What is wrong with an archive is the second of two; of a disk, its paths are the operator's matter and the
            // last cause is the user's.
            error => causes(error)
                .last()
                .map_or_else(String::new, ToString::to_string),
        }
    }
}

/// An error and what it comes from.
pub(crate) fn causes(
    error: &dyn std::error::Error,
) -> impl Iterator<Item = &dyn std::error::Error> {
    std::iter::successors(Some(error), |error| error.source())
}
