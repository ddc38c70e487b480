//! Images in the code cache: what is shared, what is counted, what a restart finds, what is refused.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;

use hearth_core::image::{Descriptor, Manifest};
use hearth_node::metrics::Metrics;
use hearth_registry::Image;
use sha2::Sha256;

use super::*;
use crate::metrics::WorkerMetrics;
use crate::test_support::Packages;

fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

fn tar_of(files: &[(&str, usize)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, length) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(*length as u64);
        tar.append_data(&mut header, path, &vec![b'x'; *length][..])
            .unwrap();
    }
    tar.into_inner().unwrap()
}

struct Fixture {
    dir: tempfile::TempDir,
    packages: Packages,
}

impl Fixture {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            packages: Packages::default(),
        }
    }

    /// An image of these plain layers, as a registry has it.
    fn push(&mut self, name: &str, layers: &[Vec<u8>]) -> CodeRef {
        let blob = |tar: &Vec<u8>| Layer {
            blob: Descriptor {
                digest: digest(tar),
                size_bytes: tar.len() as u64,
            },
            is_gzip: false,
        };
        let image = Image {
            digest: digest(name.as_bytes()),
            manifest: Manifest {
                config: blob(&Vec::new()).blob,
                layers: layers.iter().map(blob).collect(),
            },
            file: ImageFile {
                entrypoint: vec![name.to_owned()],
                diff_ids: layers.iter().map(|tar| digest(tar)).collect(),
                ..ImageFile::default()
            },
        };
        let code = CodeRef {
            digest: image.digest,
            size_bytes: 0,
            unpacked_bytes: 0,
            image: Some(format!("r.example.com/{name}:1")),
        };
        let blobs = layers.iter().map(|tar| (digest(tar), tar.clone()));
        self.packages.by_digest.extend(blobs);
        self.packages.images.insert(image.digest, image);
        code
    }

    /// The cache, and the registry that it asks.
    fn open(&mut self, capacity: u64) -> (Arc<CodeStore>, Arc<Packages>) {
        let source = Arc::new(std::mem::take(&mut self.packages));
        let metrics = WorkerMetrics::new(&Metrics::new("worker"));
        let dir = self.dir.path().join("code");
        let packages = Arc::clone(&source);
        (
            CodeStore::open(dir, capacity, source, metrics).unwrap(),
            packages,
        )
    }
}

fn config() -> FunctionConfig {
    FunctionConfig::with_defaults("role".into())
}

async fn ensure(store: &Arc<CodeStore>, code: &CodeRef) -> Result<ImageDir, Arc<CodeError>> {
    store.ensure_image(code, &config()).await
}

#[tokio::test]
async fn images_share_layers_and_a_restart_finds_them() {
    let mut fixture = Fixture::new();
    let base = tar_of(&[("base", 10_000), ("gone", 5)]);
    let a = fixture.push(
        "a",
        &[base.clone(), tar_of(&[(".wh.gone", 0), ("own", 100)])],
    );
    let b = fixture.push("b", &[base, tar_of(&[("own", 200)])]);
    let (store, registry) = fixture.open(1 << 20);
    let (first, second) = tokio::join!(ensure(&store, &a), ensure(&store, &b));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(
        registry.fetches.load(Ordering::SeqCst),
        3,
        "the layer of both is fetched once"
    );
    let inode = |image: &ImageDir, name: &str| fs::metadata(image.root().join(name)).unwrap().ino();
    assert_eq!(
        inode(&first, "base"),
        inode(&second, "base"),
        "and is on disk once"
    );
    assert_ne!(inode(&first, "own"), inode(&second, "own"));
    assert!(!first.root().join("gone").exists() && second.root().join("gone").exists());
    assert!(first.root().join("proc").is_dir() && first.root().join("etc/resolv.conf").is_file());
    assert_eq!(first.file().unwrap().entrypoint, ["a"]);
    let bytes = store.state().bytes;
    assert!(
        (10_305..12_000).contains(&bytes),
        "{bytes} bytes: each file counts once"
    );
    drop((first, second, store));
    let (store, registry) = fixture.open(1 << 20);
    ensure(&store, &a).await.unwrap();
    assert_eq!(registry.fetches.load(Ordering::SeqCst), 0);
    drop(store);
    // Without one of its layers an image is none; the registry has nothing this time.
    let (code, key) = (fixture.dir.path().join("code"), image_key(b.digest));
    let own = digest(&tar_of(&[("own", 200)]));
    fs::remove_dir_all(code.join(layer_key(own).to_string())).unwrap();
    let (store, _) = fixture.open(1 << 20);
    let error = ensure(&store, &b).await.unwrap_err();
    assert_eq!(error.reason_code().0, "ImageDeleted");
    assert!(!code.join(format!("{PREFIX}{key}")).exists());
    ensure(&store, &a).await.unwrap();
}

#[tokio::test]
async fn layers_go_when_no_image_needs_them_and_not_before() {
    let mut fixture = Fixture::new();
    let base = tar_of(&[("base", 6_000)]);
    let codes = ["a", "b", "c"].map(|name| {
        let own = tar_of(&[(name, 6_000)]);
        fixture.push(name, &[base.clone(), own])
    });
    let (store, registry) = fixture.open(20_000);
    let held = ensure(&store, &codes[0]).await.unwrap();
    for code in &codes {
        ensure(&store, code).await.unwrap();
    }
    let bytes = store.state().bytes;
    assert!(bytes <= 20_000, "{bytes}");
    assert!(held.root().join("a").is_file(), "what is in use stays");
    assert_eq!(registry.fetches.load(Ordering::SeqCst), 4);
    ensure(&store, &codes[1]).await.unwrap();
    assert_eq!(
        registry.fetches.load(Ordering::SeqCst),
        5,
        "the base was kept for others"
    );
}

#[tokio::test]
async fn what_is_wrong_with_an_image_has_awss_code_and_says_what_to_do() {
    let mut fixture = Fixture::new();
    let good = fixture.push("good", &[tar_of(&[("f", 1)])]);
    let bad = fixture.push("bad", &[b"no archive".to_vec()]);
    let lying = fixture.push("lying", &[tar_of(&[("f", 2)])]);
    let lie = fixture.packages.images.get_mut(&lying.digest).unwrap();
    lie.file.diff_ids[0] = Digest([1; 32]);
    let gone = CodeRef {
        digest: Digest([9; 32]),
        ..good.clone()
    };
    let unnamed = CodeRef {
        image: Some("nonsense".into()),
        ..good.clone()
    };
    let (store, _) = fixture.open(1 << 20);
    for (code, reason, text) in [
        (&bad, "InvalidImage", "Push the image again"),
        (
            &lying,
            "InvalidImage",
            "other content than its configuration says",
        ),
        (
            &unnamed,
            "InvalidImage",
            "must begin with a registry's host",
        ),
        (&gone, "ImageDeleted", "Push it"),
    ] {
        let error = ensure(&store, code).await.unwrap_err();
        assert_eq!(error.reason_code(), (reason, true));
        assert!(error.told().contains(text), "{}", error.told());
    }
    ensure(&store, &good).await.unwrap();
    let making = fs::read_dir(fixture.dir.path().join("code").join(MAKING)).unwrap();
    assert_eq!(making.count(), 0, "nothing is left of what failed");
}
