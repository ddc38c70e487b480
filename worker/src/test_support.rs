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
    }
}

/// Packages in memory; counts fetches.
#[derive(Debug, Default)]
pub(crate) struct Packages {
    pub(crate) by_digest: HashMap<Digest, Vec<u8>>,
    pub(crate) fetches: std::sync::atomic::AtomicUsize,
}

impl Packages {
    pub(crate) fn of(archives: &[Vec<u8>]) -> Self {
        let entries = archives.iter().map(|a| (code_of(a).digest, a.clone()));
        Self {
            by_digest: entries.collect(),
            fetches: Default::default(),
        }
    }
}

#[async_trait]
impl PackageSource for Packages {
    async fn fetch(&self, code: &CodeRef, file: &Path) -> Result<(), CodeError> {
        self.fetches
            .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let digest = code.digest;
        let bytes = self.by_digest.get(&digest).ok_or(CodeError::Fetch {
            digest,
            reason: "not in memory".into(),
        })?;
        std::fs::write(file, bytes).unwrap();
        Ok(())
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
    }
}
