//! Deploys the functions the benchmark drives.

use std::io::Write as _;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hearth_tests::cluster::{Ready, repository};
use hearth_tests::http::{Connection, signed};
use zip::write::SimpleFileOptions;

/// What a function is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The static Rust bootstrap of `examples/functions/rust-echo`.
    Rust,
    /// A two-line python handler.
    Python,
    /// A two-line handler of Node.js.
    Node,
    /// A python handler that waits for [`SLEEP_MS`].
    Sleeper,
    /// A python handler that waits for [`LONG_SLEEP_S`] and tells its sandbox from all others.
    LongSleeper,
}

/// The python handler.
pub(crate) const PYTHON_SOURCE: &str = "def handler(event, context):\n    return event\n";

const NODE_SOURCE: &str = "export const handler = async (event) => event;\n";

/// How long the sleeper waits, milliseconds.
pub(crate) const SLEEP_MS: u64 = 100;

/// How long the other one does, seconds: until the last of many sandboxes has started.
pub(crate) const LONG_SLEEP_S: u64 = 40;

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Node => "node",
            Self::Sleeper => "sleeper",
            Self::LongSleeper => "long-sleeper",
        }
    }

    fn runtime(self) -> &'static str {
        match self {
            Self::Rust => "provided.al2023",
            Self::Node => "nodejs22.x",
            Self::Python | Self::Sleeper | Self::LongSleeper => "python3.11",
        }
    }

    /// Its one file.
    pub(crate) fn file(self) -> anyhow::Result<(&'static str, Vec<u8>)> {
        let sleeper = |wait: f64, answer: &str| {
            format!(
                "import time, uuid\nOWN = str(uuid.uuid4())\ndef handler(event, context):\n    time.sleep({wait})\n    return {answer}\n"
            )
        };
        Ok(match self {
            Self::Rust => (
                "bootstrap",
                std::fs::read(bootstrap())
                    .context("reading the bootstrap: run scripts/build-examples")?,
            ),
            Self::Python => ("app.py", PYTHON_SOURCE.as_bytes().to_vec()),
            Self::Node => ("app.mjs", NODE_SOURCE.as_bytes().to_vec()),
            Self::Sleeper => (
                "app.py",
                sleeper(SLEEP_MS as f64 / 1_000.0, "event").into_bytes(),
            ),
            Self::LongSleeper => ("app.py", sleeper(LONG_SLEEP_S as f64, "OWN").into_bytes()),
        })
    }

    fn package(self) -> anyhow::Result<Vec<u8>> {
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let (name, content) = self.file()?;
        archive
            .start_file(name, SimpleFileOptions::default().unix_permissions(0o755))
            .context("writing an archive")?;
        archive.write_all(&content).context("writing an archive")?;
        Ok(archive.finish().context("writing an archive")?.into_inner())
    }
}

/// The static Rust bootstrap.
pub(crate) fn bootstrap() -> std::path::PathBuf {
    repository().join("target/examples/bootstrap")
}

/// The path that invokes a function.
pub(crate) fn invoke_path(name: &str) -> String {
    format!("/2015-03-31/functions/{name}/invocations")
}

/// Creates a function and waits until it is active.
pub(crate) async fn deploy(
    ready: &Ready,
    name: &str,
    kind: Kind,
    memory_mib: u32,
    env: &[(&str, &str)],
) -> anyhow::Result<()> {
    let variables: std::collections::BTreeMap<_, _> = env.iter().copied().collect();
    let document = serde_json::json!({
        "FunctionName": name, "Runtime": kind.runtime(), "Handler": "app.handler", "MemorySize": memory_mib, "Timeout": 90,
        "Environment": {"Variables": variables},
        "Role": "arn:aws:iam::000000000000:role/bench", "Code": {"ZipFile": STANDARD.encode(kind.package()?)},
    });
    let body = serde_json::to_vec(&document).context("encoding a document")?;
    let mut connection = Connection::open(&ready.endpoint).await?;
    let answer = connection
        .send(&signed(ready, "POST", "/2015-03-31/functions", &body)?)
        .await?;
    ensure!(
        answer.status == 201,
        "creating {name}: {}",
        String::from_utf8_lossy(&answer.body)
    );
    let get = signed(
        ready,
        "GET",
        &format!("/2015-03-31/functions/{name}/configuration"),
        b"",
    )?;
    super::load::until("the function is active", || async {
        let mut connection = Connection::open(&ready.endpoint).await?;
        let document: serde_json::Value =
            serde_json::from_slice(&connection.send(&get).await?.body)
                .context("reading a document")?;
        ensure!(document["State"] != "Failed", "{name}: {document}");
        Ok(document["State"] == "Active")
    })
    .await
}
