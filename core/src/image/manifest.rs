//! Manifests and configuration files of images, as registries give them (OCI image specification 1.1, Docker's schema 2):
//! which of an index is meant, and what must hold before anything is fetched.

use serde::{Deserialize, Serialize};

use super::reference::parse_digest;
use crate::ids::Digest;
use crate::limits::{IMAGE_LAYERS_MAX, IMAGE_MAX_BYTES};

/// Media types of manifests that are asked for and understood, as an `Accept` header wants them.
pub const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json";

const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFESTS: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const CONFIGS: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];
const GZIPPED: [&str; 2] = [
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];
const PLAIN: [&str; 2] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
];

/// Why a manifest or configuration file is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is not what its kind must be.
    #[error("{what} cannot be read: {reason}")]
    Unreadable {
        /// `the manifest` or `the configuration`.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A kind of manifest, configuration or layer that is not understood.
    #[error("its media type {0} is not supported")]
    MediaType(String),
    /// An index without an image for what functions run on, or an image for something else.
    #[error("it has no image for linux/{wanted}, only for {found}")]
    Platform {
        /// The architecture asked for.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// Too many layers.
    #[error("it has {0} layers, more than {IMAGE_LAYERS_MAX}")]
    TooManyLayers(usize),
    /// Too large as it is stored; it would be larger still unpacked.
    #[error("its layers have {0} bytes, more than {IMAGE_MAX_BYTES}")]
    TooLarge(u64),
}

/// A blob, as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Its SHA-256.
    pub digest: Digest,
    /// Its length, bytes.
    pub size_bytes: u64,
}

/// A layer: the blob, and what it is once unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The blob.
    pub blob: Descriptor,
    /// Whether the blob is compressed with gzip; else it is a plain tar.
    pub is_gzip: bool,
}

/// The manifest of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The configuration file.
    pub config: Descriptor,
    /// From the lowest to the topmost.
    pub layers: Vec<Layer>,
}

/// What a registry answers to a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// Images for several platforms.
    Index(Index),
    /// One image.
    Image(Manifest),
}

/// Images for several platforms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index(Vec<WireDescriptor>);

/// What of an image's configuration file matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFile {
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub cmd: Vec<String>,
    /// `ENV`, each `NAME=value`.
    pub env: Vec<String>,
    /// `WORKDIR`; empty when there is none.
    pub working_dir: String,
    /// SHA-256 of each layer's plain tar, in the manifest's order.
    pub diff_ids: Vec<Digest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    platform: Option<WirePlatform>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct WirePlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDocument {
    #[serde(default)]
    schema_version: u64,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<Vec<WireDescriptor>>,
    #[serde(default)]
    config: Option<WireDescriptor>,
    #[serde(default)]
    layers: Option<Vec<WireDescriptor>>,
}

