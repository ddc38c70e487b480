//! Where the botocore package is and which version it has. Reads files, runs python3 only to ask
//! for the path.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

const ASK_PYTHON: &str = "import botocore, os; print(os.path.dirname(botocore.__file__))";

/// The package's directory: the argument, $HEARTH_BOTOCORE, or what python3 imports.
pub(crate) fn find(argument: Option<PathBuf>, root: &Path) -> anyhow::Result<PathBuf> {
    if let Some(path) = argument.or_else(|| std::env::var_os("HEARTH_BOTOCORE").map(PathBuf::from))
    {
        return Ok(path);
    }
    let interpreters = [root.join(".venv/bin/python3"), PathBuf::from("python3")];
    for python in interpreters {
        let Ok(output) = Command::new(&python).args(["-c", ASK_PYTHON]).output() else {
            continue;
        };
        if output.status.success() {
            let path = String::from_utf8(output.stdout).context("python's answer")?;
            return Ok(PathBuf::from(path.trim()));
        }
    }
    bail!("no botocore found: pass --botocore, set HEARTH_BOTOCORE, or pip install botocore")
}

/// `__version__` of the package.
pub(crate) fn version(package: &Path) -> anyhow::Result<String> {
    let file = package.join("__init__.py");
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    text.lines()
        .find_map(|line| line.strip_prefix("__version__ = "))
        .map(|value| value.trim_matches(['\'', '"']).to_owned())
        .with_context(|| format!("no __version__ in {}", file.display()))
}
