//! Backups: one file with the metadata as of one applied index and every code blob it names. It is a plain tar:
//!
//! ```text
//! manifest.json     format, cluster, index, and path, bytes and SHA-256 of each member below
//! metadata.json     the replicated state, as snapshots hold it
//! blobs/<sha256>    code, one member each, in order of their digests
//! digest.sha256     SHA-256 of everything before this member's header, hexadecimal, and a line feed
//! ```
//!
//! The last 2,048 bytes (that member and the end of a tar) follow from the digest, so a bit that is flipped anywhere
//! is noticed. The file holds what the metadata holds, environment variables of functions included, and no credentials.

mod read;
mod restore;
mod stream;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::blobs::{BlobError, Digest};

pub use read::{VerifyError, verify};
pub use restore::{NewCluster, RestoreError, Restored, restore};
pub(crate) use stream::{Taken, file};

/// Version of the file's layout. A newer one is refused.
pub const FORMAT_VERSION: u32 = 1;
/// Bytes of a tar block: a header, and what content is filled up to.
const BLOCK_BYTES: usize = 512;
/// Bytes after what the digest is of: its member, and the two empty blocks that end a tar.
const TAIL_BYTES: usize = 4 * BLOCK_BYTES;
/// Largest manifest taken: a million blobs.
const MAX_MANIFEST_BYTES: u64 = 256 * 1024 * 1024;
const MANIFEST: &str = "manifest.json";
const METADATA: &str = "metadata.json";
const BLOBS: &str = "blobs/";
const DIGEST: &str = "digest.sha256";

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// The cluster it was taken of.
    pub cluster_id: String,
    /// What its ARNs carry.
    pub region: String,
    /// Log index the metadata is as of.
    pub applied_index: u64,
    /// Term of the leader then.
    pub term: u64,
    /// When it was begun, milliseconds since 1970.
    pub taken_at_ms: u64,
    /// Release that wrote it.
    pub written_by: String,
    /// Functions of all accounts.
    pub functions: u64,
    /// What follows, in order: the metadata, then the blobs by digest.
    pub members: Vec<Member>,
}

/// A member of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its path.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

impl Member {
    fn metadata(content: &[u8]) -> Self {
        Self {
            path: METADATA.to_owned(),
            bytes: content.len() as u64,
            sha256: hex::encode(Sha256::digest(content)),
        }
    }

    fn blob(digest: Digest, bytes: u64) -> Self {
        Self {
            path: format!("{BLOBS}{digest}"),
            bytes,
            sha256: digest.to_hex(),
        }
    }

    /// The digest of a blob's member; none for another's.
    fn digest(&self) -> Option<Digest> {
        let digest = Digest::from_hex(self.path.strip_prefix(BLOBS)?)?;
        (digest.to_hex() == self.sha256).then_some(digest)
    }
}

impl Manifest {
    /// Blobs in the file.
    pub fn blobs(&self) -> usize {
        self.members.len().saturating_sub(1)
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self)
            .expect("a manifest has string keys and no failing serializers")
    }

    /// Bytes of the whole file.
    fn file_bytes(&self) -> u64 {
        let manifest = self.encode().len() as u64;
        let members = self.members.iter().map(|member| member.bytes);
        let members: u64 = std::iter::once(manifest)
            .chain(members)
            .map(|bytes| BLOCK_BYTES as u64 + bytes.next_multiple_of(BLOCK_BYTES as u64))
            .sum();
        members + TAIL_BYTES as u64
    }
}

/// Why a backup could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// A blob cannot be read.
    #[error("a blob cannot be read")]
    Blob(#[source] BlobError),
    /// Functions say another size of a blob than it has.
    #[error("blob {digest} has {found} bytes, functions say {expected}")]
    Size {
        digest: Digest,
        found: u64,
        expected: u64,
    },
}

/// A tar header. Everything but path and length is fixed, so that one content makes one file.
fn header(path: &str, bytes: u64) -> [u8; BLOCK_BYTES] {
    let mut header = tar::Header::new_ustar();
    header
        .set_path(path)
        .expect("our paths are relative and short");
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    *header.as_bytes()
}

/// Zeros after content of `bytes`.
fn padding(bytes: u64) -> usize {
    let block = BLOCK_BYTES as u64;
    usize::try_from(bytes.next_multiple_of(block) - bytes).expect("less than a block")
}

/// What comes after everything of which `sum` is the digest.
fn tail(sum: Sha256) -> Vec<u8> {
    let content = format!("{}\n", hex::encode(sum.finalize()));
    let mut tail = header(DIGEST, content.len() as u64).to_vec();
    tail.extend_from_slice(content.as_bytes());
    tail.resize(TAIL_BYTES, 0);
    tail
}

#[cfg(test)]
mod tests;
