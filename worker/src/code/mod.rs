//! Deployment packages on this worker: fetched once per digest, unpacked once, kept while used and while there is
//! room. Unpacking itself is in [`unpack`], the transfer in [`fetch`], container images in [`image`].

mod error;
pub(crate) mod fetch;
pub(crate) mod image;
mod merge;
pub(crate) mod unpack;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use hearth_core::function::CodeRef;
use hearth_core::ids::Digest;
use hearth_core::image::{Descriptor, Reference};
use hearth_registry::Image;
use tracing::{Instrument, debug_span, warn};

use crate::metrics::WorkerMetrics;
pub use error::CodeError;
pub(crate) use error::causes;
use unpack::UnpackLimits;

/// Name of the directory for things in the making; what is found there at start is thrown away.
const MAKING: &str = ".making";

/// Unpacked code at a path; not evicted while one of these lives.
#[derive(Debug)]
pub(crate) struct CodeDir {
    /// The tree.
    pub(crate) path: PathBuf,
    /// Bytes that go when it goes.
    bytes: AtomicU64,
    /// Trees that it shares files with; they stay as long as it does.
    _parts: Vec<Arc<Self>>,
}

/// Where packages and images come from.
#[async_trait]
pub(crate) trait PackageSource: Send + Sync + std::fmt::Debug {
    /// Writes the package to `file`, its digest verified.
    async fn fetch(&self, code: &CodeRef, file: &Path) -> Result<(), CodeError>;

    /// The manifest and configuration of a pinned image.
    async fn image(&self, reference: &Reference, architecture: &str) -> Result<Image, CodeError>;

    /// Writes a layer's blob to `file`, its digest verified.
    async fn layer(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        file: &Path,
    ) -> Result<(), CodeError>;
}

type Making = Shared<BoxFuture<'static, Result<Arc<CodeDir>, Arc<CodeError>>>>;

/// The cache.
#[derive(Debug)]
pub(crate) struct CodeStore {
    dir: PathBuf,
    capacity_bytes: u64,
    source: Arc<dyn PackageSource>,
    metrics: WorkerMetrics,
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ready: HashMap<Digest, Entry>,
    making: HashMap<Digest, Making>,
    bytes: u64,
    /// Counts uses; the smallest is the least recently used.
    uses: u64,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("ready", &self.ready.len())
            .field("making", &self.making.len())
            .field("bytes", &self.bytes)
            .finish()
    }
}

