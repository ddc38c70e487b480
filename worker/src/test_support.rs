//! What several tests need: functions, a runtime pack, packages in memory.

use std::collections::HashMap;
use std::io::{Cursor, Write};
use std::path::Path;

use async_trait::async_trait;
use hearth_core::function::{
    CodeRef, Function, FunctionConfig, FunctionVersion, State, UpdateStatus,
};
use hearth_core::ids::{Digest, UnixMs, Version, VersionKey};
use sha2::{Digest as _, Sha256};

use crate::code::{CodeError, PackageSource};
use hearth_core::image::{Descriptor, Reference};
use hearth_registry::{Image, RegistryError};

pub(crate) const ACCOUNT: &str = "123456789012";

/// A zip archive of these files.
pub(crate) fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        let options = zip::write::SimpleFileOptions::default().unix_permissions(0o755);
        zip.start_file(*name, options).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

pub(crate) fn code_of(archive: &[u8]) -> CodeRef {
    CodeRef {
        digest: Digest(Sha256::digest(archive).into()),
        size_bytes: archive.len() as u64,
        unpacked_bytes: 0,
        image: None,
    }
}

/// Packages in memory; counts fetches.
#[derive(Debug, Default)]
pub(crate) struct Packages {
    pub(crate) by_digest: HashMap<Digest, Vec<u8>>,
    pub(crate) fetches: std::sync::atomic::AtomicUsize,
    /// By the digest of the manifest; their layers are packages.
    pub(crate) images: HashMap<Digest, Image>,
}

impl Packages {
    pub(crate) fn of(archives: &[Vec<u8>]) -> Self {
        let entries = archives.iter().map(|a| (code_of(a).digest, a.clone()));
        Self {
            by_digest: entries.collect(),
            fetches: Default::default(),
            images: HashMap::new(),
        }
    }
}

#[async_trait]
impl PackageSource for Packages {
    async fn fetch(&self, code: &CodeRef, file: &Path) -> Result<(), CodeError> {
        self.fetches
            .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let digest = code.digest;
        let bytes = self
            .by_digest
            .get(&digest)
            .ok_or_else(|| CodeError::Fetch {
                digest,
                reason: "not in memory".into(),
            })?;
        std::fs::write(file, bytes).unwrap();
        Ok(())
    }

    async fn image(&self, reference: &Reference, _: &str) -> Result<Image, CodeError> {
        let found = reference.digest.and_then(|digest| self.images.get(&digest));
        let missing = || RegistryError::NotFound {
            host: reference.host.clone(),
            what: reference.wanted(),
        };
        Ok(found.cloned().ok_or_else(missing)?)
    }

    async fn layer(&self, _: &Reference, blob: &Descriptor, file: &Path) -> Result<(), CodeError> {
        let code = CodeRef {
            digest: blob.digest,
            size_bytes: blob.size_bytes,
            unpacked_bytes: 0,
            image: None,
        };
        self.fetch(&code, file).await
    }
}

/// `$LATEST` of a function of this generation.
pub(crate) fn version(name: &str, generation: u64) -> (VersionKey, FunctionVersion) {
    let mut config = FunctionConfig::with_defaults("arn:aws:iam::123456789012:role/r".into());
    config.runtime = Some("fake".into());
    config.handler = Some("app.handler".into());
    let key = VersionKey {
        account: ACCOUNT.parse().unwrap(),
        function: name.parse().unwrap(),
        version: Version::Latest,
        generation,
    };
    let version = FunctionVersion {
        version: Version::Latest,
        generation,
        config,
        code: code_of(b""),
        last_modified: UnixMs(0),
        revision_id: "r".into(),
    };
    (key, version)
}

pub(crate) fn function(name: &str, version: FunctionVersion) -> Function {
    Function {
        account: ACCOUNT.parse().unwrap(),
        name: name.parse().unwrap(),
        latest: version,
        serving: None,
        state: State::Active,
        update: UpdateStatus::Successful,
        reserved_concurrency: None,
        tags: Default::default(),
        versions: Default::default(),
        last_version: 0,
        aliases: Default::default(),
        provisioned: Default::default(),
        attached: Default::default(),
        changed: 0,
    }
}

/// A directory with the pack `fake`, whose program is whatever the fake driver's script is.
pub(crate) fn fake_runtimes(dir: &Path) {
    let pack = dir.join("fake");
    std::fs::create_dir_all(pack.join("root/var/task")).unwrap();
    let manifest = "name = 'fake'\nrecipe = '1'\nargv = ['/fake', '{handler}']\n";
    std::fs::write(pack.join("runtime.toml"), manifest).unwrap();
}

/// A runtime client for scripts of the fake driver: one keep-alive connection.
#[derive(Debug)]
pub(crate) struct Client {
    sender: hyper::client::conn::http1::SendRequest<http_body_util::Full<bytes::Bytes>>,
}

/// An answer of the Runtime API.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: bytes::Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

impl Client {
    pub(crate) async fn connect(api: &crate::sandbox::fake::FakeRuntimeApi) -> Self {
        let io = hyper_util::rt::TokioIo::new(api.connect().await.unwrap());
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    pub(crate) async fn send(&mut self, method: &str, path: &str, body: Vec<u8>) -> Answer {
        let path = format!("/2018-06-01/runtime/{path}");
        self.call(method, &path, ("x-test", ""), body).await
    }

    /// With a header of its own, and the whole path.
    pub(crate) async fn call(
        &mut self,
        method: &str,
        path: &str,
        (name, value): (&str, &str),
        body: Vec<u8>,
    ) -> Answer {
        use http_body_util::BodyExt as _;
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "127.0.0.1:9001")
            .header(name, value)
            .body(http_body_util::Full::new(body.into()))
            .unwrap();
        let (head, body) = self
            .sender
            .send_request(request)
            .await
            .unwrap()
            .into_parts();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub(crate) async fn next(&mut self) -> Answer {
        self.send("GET", "invocation/next", Vec::new()).await
    }
}
