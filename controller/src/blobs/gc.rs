//! Which blobs nothing refers to any more. A blob is put before the command that names it is committed, so a
//! young one may still be about to be named: only those older than a grace period go.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::{BlobError, BlobStore, Digest, age};

/// What one collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs deleted.
    pub deleted: Vec<Digest>,
    /// Blobs that could not be deleted; the next collection tries again.
    pub failed: Vec<Digest>,
}

/// The blobs to delete: present for longer than `grace` and not referenced. In order of `present`.
pub fn plan_gc(
    referenced: &BTreeSet<Digest>,
    present: &[(Digest, Duration)],
    grace: Duration,
) -> Vec<Digest> {
    present
        .iter()
        .filter(|(digest, age)| *age > grace && !referenced.contains(digest))
        .map(|(digest, _)| *digest)
        .collect()
}

/// Lists `store`, then asks what is `referenced`, then deletes what is not. `referenced` must be read after a
/// linearizable read barrier, and is called only after the listing, so that whatever was named before a
/// listed blob is judged is seen; `grace` must exceed the longest time between a put and its command.
pub async fn collect<R>(
    store: &dyn BlobStore,
    referenced: impl FnOnce() -> R,
    now: SystemTime,
    grace: Duration,
) -> Result<Collected, BlobError>
where
    R: Future<Output = Result<BTreeSet<Digest>, BlobError>>,
{
    let listed = store.list().await?;
    let present: Vec<(Digest, Duration)> = listed
        .iter()
        .map(|info| (info.digest, age(info, now)))
        .collect();
    let referenced = referenced().await?;
    let planned: BTreeSet<Digest> = plan_gc(&referenced, &present, grace).into_iter().collect();
    let mut collected = Collected::default();
    for info in listed.iter().filter(|info| planned.contains(&info.digest)) {
        match store.delete_unchanged(info).await {
            Ok(true) => collected.deleted.push(info.digest),
            // Someone is about to name it.
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(digest = %info.digest, %error, "unreferenced blob cannot be deleted");
                collected.failed.push(info.digest);
            }
        }
    }
    Ok(collected)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn only_old_and_unreferenced_blobs_go() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|content| Digest::of(content));
        let present = [(a, 2 * HOUR), (b, 2 * HOUR), (c, HOUR)];
        let referenced = BTreeSet::from([a]);
        assert_eq!(plan_gc(&referenced, &present, HOUR), vec![b]);
    }

    proptest! {
        #[test]
        fn nothing_referenced_and_nothing_young_is_ever_planned(
            blobs in proptest::collection::vec((0_u8..20, 0_u64..100, any::<bool>()), 0..30),
            grace in 0_u64..100,
        ) {
            let digest = |name: u8| Digest::of(&[name]);
            let present: Vec<_> = blobs.iter().map(|(name, age, _)| (digest(*name), Duration::from_secs(*age))).collect();
            let referenced: BTreeSet<_> = blobs.iter().filter(|blob| blob.2).map(|blob| digest(blob.0)).collect();
            let grace = Duration::from_secs(grace);
            let planned = plan_gc(&referenced, &present, grace);
            prop_assert!(planned.iter().all(|digest| !referenced.contains(digest)));
            prop_assert!(planned.iter().all(|digest| present.iter().any(|(d, age)| d == digest && *age > grace)));
        }
    }
}
