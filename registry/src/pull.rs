//! What is pulled: a manifest with its configuration, or the blob of a layer, each verified. A mirror that fails is passed over; a
//! registry that cannot answer now is asked again, a few times.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use hearth_core::ids::Digest;
use hearth_core::image::manifest::{self, ACCEPTED, Document};
use hearth_core::image::{Descriptor, ImageFile, Manifest, ManifestError, Reference};
use hearth_core::limits::IMAGE_MANIFEST_MAX_BYTES;
use hearth_node::blocking;
use reqwest::Response;
use sha2::{Digest as _, Sha256};
use tracing::debug;

use crate::client::{Question, Registry, cause, read_limited};
use crate::error::RegistryError;

/// Rounds over a registry and its mirrors.
const ROUNDS: u32 = 3;
/// Pause before the second round; the third waits twice as long.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest time for a manifest or a configuration.
const DOCUMENT_DEADLINE: Duration = Duration::from_secs(30);
/// Longest time for a layer: 10 GB at 10 MB a second and some.
const LAYER_DEADLINE: Duration = Duration::from_secs(20 * 60);
/// Bytes of a layer that are gathered before they are written.
const WRITE_BYTES: usize = 1 << 20;
/// Name of the header with what a registry says of a manifest.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// An image, pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// SHA-256 of the manifest.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration file.
    pub file: ImageFile,
}

impl Registry {
    /// What a reference names now, for Linux on an architecture (`amd64`).
    ///
    /// # Errors
    /// Why it cannot be had, or not be used.
    pub async fn image(
        &self,
        reference: &Reference,
        architecture: &str,
    ) -> Result<Image, RegistryError> {
        let hosts = self.options.asked_for(&reference.host)?;
        let mut failed = None;
        for round in 0..ROUNDS {
            pause(round).await;
            for host in &hosts {
                let image = self.image_from(host, reference, architecture);
                match within(host, DOCUMENT_DEADLINE, image).await {
                    Ok(image) => return Ok(image),
                    Err(error) => failed = Some(passed_over(error)?),
                }
            }
            if !failed.as_ref().is_some_and(RegistryError::is_transient) {
                break;
            }
        }
        Err(failed.unwrap_or_else(|| nobody(reference)))
    }

    /// Writes a layer's blob to `path`, its digest and length verified.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub async fn layer(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        path: &Path,
    ) -> Result<(), RegistryError> {
        let hosts = self.options.asked_for(&reference.host)?;
        let mut failed = None;
        for round in 0..ROUNDS {
            pause(round).await;
            for host in &hosts {
                let layer = self.layer_from(host, reference, blob, path);
                match within(host, LAYER_DEADLINE, layer).await {
                    Ok(()) => return Ok(()),
                    Err(error) => failed = Some(passed_over(error)?),
                }
            }
            if !failed.as_ref().is_some_and(RegistryError::is_transient) {
                break;
            }
        }
        Err(failed.unwrap_or_else(|| nobody(reference)))
    }

    async fn image_from(
        &self,
        host: &str,
        reference: &Reference,
        architecture: &str,
    ) -> Result<Image, RegistryError> {
        let repository = &reference.repository;
        let wanted = reference.wanted();
        let (mut digest, bytes) = self
            .manifest(host, repository, &wanted, reference.digest)
            .await?;
        let read = manifest::read(&bytes).map_err(RegistryError::Manifest)?;
        let manifest = match read {
            Document::Image(manifest) => manifest,
            Document::Index(index) => {
                let chosen = index
                    .choose(architecture)
                    .map_err(RegistryError::Manifest)?;
                digest = chosen.digest;
                let wanted = format!("sha256:{digest}");
                let (_, bytes) = self
                    .manifest(host, repository, &wanted, Some(digest))
                    .await?;
                match manifest::read(&bytes).map_err(RegistryError::Manifest)? {
                    Document::Image(manifest) => manifest,
                    Document::Index(_) => {
                        let text = "an index in an index".to_owned();
                        return Err(RegistryError::Manifest(ManifestError::MediaType(text)));
                    }
                }
            }
        };
        let bytes = self.config(host, repository, &manifest.config).await?;
        let file = manifest::read_file(&bytes, &manifest, architecture)
            .map_err(RegistryError::Manifest)?;
        Ok(Image {
            digest,
            manifest,
            file,
        })
    }

    /// A manifest and its digest, which is the expected one if one is expected.
    async fn manifest(
        &self,
        host: &str,
        repository: &str,
        wanted: &str,
        expected: Option<Digest>,
    ) -> Result<(Digest, Vec<u8>), RegistryError> {
        let path = format!("manifests/{wanted}");
        let question = Question {
            host,
            repository,
            path: &path,
            accept: ACCEPTED,
        };
        let response = self.get(&question).await?;
        let said = said_digest(&response);
        let bytes = read_limited(&question, response, IMAGE_MANIFEST_MAX_BYTES).await?;
        let digest = Digest(Sha256::digest(&bytes).into());
        if [said, expected]
            .into_iter()
            .flatten()
            .any(|other| other != digest)
        {
            return Err(lied(&question));
        }
        Ok((digest, bytes))
    }

    async fn config(
        &self,
        host: &str,
        repository: &str,
        config: &Descriptor,
    ) -> Result<Vec<u8>, RegistryError> {
        let path = format!("blobs/sha256:{}", config.digest);
        let question = blob_question(host, repository, &path);
        let response = self.get(&question).await?;
        let bytes = read_limited(&question, response, IMAGE_MANIFEST_MAX_BYTES).await?;
        if Digest(Sha256::digest(&bytes).into()) != config.digest {
            return Err(lied(&question));
        }
        Ok(bytes)
    }

    async fn layer_from(
        &self,
        host: &str,
        reference: &Reference,
        blob: &Descriptor,
        path: &Path,
    ) -> Result<(), RegistryError> {
        let below = format!("blobs/sha256:{}", blob.digest);
        let question = blob_question(host, &reference.repository, &below);
        let mut response = self.get(&question).await?;
        let mut sink = Sink::create(path).await?;
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| question.unreachable(cause(error)))?
        {
            if sink.length + chunk.len() as u64 > blob.size_bytes {
                return Err(lied(&question));
            }
            sink.take(&chunk).await?;
        }
        if sink.finish().await? == (blob.digest, blob.size_bytes) {
            Ok(())
        } else {
            Err(lied(&question))
        }
    }
}

