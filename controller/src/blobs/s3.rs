//! Blobs in an S3-compatible store, through object_store. Durability and replication are that store's.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt as _, PutPayload, RetryConfig, WriteMultipart,
};

use super::read::{Check, checked};
use super::{BlobError, BlobInfo, BlobStore, BlobStream, Digest};

/// Deadline of one HTTP request: a part of 5 MiB over a slow link.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Retries of one request and of all together.
const RETRIES: usize = 4;
const RETRY_TIMEOUT: Duration = Duration::from_secs(120);
/// Parts in flight during an upload.
const PARTS_IN_FLIGHT: usize = 4;
/// Blobs up to this size are put in one request.
const SINGLE_PUT_BYTES: usize = 5 * 1024 * 1024;

/// Where the bucket is.
#[derive(Clone)]
pub struct S3Options {
    /// `https://host[:port]`, or `None` for AWS itself.
    pub endpoint: Option<String>,
    /// Region; many stores take any.
    pub region: String,
    /// Bucket; must exist.
    pub bucket: String,
    /// Put before every key, without slashes at its ends; may be empty.
    pub prefix: String,
    /// Access key; `None` takes the credentials of the instance.
    pub access_key_id: Option<String>,
    /// Secret key.
    pub secret_access_key: Option<String>,
    /// Whether plain HTTP is allowed. Default false.
    pub allow_http: bool,
}

impl std::fmt::Debug for S3Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Options")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Blobs in an object store under `<prefix>/ab/cdef…`.
#[derive(Debug, Clone)]
pub struct ObjectBlobs {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl ObjectBlobs {
    /// Blobs in an S3 bucket. Connects when first used.
    pub fn s3(options: &S3Options) -> Result<Self, BlobError> {
        let client = ClientOptions::new()
            .with_timeout(REQUEST_TIMEOUT)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_allow_http(options.allow_http);
        let retry = RetryConfig {
            max_retries: RETRIES,
            retry_timeout: RETRY_TIMEOUT,
            ..RetryConfig::default()
        };
        let mut builder = AmazonS3Builder::new()
            .with_region(&options.region)
            .with_bucket_name(&options.bucket)
            .with_client_options(client)
            .with_retry(retry);
        if let Some(endpoint) = &options.endpoint {
            // Self-hosted stores rarely have a DNS name per bucket.
            builder = builder
                .with_endpoint(endpoint)
                .with_virtual_hosted_style_request(false);
        }
        if let (Some(id), Some(secret)) = (&options.access_key_id, &options.secret_access_key) {
            builder = builder
                .with_access_key_id(id)
                .with_secret_access_key(secret);
        }
        let store = builder.build().map_err(|source| BlobError::Store {
            action: "configure",
            source: source.into(),
        })?;
        Ok(Self::over(Arc::new(store), &options.prefix))
    }

    /// Blobs in any object store.
    pub fn over(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self {
            store,
            prefix: Path::from(prefix),
        }
    }

    fn key(&self, digest: Digest) -> Path {
        let hex = digest.to_hex();
        self.prefix.clone().join(&hex[..2]).join(&hex[2..])
    }

    fn digest(&self, key: &Path) -> Option<Digest> {
        let parts: Vec<String> = key
            .prefix_match(&self.prefix)?
            .map(|part| part.as_ref().to_owned())
            .collect();
        Digest::from_hex(&parts.concat())
    }

