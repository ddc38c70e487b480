//! What every blob store promises, run on each of them; and what only some have: files on this disk, copies on
//! a majority of controllers.
#![expect(
    clippy::unwrap_used,
    clippy::tests_outside_test_module,
    reason = "this whole file is a test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt as _;
use hearth_controller::blobs::{
    BlobError, BlobInfo, BlobPeerService, BlobPeers, BlobStore, Digest, LocalBlobs, MAX_BLOB_BYTES,
    ObjectBlobs, ReplicatedBlobs, S3Options, gc, in_chunks,
};
use hearth_controller::raft::PlainDialer;
use object_store::memory::InMemory;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

fn content(length: usize) -> Bytes {
    (0..length)
        .map(|i| u8::try_from(i * 31 % 251).unwrap())
        .collect()
}

async fn contract(store: &dyn BlobStore) {
    what_is_put_is_got(store).await;
    nothing_wrong_is_kept(store).await;
    deleting_and_listing(store).await;
}

async fn what_is_put_is_got(store: &dyn BlobStore) {
    // Empty, small, one chunk and a bit, and larger than one upload part.
    for length in [0, 5, 200_000, 12_000_000] {
        let bytes = content(length);
        let digest = Digest::of(&bytes);
        assert!(matches!(store.get(digest).await, Err(BlobError::NotFound(d)) if d == digest));
        assert!(!store.exists(digest).await.unwrap());
        // Twice: the second is a success too.
        for _ in 0..2 {
            store.put(digest, bytes.clone()).await.unwrap();
        }
        assert!(store.exists(digest).await.unwrap());
        assert_eq!(store.get(digest).await.unwrap(), bytes);
    }
}

async fn nothing_wrong_is_kept(store: &dyn BlobStore) {
    let before = store.list().await.unwrap();
    for length in [10, 12_000_000] {
        let digest = Digest::of(b"something else");
        let error = store.put(digest, content(length)).await.unwrap_err();
        assert!(matches!(error, BlobError::Mismatch { .. }), "{error}");
        assert!(!store.exists(digest).await.unwrap());
    }
    // The sender breaks off.
    let bytes = content(300_000);
    let digest = Digest::of(&bytes);
    let broken = in_chunks(bytes).take(2).chain(futures::stream::once(async {
        Err(BlobError::NotFound(Digest::of(b"gone")))
    }));
    store.put_stream(digest, broken.boxed()).await.unwrap_err();
    assert!(!store.exists(digest).await.unwrap());
    // More than the limit.
    let chunk = content(1024 * 1024);
    let count = usize::try_from(MAX_BLOB_BYTES).unwrap() / chunk.len() + 1;
    let huge = futures::stream::iter(std::iter::repeat_with(move || Ok(chunk.clone())).take(count));
    let error = store.put_stream(digest, huge.boxed()).await.unwrap_err();
    assert!(matches!(error, BlobError::TooLarge { .. }), "{error}");
    assert_eq!(store.list().await.unwrap(), before);
}

