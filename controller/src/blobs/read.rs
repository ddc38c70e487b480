//! Checking bytes on their way: a stream that ends with an error unless everything that passed has the digest
//! it should. Where bytes come from is not known here.

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use sha2::{Digest as _, Sha256};

use super::{BlobError, BlobStream, Digest, MAX_BLOB_BYTES};

/// Sums up what passes.
#[derive(Debug, Default)]
pub(super) struct Check {
    sum: Sha256,
    length: u64,
}

impl Check {
    /// Takes the next piece; an error once there are too many.
    pub(super) fn add(&mut self, chunk: &[u8]) -> Result<(), BlobError> {
        self.length += chunk.len() as u64;
        if self.length > MAX_BLOB_BYTES {
            return Err(BlobError::TooLarge {
                limit: MAX_BLOB_BYTES,
            });
        }
        self.sum.update(chunk);
        Ok(())
    }

    /// The digest of everything.
    pub(super) fn digest(self) -> Digest {
        Digest(self.sum.finalize().into())
    }
}

/// Passes `content` on and checks it; `on_corruption` runs if it is not what it should be.
pub(super) fn checked(
    digest: Digest,
    content: impl Stream<Item = Result<Bytes, BlobError>> + Send + 'static,
    on_corruption: impl FnOnce() + Send + 'static,
) -> BlobStream {
    let state = Some((content.boxed(), Check::default(), on_corruption));
    stream::unfold(state, move |state| async move {
        let (mut content, mut check, on_corruption) = state?;
        match content.next().await {
            Some(Ok(chunk)) => match check.add(&chunk) {
                Ok(()) => Some((Ok(chunk), Some((content, check, on_corruption)))),
                Err(error) => Some((Err(error), None)),
            },
            Some(Err(error)) => Some((Err(error), None)),
            None if check.digest() == digest => None,
            None => {
                on_corruption();
                Some((Err(BlobError::Corrupted(digest)), None))
            }
        }
    })
    .boxed()
}
