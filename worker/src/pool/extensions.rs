//! Extensions with processes of their own: which there are, what they are started with, and who listens to them. What
//! their calls mean is in [`super::sandbox`].

use std::io;
use std::path::{Path, PathBuf};

use hearth_core::extensions::{EXTENSIONS_MAX, Failure};
use hearth_node::blocking;
use tracing::warn;

use super::sandbox::Sandbox;
use crate::runtime_api::fault::Fault;
use crate::sandbox::driver::{ExtensionsSpec, StartedExtensions};

/// Where they are, below `/opt`.
const DIRECTORY: &str = "extensions";

/// "Extensions can access the function's environment variables, except for the following variables that are specific to
/// the runtime process" (AWS Lambda developer guide, Extensions API).
const RUNTIME_ONLY: [&str; 10] = [
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_XRAY_CONTEXT_MISSING",
    "AWS_XRAY_DAEMON_ADDRESS",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "_AWS_XRAY_DAEMON_ADDRESS",
    "_AWS_XRAY_DAEMON_PORT",
    "_HANDLER",
];

/// Names of the extensions that layers bring, sorted.
pub(super) async fn find(layers: PathBuf) -> Vec<String> {
    let named = layers.clone();
    let listed = blocking::run(move || list(&layers)).await;
    match listed.map_err(io::Error::other).flatten() {
        Ok(names) => names,
        Err(error) => {
            warn!(layers = %named.display(), %error, "extensions not listed");
            Vec::new()
        }
    }
}

/// Files, and links, which lead where they do inside the sandbox only.
fn list(layers: &Path) -> io::Result<Vec<String>> {
    let directory = layers.join(DIRECTORY);
    match directory.symlink_metadata() {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let mut names = Vec::new();
    for entry in directory.read_dir()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            continue;
        }
        // A name that is no text cannot be registered.
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
        // More than may be is told from what may be, and that is enough.
        if names.len() > EXTENSIONS_MAX {
            break;
        }
    }
    names.sort();
    Ok(names)
}

/// What the driver starts.
pub(super) fn specify(names: &[String], env: &[(String, String)]) -> Result<ExtensionsSpec, Fault> {
    if names.len() > EXTENSIONS_MAX {
        return Err(Fault::Extension {
            failure: Failure::LaunchError,
            text: "ErrTooManyExtensions".to_owned(),
        });
    }
    if names.is_empty() {
        return Ok(ExtensionsSpec::default());
    }
    let is_shared = |(name, _): &&(String, String)| !RUNTIME_ONLY.contains(&name.as_str());
    Ok(ExtensionsSpec {
        programs: names
            .iter()
            .map(|name| format!("/opt/{DIRECTORY}/{name}"))
            .collect(),
        env: env.iter().filter(is_shared).cloned().collect(),
    })
}

/// Listens to them until the sandbox is gone. Returns at once where there are none.
pub(super) async fn keep(sandbox: &Sandbox, started: Option<StartedExtensions>) {
    let Some(StartedExtensions { output, processes }) = started else {
        return;
    };
    let processes = sandbox.processes.get_or_init(|| processes);
    let events = async {
        while let Some(event) = processes.next().await {
            sandbox.on_process(event);
        }
    };
    tokio::join!(sandbox.log.read_extensions(output), events);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[tokio::test]
    async fn files_and_links_in_the_directory_are_extensions_and_no_link_is_followed() {
        let layers = tempfile::tempdir().unwrap();
        let root = layers.path();
        assert!(find(root.to_owned()).await.is_empty(), "no directory");
        fs::create_dir_all(root.join("extensions/lib")).unwrap();
        fs::write(root.join("extensions/b"), "").unwrap();
        symlink("/nowhere", root.join("extensions/a")).unwrap();
        assert_eq!(find(root.to_owned()).await, ["a", "b"]);
        let linked = tempfile::tempdir().unwrap();
        symlink(root.join("extensions"), linked.path().join("extensions")).unwrap();
        assert!(find(linked.path().to_owned()).await.is_empty());
    }

    #[test]
    fn they_have_the_environment_without_what_is_the_runtimes() {
        let env = |name: &str| (name.to_owned(), "x".to_owned());
        let spec = specify(
            &["e".to_owned()],
            &[env("_HANDLER"), env("MINE"), env("LAMBDA_TASK_ROOT")],
        )
        .unwrap();
        assert_eq!(spec.programs, ["/opt/extensions/e"]);
        assert_eq!(spec.env, [env("MINE")]);
        assert_eq!(specify(&[], &[env("MINE")]), Ok(ExtensionsSpec::default()));
        let many: Vec<String> = (0..11).map(|n| n.to_string()).collect();
        assert_eq!(
            specify(&many, &[]).unwrap_err().error_type(),
            "Extension.LaunchError"
        );
    }
}