struct Entry {
    code: Arc<CodeDir>,
    used: u64,
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> CodeError {
    let path = path.to_owned();
    move |source| CodeError::Disk { path, source }
}

impl CodeStore {
    /// Opens the cache; what earlier processes left whole is used again. Inside a tokio runtime.
    pub(crate) fn open(
        dir: PathBuf,
        capacity_bytes: u64,
        source: Arc<dyn PackageSource>,
        metrics: WorkerMetrics,
    ) -> Result<Arc<Self>, CodeError> {
        let making = dir.join(MAKING);
        if making.exists() {
            fs::remove_dir_all(&making).map_err(disk(&making))?;
        }
        fs::create_dir_all(&making).map_err(disk(&making))?;
        let mut state = State::default();
        let mut images = Vec::new();
        for entry in fs::read_dir(&dir).map_err(disk(&dir))? {
            let path = entry.map_err(disk(&dir))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if let Some(digest) = name.and_then(|name| name.parse().ok()) {
                let bytes = tree_bytes(&path).map_err(disk(&path))?;
                state.insert(digest, Arc::new(CodeDir::new(path, bytes)));
            } else if let Some(key) = name.and_then(image::key_of) {
                images.push((key, path));
            }
        }
        state.reopen_images(images, &making)?;
        let store = Self {
            dir,
            capacity_bytes,
            source,
            metrics,
            next: AtomicU64::new(0),
            state: Mutex::new(state),
        };
        store.shrink(0);
        Ok(Arc::new(store))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The unpacked code, fetched now if need be.
    pub(crate) async fn ensure(
        self: &Arc<Self>,
        code: &CodeRef,
    ) -> Result<Arc<CodeDir>, Arc<CodeError>> {
        let (this, wanted) = (Arc::clone(self), code.clone());
        let fetch = async move { this.fetch_and_unpack(&wanted).await };
        self.ensure_with(code.digest, fetch).await
    }

    /// The layers as one tree; `None` when there are none.
    pub(crate) async fn ensure_layers(
        self: &Arc<Self>,
        layers: &[CodeRef],
    ) -> Result<Option<Arc<CodeDir>>, Arc<CodeError>> {
        let unpacked = layers.iter().map(|layer| self.ensure(layer));
        let mut unpacked = futures::future::try_join_all(unpacked).await?;
        if unpacked.len() < 2 {
            return Ok(unpacked.pop());
        }
        let digest = merge::merged_digest(layers);
        let this = Arc::clone(self);
        let merge = async move { this.merge(digest, unpacked).await };
        self.ensure_with(digest, merge).await.map(Some)
    }

    /// The tree of that name, made now if need be. Any number of callers share one making, which goes on without them.
    async fn ensure_with(
        self: &Arc<Self>,
        digest: Digest,
        make: impl Future<Output = Result<Arc<CodeDir>, CodeError>> + Send + 'static,
    ) -> Result<Arc<CodeDir>, Arc<CodeError>> {
        let making = {
            let mut state = self.state();
            if let Some(ready) = state.use_ready(digest) {
                self.metrics.cache_hits.inc();
                return Ok(ready);
            }
            let begin = || {
                self.metrics.cache_misses.inc();
                let task = tokio::spawn(
                    Arc::clone(self)
                        .keep_made(digest, make)
                        .instrument(debug_span!("code_fetch", %digest)),
                );
                let joined = async move {
                    task.await.unwrap_or_else(|error| {
                        let reason = error.to_string();
                        Err(Arc::new(CodeError::Fetch { digest, reason }))
                    })
                };
                joined.boxed().shared()
            };
            state.making.entry(digest).or_insert_with(begin).clone()
        };
        making.await
    }

    async fn keep_made(
        self: Arc<Self>,
        digest: Digest,
        make: impl Future<Output = Result<Arc<CodeDir>, CodeError>>,
    ) -> Result<Arc<CodeDir>, Arc<CodeError>> {
        let result = make.await.map_err(Arc::new);
        let mut state = self.state();
        state.making.remove(&digest);
        if let Ok(dir) = &result {
            state.insert(digest, Arc::clone(dir));
        }
        drop(state);
        self.shrink(0);
        result
    }

    async fn fetch_and_unpack(&self, code: &CodeRef) -> Result<Arc<CodeDir>, CodeError> {
        self.shrink(code.size_bytes);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let making = Workplace::new(self.dir.join(MAKING), number);
        self.source.fetch(code, &making.archive).await?;
        let (digest, target) = (code.digest, self.dir.join(code.digest.to_string()));
        blocking(digest, move || making.unpack(digest, &target)).await
    }

    async fn merge(
        &self,
        digest: Digest,
        layers: Vec<Arc<CodeDir>>,
    ) -> Result<Arc<CodeDir>, CodeError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let making = Workplace::new(self.dir.join(MAKING), number);
        let target = self.dir.join(digest.to_string());
        blocking(digest, move || making.merge(&layers, &target)).await
    }

    /// A tree that somebody holds, and that is therefore not evicted, has got larger.
    pub(crate) fn on_grown(&self, code: &CodeDir, bytes: u64) {
        let mut state = self.state();
        code.bytes.fetch_add(bytes, Ordering::Relaxed);
        state.bytes += bytes;
        drop(state);
        self.shrink(0);
    }

