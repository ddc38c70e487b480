//! Values for this crate's tests.

use std::collections::BTreeMap;

use hearth_core::function::{
    CodeRef, Function, FunctionConfig, FunctionVersion, State, UpdateStatus,
};
use hearth_core::ids::{Digest, UnixMs, Version};

/// 2020-01-01T00:00:00Z.
pub(crate) const NEW_YEAR: UnixMs = UnixMs(1_577_836_800_000);

/// An active function of the default account.
pub(crate) fn function(name: &str, generation: u64) -> Function {
    let mut config = FunctionConfig::with_defaults("arn:aws:iam::000000000000:role/r".into());
    config.runtime = Some("python3.11".into());
    config.handler = Some("main.handler".into());
    Function {
        account: "000000000000".parse().unwrap(),
        name: name.parse().unwrap(),
        latest: FunctionVersion {
            version: Version::Latest,
            generation,
            config,
            code: CodeRef {
                digest: Digest([7; 32]),
                size_bytes: 123,
                unpacked_bytes: 0,
                image: None,
            },
            last_modified: NEW_YEAR,
            revision_id: "5d7b5dc5-7e3c-4b5e-8d4b-000000000001".into(),
        },
        serving: None,
        state: State::Active,
        update: UpdateStatus::Successful,
        reserved_concurrency: None,
        tags: BTreeMap::new(),
        versions: BTreeMap::new(),
        last_version: 0,
        aliases: BTreeMap::new(),
        provisioned: BTreeMap::new(),
        attached: Default::default(),
        changed: 0,
    }
}

/// A zip archive of one file.
pub(crate) fn zip_with(name: &str, content: &[u8]) -> bytes::Bytes {
    use std::io::Write as _;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    zip.start_file(name, options).unwrap();
    zip.write_all(content).unwrap();
    zip.finish().unwrap().into_inner().into()
}
