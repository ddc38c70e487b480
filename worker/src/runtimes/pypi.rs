//! Packages from PyPI, by an interpreter of the recipe's own and pip as Debian has it. What pip is configured with on the
//! host (a mirror, a proxy, certificates) holds here too.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::command::{fetch, run};
use super::debian::{Apt, extract};
use super::inside;
use super::install::{InstallError, Workshop, disk, write};
use super::recipe::{Pypi, Tree};
use super::root::make_skeleton;

const ADVICE: &str = "the recipe's interpreter does not start on this host";

/// An interpreter of `root` on the host: with the root's own libraries, whatever the host has.
fn python(root: &Path, program: &str) -> Command {
    let libraries = [
        "usr/lib/x86_64-linux-gnu",
        "usr/lib/aarch64-linux-gnu",
        "usr/lib",
    ]
    .map(|dir| root.join(dir).display().to_string())
    .join(":");
    let loader = ["lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1"]
        .iter()
        .map(|path| root.join(path))
        .find(|path| path.exists());
    let program = root.join(program);
    let mut command = match loader {
        Some(loader) => {
            let mut command = Command::new(loader);
            command.arg("--library-path").arg(libraries).arg(program);
            command
        }
        None => Command::new(program),
    };
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("PYTHONHOME", root.join("usr"))
        .env_remove("PYTHONPATH")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Installs the requirements, whose digests must all match.
pub(super) async fn install(work: &Workshop, apt: &Apt, pypi: &Pypi) -> Result<(), InstallError> {
    let (tree, target) = match pypi.tree {
        Tree::Root => (work.root(), work.root().join(&pypi.target)),
        Tree::Tools => (work.tools(), work.work().join(&pypi.target)),
    };
    let pip = work.dir.join("pip");
    make_skeleton(&pip)?;
    for archive in apt
        .download(std::slice::from_ref(&pypi.pip_package))
        .await?
    {
        if archive.title.starts_with(&pypi.pip_package) {
            extract(&archive.path, &pip, &work.dir).await?;
        }
    }
    let wheels = pip.join("usr/share/python-wheels");
    let wheel = fs::read_dir(&wheels)
        .map_err(disk(&wheels))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("pip-"))
        });
    let Some(wheel) = wheel else {
        return Err(InstallError::Step {
            step: "looking for pip".to_owned(),
            output: format!("{} holds no pip wheel", pypi.pip_package),
        });
    };
    let requirements = work.dir.join("requirements.txt");
    write(&requirements, pypi.requirements.join("\n").as_bytes())?;
    let mut command = python(&tree, &pypi.python);
    command
        .arg(wheel.join("pip"))
        .args([
            "install",
            "--no-input",
            "--disable-pip-version-check",
            "--no-compile",
            "--no-deps",
        ])
        .args([
            "--require-hashes",
            "--only-binary",
            ":all:",
            "--no-cache-dir",
            "--root-user-action",
            "ignore",
        ])
        .arg("--target")
        .arg(&target)
        .arg("--requirement")
        .arg(&requirements);
    fetch(&mut command, "PyPI", &names(&pypi.requirements), ADVICE).await?;
    Ok(())
}

/// The requirements without their digests.
pub(super) fn names(requirements: &[String]) -> String {
    let name = |text: &String| {
        text.split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    requirements.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// Without compiled files a cold start compiles 10 ms of modules; checked by hash they would be read twice.
pub(super) async fn compile(work: &Workshop, pypi: &Pypi) -> Result<(), InstallError> {
    let mut command = inside::command(work, Tree::Root, None);
    command
        .arg(format!("/{}", pypi.python))
        .args([
            "-m",
            "compileall",
            "-q",
            "-j",
            "0",
            "--invalidation-mode",
            "unchecked-hash",
        ])
        // Tests of the library hold files that are not meant to compile.
        .args(["-x", r"/(test|lib2to3/tests)/"])
        .arg(format!("/{}", pypi.target))
        .arg("/usr/lib");
    run(&mut command, "compiling", inside::ADVICE).await?;
    Ok(())
}
