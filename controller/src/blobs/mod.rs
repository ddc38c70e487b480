//! Code blobs by digest. A [`BlobStore`] keeps content under its SHA-256, and never hands out bytes it has
//! not checked against it.
//!
//! - [`LocalBlobs`]: files on this controller.
//! - [`ReplicatedBlobs`]: files on a majority of the controllers; what the API uses by default.
//! - [`ObjectBlobs`]: any S3-compatible store.
//! - [`gc`]: which blobs nothing refers to any more.
//!
//! What refers to a blob is not known here.

pub mod gc;
mod local;
mod read;
mod replicated;
mod s3;
mod service;

use std::fmt;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use sha2::{Digest as _, Sha256};

pub use local::LocalBlobs;
pub use replicated::{BlobPeers, ReplicatedBlobs};
pub use s3::{ObjectBlobs, S3Options};
pub use service::BlobPeerService;

/// Largest blob taken: AWS's limit of an unzipped package is 250 MB (262,144,000 bytes), a packed one is
/// smaller.
pub const MAX_BLOB_BYTES: u64 = 256 * 1024 * 1024;

/// Size of the pieces in which blobs travel and are read.
pub const CHUNK_BYTES: usize = 128 * 1024;

/// Content of a blob on its way. An error item ends it.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, BlobError>> + Send>>;

/// SHA-256 of a blob's content, its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }

    /// A digest from its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A digest from 64 lower-case hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// 64 lower-case hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// A blob in a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its name.
    pub digest: Digest,
    /// Its size in bytes.
    pub length: u64,
    /// When it was last put here.
    pub modified: SystemTime,
}

/// Why a blob could not be kept or handed out.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// No copy was found.
    #[error("blob {0} not found")]
    NotFound(Digest),
    /// The bytes put are not those of the digest; nothing was kept.
    #[error("content has digest {actual}, not {expected}")]
    Mismatch {
        /// Digest the caller named.
        expected: Digest,
        /// Digest of the bytes.
        actual: Digest,
    },
    /// The copy does not have its digest any more; it was put aside.
    #[error("blob {0} is corrupted")]
    Corrupted(Digest),
    /// Larger than [`MAX_BLOB_BYTES`]; nothing was kept.
    #[error("blob is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// The disk is full; nothing was kept.
    #[error("no space left for blob {0}")]
    Full(Digest),
    /// Fewer controllers than a majority kept the blob before the deadline. Some may have.
    #[error("blob {digest} reached {stored} of the {needed} controllers needed: {detail}")]
    NoMajority {
        /// The blob.
        digest: Digest,
        /// How many have it.
        stored: usize,
        /// How many must.
        needed: usize,
        /// What the others answered.
        detail: String,
    },
    /// Too few controllers answered to say that no majority has it.
    #[error("too few controllers answer to say whether blob {0} exists")]
    Unsure(Digest),
    /// The disk or the store failed.
    #[error("cannot {action} blob {digest}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The blob.
        digest: Digest,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store as a whole failed.
    #[error("cannot {action} the blob store")]
    Store {
        /// What was being done.
        action: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A place for blobs. Putting what is there already is a success (the content is not looked at then) and makes
/// the copy young again; deleting what is not there is a success too.
#[async_trait]
pub trait BlobStore: Send + Sync + fmt::Debug + 'static {
    /// Keeps `content` under `expected`. On success it survives a crash of the store; on error nothing
    /// partial is ever visible.
    async fn put_stream(&self, expected: Digest, content: BlobStream) -> Result<(), BlobError>;

    /// The content. Bytes are checked while they pass: a stream that ends without an error item was
    /// whole and correct; one that yields [`BlobError::Corrupted`] must be thrown away.
    async fn get_stream(&self, digest: Digest) -> Result<BlobStream, BlobError>;

    /// Whether a copy is there (its content unchecked).
    async fn exists(&self, digest: Digest) -> Result<bool, BlobError>;

    /// Removes the blob.
    async fn delete(&self, digest: Digest) -> Result<(), BlobError>;

    /// Removes the blob unless it was put again since it was listed as `info`; true if it is gone. For
    /// garbage collection, which must not take what is being named right now.
    async fn delete_unchanged(&self, info: &BlobInfo) -> Result<bool, BlobError>;

    /// All blobs, in order of their digests.
    async fn list(&self) -> Result<Vec<BlobInfo>, BlobError>;

    /// Keeps `content` under `expected`.
    async fn put(&self, expected: Digest, content: Bytes) -> Result<(), BlobError> {
        self.put_stream(expected, in_chunks(content)).await
    }

    /// The whole content, checked.
    async fn get(&self, digest: Digest) -> Result<Bytes, BlobError> {
        collect(self.get_stream(digest).await?).await
    }
}

/// The whole of a stream; [`MAX_BLOB_BYTES`] bounds it, because streams are checked.
pub(crate) async fn collect(mut stream: BlobStream) -> Result<Bytes, BlobError> {
    let mut content = Vec::new();
    while let Some(chunk) = stream.try_next().await? {
        content.extend_from_slice(&chunk);
    }
    Ok(content.into())
}

/// `content` as a stream of pieces of [`CHUNK_BYTES`].
pub fn in_chunks(content: Bytes) -> BlobStream {
    stream::unfold(content, |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        let chunk = rest.split_to(rest.len().min(CHUNK_BYTES));
        Some((Ok(chunk), rest))
    })
    .boxed()
}

/// How long a blob has been there at `now`; zero when its time lies ahead.
pub fn age(info: &BlobInfo, now: SystemTime) -> Duration {
    now.duration_since(info.modified).unwrap_or_default()
}