    /// Uploads in parts; whatever fails, nothing stays visible.
    async fn put_parts(
        &self,
        expected: Digest,
        mut check: Check,
        first: Vec<u8>,
        mut content: BlobStream,
    ) -> Result<(), BlobError> {
        let key = self.key(expected);
        let upload = self.store.put_multipart(&key).await;
        let mut upload = WriteMultipart::new(upload.map_err(failed(expected, "put"))?);
        upload.write(&first);
        let received = async {
            while let Some(chunk) = content.try_next().await? {
                check.add(&chunk)?;
                upload
                    .wait_for_capacity(PARTS_IN_FLIGHT)
                    .await
                    .map_err(failed(expected, "put"))?;
                upload.put(chunk);
            }
            matches(expected, check.digest())
        };
        match received.await {
            Ok(()) => {
                let put = upload.finish().await;
                put.map(drop).map_err(failed(expected, "put"))
            }
            Err(error) => {
                if let Err(abort) = upload.abort().await {
                    tracing::warn!(digest = %expected, error = %abort, "upload cannot be aborted");
                }
                Err(error)
            }
        }
    }
}

fn matches(expected: Digest, actual: Digest) -> Result<(), BlobError> {
    if actual == expected {
        Ok(())
    } else {
        Err(BlobError::Mismatch { expected, actual })
    }
}

fn failed(digest: Digest, action: &'static str) -> impl FnOnce(object_store::Error) -> BlobError {
    move |source| match source {
        object_store::Error::NotFound { .. } => BlobError::NotFound(digest),
        other => BlobError::Io {
            action,
            digest,
            source: other.into(),
        },
    }
}

#[async_trait]
impl BlobStore for ObjectBlobs {
    async fn put_stream(&self, expected: Digest, mut content: BlobStream) -> Result<(), BlobError> {
        let mut check = Check::default();
        let mut first = Vec::new();
        while let Some(chunk) = content.try_next().await? {
            check.add(&chunk)?;
            first.extend_from_slice(&chunk);
            if first.len() > SINGLE_PUT_BYTES {
                return self.put_parts(expected, check, first, content).await;
            }
        }
        matches(expected, check.digest())?;
        let payload = PutPayload::from(first);
        let put = self.store.put(&self.key(expected), payload).await;
        put.map(drop).map_err(failed(expected, "put"))
    }

    async fn get_stream(&self, digest: Digest) -> Result<BlobStream, BlobError> {
        let object = self.store.get(&self.key(digest)).await;
        let chunks = object.map_err(failed(digest, "get"))?.into_stream();
        let chunks = chunks.map_err(move |error| failed(digest, "read")(error));
        // What is wrong in the store is for its operator to see; a new put replaces it.
        Ok(checked(digest, chunks, move || {
            tracing::error!(%digest, "blob is corrupted in the object store");
        }))
    }

    async fn exists(&self, digest: Digest) -> Result<bool, BlobError> {
        match self.store.head(&self.key(digest)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(failed(digest, "find")(error)),
        }
    }

    async fn delete(&self, digest: Digest) -> Result<(), BlobError> {
        match self.store.delete(&self.key(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(digest, "delete")(error)),
        }
    }

    /// The store has no conditional delete: a put between the question and the deletion is lost. The window is
    /// one round trip, once per unreferenced blob older than the grace period.
    async fn delete_unchanged(&self, info: &BlobInfo) -> Result<bool, BlobError> {
        match self.store.head(&self.key(info.digest)).await {
            Ok(found) if SystemTime::from(found.last_modified) > info.modified => Ok(false),
            Ok(_) => self.delete(info.digest).await.map(|()| true),
            Err(object_store::Error::NotFound { .. }) => Ok(true),
            Err(error) => Err(failed(info.digest, "find")(error)),
        }
    }

    async fn list(&self) -> Result<Vec<BlobInfo>, BlobError> {
        let mut found = Vec::new();
        let mut objects = self.store.list(Some(&self.prefix));
        while let Some(object) = objects.next().await {
            let object = object.map_err(|source| BlobError::Store {
                action: "list",
                source: source.into(),
            })?;
            if let Some(digest) = self.digest(&object.location) {
                found.push(BlobInfo {
                    digest,
                    length: object.size,
                    modified: object.last_modified.into(),
                });
            }
        }
        found.sort_unstable_by_key(|info| info.digest);
        Ok(found)
    }
}