fn blob_question<'a>(host: &'a str, repository: &'a str, path: &'a str) -> Question<'a> {
    Question {
        host,
        repository,
        path,
        accept: "application/octet-stream",
    }
}

/// What the registry itself says a manifest's digest is.
fn said_digest(response: &Response) -> Option<Digest> {
    let header = response.headers().get(CONTENT_DIGEST)?.to_str().ok()?;
    header.strip_prefix("sha256:")?.parse().ok()
}

fn lied(question: &Question<'_>) -> RegistryError {
    RegistryError::Digest {
        host: question.host.to_owned(),
        what: question.what(),
    }
}

fn nobody(reference: &Reference) -> RegistryError {
    RegistryError::Unreachable {
        host: reference.host.clone(),
        reason: "nobody was asked".to_owned(),
    }
}

async fn pause(round: u32) {
    if round > 0 {
        tokio::time::sleep(PAUSE * round).await;
    }
}

/// The error, if somebody else may still be asked.
fn passed_over(error: RegistryError) -> Result<RegistryError, RegistryError> {
    if error.is_own() {
        return Err(error);
    }
    debug!(%error, "image not had from a registry");
    Ok(error)
}

async fn within<T>(
    host: &str,
    deadline: Duration,
    work: impl Future<Output = Result<T, RegistryError>>,
) -> Result<T, RegistryError> {
    let done = tokio::time::timeout(deadline, work).await;
    done.unwrap_or_else(|_| {
        Err(RegistryError::Unreachable {
            host: host.to_owned(),
            reason: format!("it took longer than {} s", deadline.as_secs()),
        })
    })
}

/// A file in the making, hashed while it is written.
struct Sink<'a> {
    path: &'a Path,
    /// `None` while it is being written elsewhere.
    file: Option<File>,
    hash: Sha256,
    length: u64,
    gathered: Vec<u8>,
}

impl<'a> Sink<'a> {
    async fn create(path: &'a Path) -> Result<Self, RegistryError> {
        let target = path.to_owned();
        let file = blocking::run(move || File::create(target)).await;
        Ok(Self {
            path,
            file: Some(disk(path, file.unwrap_or_else(ended))?),
            hash: Sha256::new(),
            length: 0,
            gathered: Vec::new(),
        })
    }

    async fn take(&mut self, chunk: &[u8]) -> Result<(), RegistryError> {
        self.length += chunk.len() as u64;
        self.gathered.extend_from_slice(chunk);
        if self.gathered.len() < WRITE_BYTES {
            return Ok(());
        }
        self.write().await
    }

    /// Writes and hashes what is gathered.
    async fn write(&mut self) -> Result<(), RegistryError> {
        let Some(mut file) = self.file.take() else {
            let lost = io::Error::other("an earlier write was given up");
            return disk(self.path, Err(lost));
        };
        let (mut hash, data) = (
            std::mem::take(&mut self.hash),
            std::mem::take(&mut self.gathered),
        );
        let written = blocking::run(move || {
            hash.update(&data);
            file.write_all(&data).map(|()| (file, hash))
        });
        let (file, hash) = disk(self.path, written.await.unwrap_or_else(ended))?;
        (self.file, self.hash) = (Some(file), hash);
        Ok(())
    }

    async fn finish(mut self) -> Result<(Digest, u64), RegistryError> {
        self.write().await?;
        Ok((Digest(self.hash.finalize().into()), self.length))
    }
}

fn ended<T>(error: impl std::error::Error + Send + Sync + 'static) -> io::Result<T> {
    Err(io::Error::other(error))
}

fn disk<T>(path: &Path, result: io::Result<T>) -> Result<T, RegistryError> {
    result.map_err(|source| RegistryError::Disk {
        path: path.to_owned(),
        source,
    })
}
