//! The bytes of a backup as they go to whoever asked for it: never more than a piece of a blob in memory beside the
//! metadata. Who may ask is not known here.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest as _, Sha256};

use super::{BackupError, FORMAT_VERSION, MANIFEST, Manifest, Member, header, padding, tail};
use crate::blobs::{BlobStore, CHUNK_BYTES, Digest};

/// Pieces of a file.
type Pieces = BoxStream<'static, Result<Bytes, BackupError>>;

/// The metadata and what is known of it, all of one moment.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) cluster_id: String,
    pub(crate) region: String,
    pub(crate) applied_index: u64,
    pub(crate) term: u64,
    pub(crate) taken_at_ms: u64,
    pub(crate) written_by: String,
    pub(crate) functions: u64,
    /// The replicated state, as snapshots hold it.
    pub(crate) metadata: Bytes,
    /// Blobs that functions name, with their lengths.
    pub(crate) blobs: BTreeMap<Digest, u64>,
}

/// Length of the file and its content.
pub(crate) fn file(taken: Taken, store: Arc<dyn BlobStore>) -> (u64, Pieces) {
    let blobs = taken.blobs.iter();
    let blobs = blobs.map(|(digest, bytes)| Member::blob(*digest, *bytes));
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        cluster_id: taken.cluster_id,
        region: taken.region,
        applied_index: taken.applied_index,
        term: taken.term,
        taken_at_ms: taken.taken_at_ms,
        written_by: taken.written_by,
        functions: taken.functions,
        members: std::iter::once(Member::metadata(&taken.metadata))
            .chain(blobs)
            .collect(),
    };
    let front = whole(MANIFEST, manifest.encode().into());
    let metadata = whole(super::METADATA, taken.metadata);
    let blobs = stream::iter(taken.blobs)
        .map(move |(digest, bytes)| blob(Arc::clone(&store), digest, bytes))
        .flatten();
    let content = front.chain(metadata).chain(blobs);
    (manifest.file_bytes(), with_digest(content.boxed()))
}

/// A member that is in memory.
fn whole(path: &str, content: Bytes) -> Pieces {
    let bytes = content.len() as u64;
    let front = Bytes::copy_from_slice(&header(path, bytes));
    let pieces = stream::unfold(content, |mut rest| async move {
        (!rest.is_empty()).then(|| {
            let piece = rest.split_to(rest.len().min(CHUNK_BYTES));
            (Ok(piece), rest)
        })
    });
    one(front).chain(pieces).chain(fill(bytes)).boxed()
}

/// The member of a blob. It is opened when its turn comes.
fn blob(store: Arc<dyn BlobStore>, digest: Digest, bytes: u64) -> Pieces {
    let front = Bytes::copy_from_slice(&header(&Member::blob(digest, bytes).path, bytes));
    let opened = async move { store.get_stream(digest).await };
    let content = stream::once(opened)
        .try_flatten()
        .map_err(BackupError::Blob);
    let counted = stream::unfold(
        (Some(content.boxed()), 0_u64),
        move |(content, found)| async move {
            let mut content = content?;
            let wrong = |found| BackupError::Size {
                digest,
                found,
                expected: bytes,
            };
            match content.next().await {
                Some(Ok(piece)) => {
                    let found = found + piece.len() as u64;
                    let piece = (found <= bytes).then_some(piece);
                    let next = piece.is_some().then_some(content);
                    Some((piece.ok_or_else(|| wrong(found)), (next, found)))
                }
                Some(Err(error)) => Some((Err(error), (None, found))),
                None if found == bytes => None,
                None => Some((Err(wrong(found)), (None, found))),
            }
        },
    );
    one(front).chain(counted).chain(fill(bytes)).boxed()
}

fn one(piece: Bytes) -> Pieces {
    stream::iter([Ok(piece)]).boxed()
}

fn fill(bytes: u64) -> Pieces {
    let zeros = Bytes::from(vec![0; padding(bytes)]);
    stream::iter((!zeros.is_empty()).then_some(Ok(zeros))).boxed()
}

/// Appends what follows from the digest. After an error nothing comes any more.
fn with_digest(content: Pieces) -> Pieces {
    let state = Some((content, Sha256::new()));
    stream::unfold(state, |state| async move {
        let (mut content, mut sum) = state?;
        match content.next().await {
            Some(Ok(piece)) => {
                sum.update(&piece);
                Some((Ok(piece), Some((content, sum))))
            }
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((Ok(tail(sum).into()), None)),
        }
    })
    .boxed()
}
