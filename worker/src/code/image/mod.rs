//! Container images on this worker: layers are fetched and unpacked once by their content, an image is made of them by hard links.
//!
//! ```text
//! CODE/<key of a diff id>          a layer as it was packed, whiteouts and all; shared by every image that has it
//! CODE/image-<key of a manifest>/  image.json (the configuration) and root/ (what the sandbox's root is)
//! ```
//!
//! An image holds its layers, so that bytes are counted, and evicted, where they are.

mod inside;
mod layer;
mod overlay;
mod root;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::{StreamExt as _, TryStreamExt as _};
use hearth_core::function::{CodeRef, FunctionConfig};
use hearth_core::ids::Digest;
use hearth_core::image::manifest::Layer;
use hearth_core::image::{ImageFile, Reference, manifest};
use hearth_core::limits::IMAGE_MAX_BYTES;
use sha2::Digest as _;

use super::{CodeDir, CodeError, CodeStore, MAKING, Workplace, blocking, disk};
pub(crate) use inside::{find_program, has_directory};
use layer::Budget;
pub use layer::LayerError;

/// Name of an image's directory in the cache, before its key. Not a digest, so that no archive can pass for one.
const PREFIX: &str = "image-";
/// The configuration, within it.
const FILE: &str = "image.json";
/// The tree, within it.
const ROOT: &str = "root";
/// Layers fetched at a time for one image.
const LAYERS_AT_A_TIME: usize = 3;

fn key(domain: &[u8], digest: Digest) -> Digest {
    let mut hash = sha2::Sha256::new_with_prefix(domain);
    hash.update(digest.0);
    Digest(hash.finalize().into())
}

/// The name of a layer's tree. A domain of its own: the bytes of an archive are no layer's, whatever they look like.
fn layer_key(diff_id: Digest) -> Digest {
    key(b"hearth image layer\n", diff_id)
}

fn image_key(digest: Digest) -> Digest {
    key(b"hearth image\n", digest)
}

/// What a function's sandboxes are of, as images name it.
fn architecture(config: &FunctionConfig) -> String {
    let first = config
        .architectures
        .first()
        .map_or("x86_64", String::as_str);
    manifest::architecture(first).to_owned()
}

/// An unpacked image.
#[derive(Clone, Debug)]
pub(crate) struct ImageDir(Arc<CodeDir>);

impl ImageDir {
    /// The tree.
    pub(crate) fn root(&self) -> PathBuf {
        self.0.path.join(ROOT)
    }

    /// The configuration file; blocks, briefly.
    pub(crate) fn file(&self) -> Result<ImageFile, CodeError> {
        read_file(&self.0.path)
    }
}

fn read_file(dir: &Path) -> Result<ImageFile, CodeError> {
    let path = dir.join(FILE);
    let bytes = fs::read(&path).map_err(disk(&path))?;
    serde_json::from_slice(&bytes).map_err(|error| disk(&path)(error.into()))
}

impl CodeStore {
    /// The unpacked image of a version, fetched now if need be.
    pub(crate) async fn ensure_image(
        self: &Arc<Self>,
        code: &CodeRef,
        config: &FunctionConfig,
    ) -> Result<ImageDir, Arc<CodeError>> {
        let (this, wanted, architecture) = (Arc::clone(self), code.clone(), architecture(config));
        let make = async move { this.make_image(&wanted, &architecture).await };
        let made = self.ensure_with(image_key(code.digest), make).await;
        made.map(ImageDir)
    }

