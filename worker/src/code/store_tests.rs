//! The code cache: one fetch for many, eviction of what nobody uses, restarts, broken packages.

use std::sync::atomic::Ordering;

use hearth_node::metrics::Metrics;

use super::*;
use crate::test_support::{Packages, code_of, zip_of};

struct Fixture {
    dir: tempfile::TempDir,
    packages: Arc<Packages>,
}

impl Fixture {
    fn new(archives: &[Vec<u8>]) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            packages: Arc::new(Packages::of(archives)),
        }
    }

    fn open(&self, capacity: u64) -> Arc<CodeStore> {
        let metrics = WorkerMetrics::new(&Metrics::new("worker"));
        let source = Arc::clone(&self.packages);
        CodeStore::open(self.dir.path().join("code"), capacity, source, metrics).unwrap()
    }

    fn fetches(&self) -> usize {
        self.packages.fetches.load(Ordering::SeqCst)
    }
}

fn package(byte: u8) -> Vec<u8> {
    zip_of(&[("app.py", &[byte; 1_000])])
}

#[tokio::test]
async fn many_callers_share_one_fetch_and_a_restart_needs_none() {
    let fixture = Fixture::new(&[package(1)]);
    let code = code_of(&package(1));
    let store = fixture.open(1 << 20);
    let (a, b) = tokio::join!(store.ensure(&code), store.ensure(&code));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.path, b.path);
    assert_eq!(fs::read(a.path.join("app.py")).unwrap(), [1; 1_000]);
    assert_eq!(fixture.fetches(), 1);
    drop((a, b, store));
    fixture.open(1 << 20).ensure(&code).await.unwrap();
    assert_eq!(fixture.fetches(), 1);
}

#[tokio::test]
async fn least_recently_used_code_is_evicted_and_code_in_use_never() {
    let packages = [package(1), package(2), package(3)];
    let fixture = Fixture::new(&packages);
    let [one, two, three] = packages.each_ref().map(|p| code_of(p));
    let store = fixture.open(2_500);
    let held = store.ensure(&one).await.unwrap();
    drop(store.ensure(&two).await.unwrap());
    drop(store.ensure(&three).await.unwrap());
    assert!(held.path.exists(), "in use");
    drop(store.ensure(&three).await.unwrap());
    assert_eq!(fixture.fetches(), 3, "the newest stayed");
    drop(store.ensure(&two).await.unwrap());
    assert_eq!(fixture.fetches(), 4, "the oldest unused one was evicted");
}

#[tokio::test]
async fn a_broken_package_leaves_nothing_and_says_whose_fault_it_is() {
    let fixture = Fixture::new(&[b"not a zip".to_vec()]);
    let store = fixture.open(1 << 20);
    let error = store.ensure(&code_of(b"not a zip")).await.unwrap_err();
    assert_eq!(error.reason_code(), ("InvalidZipFileException", true));
    let missing = store.ensure(&code_of(b"missing")).await.unwrap_err();
    assert_eq!(missing.reason_code(), ("InternalError", false));
    let making = fixture.dir.path().join("code").join(MAKING);
    assert_eq!(fs::read_dir(making).unwrap().count(), 0);
}