async fn deleting_and_listing(store: &dyn BlobStore) {
    let old = store.list().await.unwrap();
    let bytes = content(77);
    let digest = Digest::of(&bytes);
    store.put(digest, bytes).await.unwrap();
    let listed = store.list().await.unwrap();
    assert!(listed.is_sorted_by_key(|info| info.digest));
    let info = listed.iter().find(|info| info.digest == digest).unwrap();
    assert_eq!(info.length, 77);
    let hour = Duration::from_secs(3_600);
    assert!(
        gc::collect(
            store,
            async || Ok(BTreeSet::new()),
            info.modified + hour,
            2 * hour
        )
        .await
        .unwrap()
        .deleted
        .is_empty()
    );
    // Put again since it was listed: spared. Times have a resolution, so a listing from before is feigned.
    let stale = BlobInfo {
        modified: info.modified - hour,
        ..*info
    };
    assert!(!store.delete_unchanged(&stale).await.unwrap());
    assert!(store.exists(digest).await.unwrap());
    for _ in 0..2 {
        store.delete(digest).await.unwrap();
    }
    assert!(!store.exists(digest).await.unwrap());
    assert_eq!(store.list().await.unwrap(), old);
    // Everything but one goes.
    let kept = old[0].digest;
    let referenced = async || Ok(BTreeSet::from([kept]));
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
    let collected = gc::collect(store, referenced, later, hour).await.unwrap();
    assert_eq!(collected.deleted.len(), old.len() - 1);
    assert_eq!(store.list().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn local_files_keep_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract(&LocalBlobs::open(dir.path()).unwrap()).await;
    assert!(files(&dir.path().join("tmp")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn object_stores_keep_the_contract() {
    for prefix in ["", "some/prefix"] {
        contract(&ObjectBlobs::over(Arc::new(InMemory::new()), prefix)).await;
    }
}

#[test]
fn an_s3_endpoint_can_be_configured() {
    let options = S3Options {
        endpoint: Some("http://127.0.0.1:9000".to_owned()),
        region: "us-east-1".to_owned(),
        bucket: "hearth".to_owned(),
        prefix: "blobs".to_owned(),
        access_key_id: Some("id".to_owned()),
        secret_access_key: Some("secret".to_owned()),
        allow_http: true,
    };
    assert!(!format!("{options:?}").contains("secret"));
    ObjectBlobs::s3(&options).unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn corrupt(dir: &Path) {
    let [path] = files(dir).try_into().unwrap();
    let path: PathBuf = path;
    let mut bytes = fs::read(&path).unwrap();
    bytes[1_000] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupted_file_is_put_aside_and_can_be_put_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalBlobs::open(dir.path()).unwrap();
    let bytes = content(200_000);
    let digest = Digest::of(&bytes);
    store.put(digest, bytes.clone()).await.unwrap();
    corrupt(dir.path());
    assert!(matches!(
        store.get(digest).await,
        Err(BlobError::Corrupted(_))
    ));
    assert!(matches!(
        store.get(digest).await,
        Err(BlobError::NotFound(_))
    ));
    assert_eq!(files(&dir.path().join("quarantine")).len(), 1);

    store.put(digest, bytes.clone()).await.unwrap();
    fs::remove_dir_all(dir.path().join("quarantine")).unwrap();
    fs::create_dir(dir.path().join("quarantine")).unwrap();
    corrupt(dir.path());
    // A put finds the corruption as well.
    store.put(digest, bytes.clone()).await.unwrap();
    assert_eq!(store.get(digest).await.unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_files_of_a_crash_are_removed_on_open() {
    let dir = tempfile::tempdir().unwrap();
    drop(LocalBlobs::open(dir.path()).unwrap());
    fs::write(dir.path().join("tmp/half"), b"half").unwrap();
    let store = LocalBlobs::open(dir.path()).unwrap();
    assert!(files(dir.path()).is_empty());
    assert!(store.list().await.unwrap().is_empty());
}

#[derive(Debug)]
struct Peers(BTreeMap<u64, String>);

impl BlobPeers for Peers {
    fn controllers(&self) -> BTreeMap<u64, String> {
        self.0.clone()
    }
}

struct Controllers {
    dirs: Vec<TempDir>,
    servers: Vec<JoinHandle<()>>,
    stores: Vec<ReplicatedBlobs>,
}

/// Controllers of which only the first `up` answer.
async fn controllers(count: usize, up: usize) -> Controllers {
    let mut listeners = Vec::new();
    let mut peers = BTreeMap::new();
    for id in (1_u64..).take(count) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        peers.insert(id, listener.local_addr().unwrap().to_string());
        listeners.push(listener);
    }
    let peers = Arc::new(Peers(peers));
    let mut all = Controllers {
        dirs: Vec::new(),
        servers: Vec::new(),
        stores: Vec::new(),
    };
    for (id, listener) in (1_u64..).zip(listeners).take(up) {
        let dir = tempfile::tempdir().unwrap();
        let local = LocalBlobs::open(dir.path()).unwrap();
        let service = BlobPeerService::server("c", local.clone());
        let router = Server::builder().add_service(service);
        let incoming = TcpListenerStream::new(listener);
        all.servers.push(tokio::spawn(async move {
            router.serve_with_incoming(incoming).await.unwrap();
        }));
        let dialer = Arc::new(PlainDialer);
        all.stores
            .push(ReplicatedBlobs::new(id, "c", local, peers.clone(), dialer));
        all.dirs.push(dir);
    }
    all
}

async fn holders(controllers: &Controllers, digest: Digest) -> usize {
    let mut count = 0;
    for store in &controllers.stores {
        count += usize::from(store.local().exists(digest).await.unwrap());
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_is_on_a_majority_before_it_succeeds_and_on_no_success_without() {
    for (count, up) in [(1, 1), (2, 2), (3, 2), (3, 3), (5, 3)] {
        let all = controllers(count, up).await;
        let bytes = content(1_000_000);
        let digest = Digest::of(&bytes);
        all.stores[0].put(digest, bytes.clone()).await.unwrap();
        assert!(holders(&all, digest).await > count / 2);
        for store in &all.stores {
            assert_eq!(store.get(digest).await.unwrap(), bytes);
        }
    }
    for (count, up) in [(2, 1), (3, 1), (5, 2)] {
        let all = controllers(count, up).await;
        let bytes = content(1_000);
        let error = all.stores[0].put(Digest::of(&bytes), bytes).await;
        let Err(BlobError::NoMajority { stored, needed, .. }) = error else {
            panic!("{error:?}");
        };
        assert_eq!((stored, needed), (up, count / 2 + 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_corrupted_copy_is_repaired_from_a_peer() {
    let all = controllers(3, 3).await;
    let bytes = content(1_000_000);
    let digest = Digest::of(&bytes);
    all.stores[1]
        .local()
        .put(digest, bytes.clone())
        .await
        .unwrap();
    assert!(all.stores[0].exists(digest).await.unwrap());
    assert_eq!(all.stores[0].get(digest).await.unwrap(), bytes);
    assert_eq!(holders(&all, digest).await, 2);

    corrupt(all.dirs[0].path());
    assert_eq!(all.stores[0].get(digest).await.unwrap(), bytes);
    assert_eq!(all.stores[0].local().get(digest).await.unwrap(), bytes);

    let unknown = Digest::of(b"unknown");
    assert!(matches!(
        all.stores[0].get(unknown).await,
        Err(BlobError::NotFound(_))
    ));
    assert!(!all.stores[0].exists(unknown).await.unwrap());
}

const SMALL_DIR: &str = "HEARTH_TEST_BLOBS_SMALL_DIR";

/// Runs in a mount namespace of its own, see below.
#[tokio::test(flavor = "multi_thread")]
async fn child_on_a_small_disk() {
    let Some(dir) = std::env::var_os(SMALL_DIR) else {
        return;
    };
    let store = LocalBlobs::open(&dir).unwrap();
    let small = content(200_000);
    store.put(Digest::of(&small), small.clone()).await.unwrap();
    let large = content(2_000_000);
    let error = store.put(Digest::of(&large), large).await.unwrap_err();
    assert!(matches!(error, BlobError::Full(_)), "{error}");
    assert_eq!(files(Path::new(&dir)).len(), 1);
    // There is room again for what fits.
    let fits = content(500_000);
    store.put(Digest::of(&fits), fits).await.unwrap();
    assert_eq!(store.get(Digest::of(&small)).await.unwrap(), small);
}

/// A tmpfs of 1 MiB, mounted where nobody else sees it. Skipped where user namespaces are forbidden.
#[test]
fn a_full_disk_keeps_nothing_of_the_blob() {
    let unshare = || std::process::Command::new("unshare");
    let possible = unshare().args(["-rm", "true"]).status();
    if !possible.is_ok_and(|status| status.success()) {
        println!("skipped: no user namespaces here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        r#"mount -t tmpfs -o size=1m none "${SMALL_DIR}" && exec "$0" --exact child_on_a_small_disk"#
    );
    let status = unshare()
        .args(["-rm", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(SMALL_DIR, dir.path())
        .status()
        .unwrap();
    assert!(status.success());
}