    async fn make_image(
        self: &Arc<Self>,
        code: &CodeRef,
        architecture: &str,
    ) -> Result<Arc<CodeDir>, CodeError> {
        let uri = code.image.as_deref().unwrap_or_default();
        let reference: Reference = uri.parse().map_err(|error| CodeError::Image {
            digest: code.digest,
            source: LayerError::Reference(error),
        })?;
        let reference = Arc::new(reference.pinned(code.digest));
        let image = self.source.image(&reference, architecture).await?;
        let budget = Arc::new(Budget::default());
        let layers = image.manifest.layers.iter().zip(&image.file.diff_ids);
        let making: Vec<_> = layers
            .map(|(layer, diff_id)| {
                let (this, budget) = (Arc::clone(self), Arc::clone(&budget));
                let (reference, layer) = (Arc::clone(&reference), layer.clone());
                let diff_id = *diff_id;
                async move { this.ensure_layer(reference, layer, diff_id, budget).await }
            })
            .collect();
        let layers: Vec<Arc<CodeDir>> = futures::stream::iter(making)
            .buffered(LAYERS_AT_A_TIME)
            .try_collect()
            .await
            .map_err(CodeError::Part)?;
        let bytes = layers.iter().fold(0_u64, |sum, layer| {
            sum.saturating_add(layer.bytes.load(Ordering::Relaxed))
        });
        if bytes > IMAGE_MAX_BYTES {
            return Err(CodeError::Image {
                digest: code.digest,
                source: LayerError::TooLarge,
            });
        }
        self.assemble(code.digest, layers, image.file).await
    }

    async fn ensure_layer(
        self: Arc<Self>,
        reference: Arc<Reference>,
        layer: Layer,
        diff_id: Digest,
        budget: Arc<Budget>,
    ) -> Result<Arc<CodeDir>, Arc<CodeError>> {
        let (this, digest) = (Arc::clone(&self), layer_key(diff_id));
        let make = async move {
            this.shrink(layer.blob.size_bytes);
            let number = this.next.fetch_add(1, Ordering::Relaxed);
            let making = Workplace::new(this.dir.join(MAKING), number);
            this.source
                .layer(&reference, &layer.blob, &making.archive)
                .await?;
            let target = this.dir.join(digest.to_string());
            let unpack = move || making.unpack_layer(&layer, diff_id, &budget, &target);
            blocking(digest, unpack).await
        };
        self.ensure_with(digest, make).await
    }

    async fn assemble(
        &self,
        digest: Digest,
        layers: Vec<Arc<CodeDir>>,
        file: ImageFile,
    ) -> Result<Arc<CodeDir>, CodeError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let making = Workplace::new(self.dir.join(MAKING), number);
        let target = self.dir.join(format!("{PREFIX}{}", image_key(digest)));
        blocking(digest, move || making.assemble(layers, &file, &target)).await
    }
}

impl Workplace {
    fn unpack_layer(
        &self,
        layer: &Layer,
        diff_id: Digest,
        budget: &Budget,
        target: &Path,
    ) -> Result<CodeDir, CodeError> {
        fs::create_dir(&self.tree).map_err(disk(&self.tree))?;
        let archive = fs::File::open(&self.archive).map_err(disk(&self.archive))?;
        let bytes = layer::unpack(archive, layer.is_gzip, diff_id, &self.tree, budget).map_err(
            |source| CodeError::Image {
                digest: diff_id,
                source,
            },
        )?;
        self.finish(target, bytes)
    }

    fn assemble(
        &self,
        layers: Vec<Arc<CodeDir>>,
        file: &ImageFile,
        target: &Path,
    ) -> Result<CodeDir, CodeError> {
        let root = self.tree.join(ROOT);
        fs::create_dir_all(&root).map_err(disk(&root))?;
        for layer in &layers {
            overlay::lay_over(&layer.path, &root).map_err(disk(&root))?;
        }
        root::complete(&root).map_err(disk(&root))?;
        let text = serde_json::to_vec(file).map_err(|error| disk(&self.tree)(error.into()))?;
        let path = self.tree.join(FILE);
        fs::write(&path, &text).map_err(disk(&path))?;
        let dir = self.finish(target, text.len() as u64)?;
        Ok(CodeDir {
            _parts: layers,
            ..dir
        })
    }
}

/// The key of an image by the name of its directory.
pub(super) fn key_of(name: &str) -> Option<Digest> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// An image that an earlier process left, if all of it is there: `find` gives layers by their keys.
pub(super) fn reopen(
    path: PathBuf,
    find: impl Fn(Digest) -> Option<Arc<CodeDir>>,
) -> Option<CodeDir> {
    let file = read_file(&path).ok()?;
    let layers = file
        .diff_ids
        .iter()
        .map(|diff_id| find(layer_key(*diff_id)));
    Some(CodeDir {
        _parts: layers.collect::<Option<_>>()?,
        bytes: 0.into(),
        path,
    })
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