    /// Evicts the least recently used that nobody holds, until what is there and `extra` fit.
    fn shrink(&self, extra: u64) {
        let mut evicted = Vec::new();
        let mut state = self.state();
        while state.bytes.saturating_add(extra) > self.capacity_bytes {
            let Some(path) = state.remove_oldest_unused() else {
                break;
            };
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let grave = self.dir.join(MAKING).join(format!("evicted-{number}"));
            // Renamed under the lock, so that the digest may be made again at once.
            match fs::rename(&path, &grave) {
                Ok(()) => evicted.push(grave),
                Err(error) => warn!(?path, %error, "cached code could not be evicted"),
            }
        }
        self.metrics
            .cache_bytes
            .set(i64::try_from(state.bytes).unwrap_or(i64::MAX));
        drop(state);
        if !evicted.is_empty() {
            // Large trees take long; the next start removes what a crash leaves.
            tokio::spawn(hearth_node::blocking::run(move || remove_all(&evicted)));
        }
    }
}

async fn blocking(
    digest: Digest,
    work: impl FnOnce() -> Result<CodeDir, CodeError> + Send + 'static,
) -> Result<Arc<CodeDir>, CodeError> {
    match hearth_node::blocking::run(work).await {
        Ok(result) => result.map(Arc::new),
        Err(error) => Err(CodeError::Fetch {
            digest,
            reason: error.to_string(),
        }),
    }
}

impl CodeDir {
    fn new(path: PathBuf, bytes: u64) -> Self {
        Self {
            path,
            bytes: AtomicU64::new(bytes),
            _parts: Vec::new(),
        }
    }
}

impl State {
    /// Images of an earlier process, whose layers are all there by now; the others are put where they are thrown away.
    fn reopen_images(
        &mut self,
        images: Vec<(Digest, PathBuf)>,
        making: &Path,
    ) -> Result<(), CodeError> {
        for (key, path) in images {
            let find = |layer| self.ready.get(&layer).map(|entry| Arc::clone(&entry.code));
            match image::reopen(path.clone(), find) {
                Some(image) => self.insert(key, Arc::new(image)),
                None => {
                    let grave = making.join(format!("incomplete-{key}"));
                    fs::rename(&path, &grave).map_err(disk(&path))?;
                }
            }
        }
        Ok(())
    }

    fn use_ready(&mut self, digest: Digest) -> Option<Arc<CodeDir>> {
        self.uses += 1;
        let entry = self.ready.get_mut(&digest)?;
        entry.used = self.uses;
        Some(Arc::clone(&entry.code))
    }

    fn insert(&mut self, digest: Digest, code: Arc<CodeDir>) {
        self.uses += 1;
        self.bytes += code.bytes.load(Ordering::Relaxed);
        let used = self.uses;
        if let Some(old) = self.ready.insert(digest, Entry { code, used }) {
            self.bytes -= old.code.bytes.load(Ordering::Relaxed);
        }
    }

    fn remove_oldest_unused(&mut self) -> Option<PathBuf> {
        let unused = self
            .ready
            .iter()
            .filter(|(_, e)| Arc::strong_count(&e.code) == 1);
        let oldest = unused
            .min_by_key(|(_, e)| e.used)
            .map(|(digest, _)| *digest)?;
        let entry = self.ready.remove(&oldest)?;
        self.bytes -= entry.code.bytes.load(Ordering::Relaxed);
        Some(entry.code.path.clone())
    }
}

/// A package in the making; whatever happens, nothing of it is left but the finished tree.
struct Workplace {
    archive: PathBuf,
    tree: PathBuf,
}

impl Workplace {
    fn new(dir: PathBuf, number: u64) -> Self {
        Self {
            archive: dir.join(format!("{number}.zip")),
            tree: dir.join(number.to_string()),
        }
    }

    fn unpack(&self, digest: Digest, target: &Path) -> Result<CodeDir, CodeError> {
        fs::create_dir(&self.tree).map_err(disk(&self.tree))?;
        let archive = File::open(&self.archive).map_err(disk(&self.archive))?;
        let archive = io::BufReader::new(archive);
        let bytes = unpack::unpack(archive, &self.tree, UnpackLimits::default())
            .map_err(|source| CodeError::Unpack { digest, source })?;
        self.finish(target, bytes)
    }

    fn merge(&self, layers: &[Arc<CodeDir>], target: &Path) -> Result<CodeDir, CodeError> {
        fs::create_dir(&self.tree).map_err(disk(&self.tree))?;
        let trees: Vec<PathBuf> = layers.iter().map(|layer| layer.path.clone()).collect();
        let bytes = merge::merge(&trees, &self.tree).map_err(disk(&self.tree))?;
        self.finish(target, bytes)
    }

    fn finish(&self, target: &Path, bytes: u64) -> Result<CodeDir, CodeError> {
        unpack::sync_tree(&self.tree).map_err(disk(&self.tree))?;
        fs::rename(&self.tree, target).map_err(disk(target))?;
        Ok(CodeDir::new(target.to_owned(), bytes))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // Either may be absent: not made yet, or renamed.
        let _ = fs::remove_file(&self.archive);
        let _ = fs::remove_dir_all(&self.tree);
    }
}

fn remove_all(graves: &[PathBuf]) {
    for grave in graves {
        if let Err(error) = fs::remove_dir_all(grave) {
            warn!(path = ?grave, %error, "evicted code could not be removed");
        }
    }
}

fn tree_bytes(path: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() {
            tree_bytes(&entry.path())?
        } else {
            meta.len()
        };
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