#[derive(Deserialize)]
struct WireFile {
    #[serde(flatten)]
    platform: WirePlatform,
    #[serde(default)]
    config: Option<WireProcess>,
    rootfs: WireRoot,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireProcess {
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
    #[serde(default)]
    cmd: Option<Vec<String>>,
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    working_dir: Option<String>,
}

#[derive(Deserialize)]
struct WireRoot {
    diff_ids: Vec<String>,
}

const MANIFEST: &str = "the manifest";
const CONFIG: &str = "the configuration";

fn unreadable(what: &'static str, reason: impl Into<String>) -> ManifestError {
    let reason = reason.into();
    ManifestError::Unreadable { what, reason }
}

/// Reads what a registry gave for a reference. Its `Content-Type` is not asked: no digest vouches for it.
pub fn read(bytes: &[u8]) -> Result<Document, ManifestError> {
    let wire: WireDocument =
        serde_json::from_slice(bytes).map_err(|error| unreadable(MANIFEST, error.to_string()))?;
    if wire.schema_version != 2 {
        let text = format!("schema version {}", wire.schema_version);
        return Err(ManifestError::MediaType(text));
    }
    if let Some(media_type) = &wire.media_type {
        let is_known = INDEXES
            .iter()
            .chain(&MANIFESTS)
            .any(|known| known == media_type);
        if !is_known {
            return Err(ManifestError::MediaType(media_type.clone()));
        }
    }
    match (wire.manifests, wire.config, wire.layers) {
        (Some(images), None, None) => Ok(Document::Index(Index(images))),
        (None, Some(config), Some(layers)) => image(&config, &layers).map(Document::Image),
        _ => Err(unreadable(MANIFEST, "it is neither an image nor an index")),
    }
}

fn image(config: &WireDescriptor, layers: &[WireDescriptor]) -> Result<Manifest, ManifestError> {
    if !CONFIGS.contains(&config.media_type.as_str()) {
        return Err(ManifestError::MediaType(config.media_type.clone()));
    }
    if layers.len() > IMAGE_LAYERS_MAX {
        return Err(ManifestError::TooManyLayers(layers.len()));
    }
    let bytes = layers
        .iter()
        .fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
    if bytes > IMAGE_MAX_BYTES {
        return Err(ManifestError::TooLarge(bytes));
    }
    let layer = |wire: &WireDescriptor| {
        let media_type = wire.media_type.as_str();
        if !GZIPPED
            .iter()
            .chain(&PLAIN)
            .any(|known| *known == media_type)
        {
            return Err(ManifestError::MediaType(media_type.to_owned()));
        }
        Ok(Layer {
            blob: descriptor(wire)?,
            is_gzip: GZIPPED.contains(&media_type),
        })
    };
    Ok(Manifest {
        config: descriptor(config)?,
        layers: layers.iter().map(layer).collect::<Result<_, _>>()?,
    })
}

fn descriptor(wire: &WireDescriptor) -> Result<Descriptor, ManifestError> {
    Ok(Descriptor {
        digest: digest(MANIFEST, &wire.digest)?,
        size_bytes: wire.size,
    })
}

fn digest(what: &'static str, text: &str) -> Result<Digest, ManifestError> {
    parse_digest(text).ok_or_else(|| unreadable(what, format!("{text:?} is no SHA-256 digest")))
}

impl Index {
    /// The manifest for Linux on an architecture (`amd64`): the first one. Attestations have the platform `unknown`.
    pub fn choose(&self, architecture: &str) -> Result<Descriptor, ManifestError> {
        let platform = |one: &WireDescriptor| one.platform.clone().unwrap_or_default();
        let is_wanted = |one: &&WireDescriptor| {
            let platform = platform(one);
            platform.os == "linux" && platform.architecture == architecture
        };
        let Some(chosen) = self.0.iter().find(is_wanted) else {
            let found = self.0.iter().map(platform).map(|p| shown(&p));
            return Err(ManifestError::Platform {
                wanted: architecture.to_owned(),
                found: listed(found.collect()),
            });
        };
        if !MANIFESTS.contains(&chosen.media_type.as_str()) {
            return Err(ManifestError::MediaType(chosen.media_type.clone()));
        }
        descriptor(chosen)
    }
}

fn shown(platform: &WirePlatform) -> String {
    format!("{}/{}", platform.os, platform.architecture)
}

/// At most a few, as a hostile index may have thousands.
fn listed(mut platforms: Vec<String>) -> String {
    const SHOWN: usize = 8;
    platforms.retain(|platform| platform != "unknown/unknown");
    platforms.truncate(SHOWN);
    if platforms.is_empty() {
        return "nothing".to_owned();
    }
    platforms.join(", ")
}

/// Reads the configuration file of an image with that manifest, for Linux on an architecture.
pub fn read_file(
    bytes: &[u8],
    manifest: &Manifest,
    architecture: &str,
) -> Result<ImageFile, ManifestError> {
    let wire: WireFile =
        serde_json::from_slice(bytes).map_err(|error| unreadable(CONFIG, error.to_string()))?;
    if wire.platform.os != "linux" || wire.platform.architecture != architecture {
        return Err(ManifestError::Platform {
            wanted: architecture.to_owned(),
            found: shown(&wire.platform),
        });
    }
    let diff_ids = wire.rootfs.diff_ids.iter().map(|id| digest(CONFIG, id));
    let diff_ids = diff_ids.collect::<Result<Vec<_>, _>>()?;
    if diff_ids.len() != manifest.layers.len() {
        let text = format!(
            "it knows {} layers and the manifest {}",
            diff_ids.len(),
            manifest.layers.len()
        );
        return Err(unreadable(CONFIG, text));
    }
    let process = wire.config.unwrap_or_default();
    Ok(ImageFile {
        entrypoint: process.entrypoint.unwrap_or_default(),
        cmd: process.cmd.unwrap_or_default(),
        env: process.env.unwrap_or_default(),
        working_dir: process.working_dir.unwrap_or_default(),
        diff_ids,
    })
}

/// The name that images have for an architecture of the Lambda API.
pub fn architecture(lambda: &str) -> &str {
    match lambda {
        "x86_64" => "amd64",
        other => other,
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
