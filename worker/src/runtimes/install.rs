//! Builds runtime packs from recipes: Debian packages with their dependencies, PyPI packages, files of the recipe's own.
//!
//! The pack is built beside its place and renamed into it, so that there is a whole one or none. No package's scripts
//! are run: packages are only unpacked.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::debian::{ADVICE as APT_ADVICE, download, extract, run};
use super::recipe::{self, Pypi, Recipe, UnknownRuntime};
use super::{MANIFEST, read_manifest};

/// Directories a root must have, as a sandbox's root is read-only and cannot grow any.
const DIRECTORIES: [&str; 14] = [
    "dev",
    "etc",
    "home",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "usr",
    "var/task",
    "var/runtime",
];

/// `/usr` is merged in Debian 12, and the links are made by its installer, not by a package.
pub(super) const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// What a root can do without: it is never changed, and nobody reads manuals in it.
const USELESS: [&str; 5] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/lintian",
];

/// Users of a sandbox.
const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/bash\nsbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nsbx_group:x:990:\n";

/// Why a runtime was not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// No recipe.
    #[error(transparent)]
    Unknown(#[from] UnknownRuntime),
    /// A program this needs is not there.
    #[error("cannot run {program}: {advice}")]
    NoProgram {
        /// Which.
        program: String,
        /// What to do.
        advice: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("{step} failed: {output}")]
    Step {
        /// What was being done.
        step: String,
        /// The last lines of what it printed.
        output: String,
    },
    /// The disk.
    #[error("cannot write {path}")]
    Disk {
        /// What was being written.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    /// It was built.
    Built,
    /// It was there already, from the same recipe.
    Present,
}

pub(super) fn disk(path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::Disk { path, source }
}

/// Builds the pack of runtime `name` in `runtimes_dir`, unless it is there. `progress` gets a line for each step.
///
/// # Errors
/// Why it could not; a pack that was there before still is.
pub async fn install(
    name: &str,
    runtimes_dir: &Path,
    mut progress: impl FnMut(&str) + Send,
) -> Result<Installed, InstallError> {
    let recipe = recipe::find(name)?;
    let target = runtimes_dir.join(name);
    // A damaged pack is built anew.
    let present = read_manifest(&target).ok().flatten();
    if present.is_some_and(|manifest| manifest == recipe.manifest()) {
        progress(&format!("{name} is installed already"));
        return Ok(Installed::Present);
    }
    fs::create_dir_all(runtimes_dir).map_err(disk(runtimes_dir))?;
    let work = Workshop::open(runtimes_dir, name)?;
    build(&recipe, &work, &mut progress).await?;
    progress(&format!("{name}: putting it in place"));
    work.finish(&recipe, &target)?;
    Ok(Installed::Built)
}

async fn build(
    recipe: &Recipe,
    work: &Workshop,
    progress: &mut (impl FnMut(&str) + Send),
) -> Result<(), InstallError> {
    let name = &recipe.name;
    make_skeleton(&work.root())?;
    progress(&format!(
        "{name}: downloading {} Debian packages and what they need",
        recipe.packages.len()
    ));
    let archives = download(work, "packages", &recipe.packages).await?;
    progress(&format!("{name}: unpacking {} packages", archives.len()));
    for archive in &archives {
        extract(archive, &work.root()).await?;
    }
    if let Some(pypi) = &recipe.pypi {
        progress(&format!(
            "{name}: installing {} from PyPI",
            pypi.requirements.join(", ")
        ));
        install_pypi(work, pypi).await?;
    }
    for file in &recipe.file {
        write(&work.root().join(&file.path), file.content.as_bytes())?;
    }
    if let Some(pypi) = &recipe.pypi {
        progress(&format!("{name}: compiling"));
        compile(work, pypi).await?;
    }
    finish_root(&work.root())
}

/// Where a pack is built; removed when dropped.
pub(super) struct Workshop {
    pub(super) dir: PathBuf,
}

impl Workshop {
    fn open(runtimes_dir: &Path, name: &str) -> Result<Self, InstallError> {
        // One for each process, so that two installers do not disturb each other.
        let dir = runtimes_dir.join(format!(".{name}.{}", std::process::id()));
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(disk(&dir))?;
        }
        fs::create_dir_all(dir.join("pack/root")).map_err(disk(&dir))?;
        Ok(Self { dir })
    }

    fn root(&self) -> PathBuf {
        self.dir.join("pack/root")
    }

    fn finish(&self, recipe: &Recipe, target: &Path) -> Result<(), InstallError> {
        let pack = self.dir.join("pack");
        let manifest =
            toml::to_string(&recipe.manifest()).expect("a manifest is strings, lists and a table");
        write(&pack.join(MANIFEST), manifest.as_bytes())?;
        crate::code::unpack::sync_tree(&pack).map_err(disk(&pack))?;
        if target.exists() {
            // Sandboxes that run keep the old tree: it is removed by name only.
            let old = self.dir.join("old");
            fs::rename(target, &old).map_err(disk(target))?;
        }
        fs::rename(&pack, target).map_err(disk(target))
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What is left behind is removed by the next install of this process' number, or by hand.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), InstallError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(disk(parent))?;
    }
    fs::write(path, content).map_err(disk(path))
}

fn make_skeleton(root: &Path) -> Result<(), InstallError> {
    for dir in DIRECTORIES {
        let path = root.join(dir);
        fs::create_dir_all(&path).map_err(disk(&path))?;
    }
    for name in MERGED {
        let (link, target) = (root.join(name), format!("usr/{name}"));
        let real = root.join(&target);
        fs::create_dir_all(&real).map_err(disk(&real))?;
        symlink(&target, &link).map_err(disk(&link))?;
    }
    Ok(())
}

/// What no package brings: users, names, the bundle of certificates.
fn finish_root(root: &Path) -> Result<(), InstallError> {
    for (path, content) in [
        ("etc/passwd", PASSWD),
        ("etc/group", GROUP),
        ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
        ("etc/nsswitch.conf", "hosts: files dns\n"),
        ("etc/hostname", "lambda\n"),
    ] {
        write(&root.join(path), content.as_bytes())?;
    }
    // A mount of the host's own needs something to be mounted on.
    write(&root.join("etc/resolv.conf"), b"")?;
    bundle_certificates(root)?;
    for useless in USELESS {
        let path = root.join(useless);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(disk(&path))?;
        }
    }
    Ok(())
}

/// As `update-ca-certificates` would, whose script is not run.
fn bundle_certificates(root: &Path) -> Result<(), InstallError> {
    let dir = root.join("usr/share/ca-certificates/mozilla");
    let Ok(entries) = fs::read_dir(&dir) else {
        return Ok(());
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut bundle = Vec::new();
    for path in paths {
        bundle.extend(fs::read(&path).map_err(disk(&path))?);
        if bundle.last() != Some(&b'\n') {
            bundle.push(b'\n');
        }
    }
    write(&root.join("etc/ssl/certs/ca-certificates.crt"), &bundle)?;
    // Where Debian's OpenSSL looks when nobody tells it another place.
    let link = root.join("usr/lib/ssl/cert.pem");
    if fs::symlink_metadata(&link).is_err() {
        let parent = root.join("usr/lib/ssl");
        fs::create_dir_all(&parent).map_err(disk(&parent))?;
        symlink("/etc/ssl/certs/ca-certificates.crt", &link).map_err(disk(&link))?;
    }
    Ok(())
}

/// The pack's interpreter on the host: with the pack's own libraries, whatever the host has.
fn python(work: &Workshop, pypi: &Pypi) -> Command {
    let root = work.root();
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
    let program = root.join(&pypi.python);
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
        .env("PYTHONHOME", root.join("usr"))
        .env_remove("PYTHONPATH")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

async fn install_pypi(work: &Workshop, pypi: &Pypi) -> Result<(), InstallError> {
    let tools = work.dir.join("tools");
    fs::create_dir_all(&tools).map_err(disk(&tools))?;
    for archive in download(work, "pip", std::slice::from_ref(&pypi.pip_package)).await? {
        let is_pip = archive
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(&pypi.pip_package));
        if is_pip {
            let mut command = Command::new("dpkg-deb");
            command.arg("--extract").arg(&archive).arg(&tools);
            run(&mut command, "unpacking pip", APT_ADVICE).await?;
        }
    }
    let wheels = tools.join("usr/share/python-wheels");
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
    let target = work.root().join(&pypi.target);
    let mut command = python(work, pypi);
    command
        .arg(wheel.join("pip"))
        .args([
            "install",
            "--no-input",
            "--disable-pip-version-check",
            "--no-compile",
        ])
        .args(["--only-binary", ":all:", "--no-cache-dir", "--target"])
        .arg(&target)
        .args(&pypi.requirements);
    let step = format!("installing {}", pypi.requirements.join(", "));
    run(
        &mut command,
        &step,
        "the pack's interpreter does not start on this host",
    )
    .await?;
    Ok(())
}

/// Without compiled files a cold start compiles 10 ms of modules; checked by hash they would be read twice.
async fn compile(work: &Workshop, pypi: &Pypi) -> Result<(), InstallError> {
    let root = work.root();
    let mut command = python(work, pypi);
    command
        .args([
            "-m",
            "compileall",
            "-q",
            "-j",
            "0",
            "--invalidation-mode",
            "unchecked-hash",
        ])
        // Paths in tracebacks are those of the sandbox.
        .arg("-s")
        .arg(&root)
        .args(["-p", "/"])
        // Tests of the library hold files that are not meant to compile.
        .args(["-x", r"/(test|lib2to3/tests)/"])
        .arg(root.join(&pypi.target))
        .arg(root.join("usr/lib"));
    run(
        &mut command,
        "compiling",
        "the pack's interpreter does not start on this host",
    )
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_is_missing_or_fails_is_told_with_what_to_do() {
        let mut missing = Command::new("/nonexistent/apt-get");
        let error = run(&mut missing, "x", APT_ADVICE).await.unwrap_err();
        assert!(error.to_string().contains("Debian 12"), "{error}");
        let mut failing = Command::new("sh");
        failing.args(["-c", "echo why >&2; exit 3"]);
        let error = run(&mut failing, "asking", "").await.unwrap_err();
        assert_eq!(error.to_string(), "asking failed: why");
    }

    #[tokio::test]
    async fn a_pack_of_the_same_recipe_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = recipe::find("provided.al2").unwrap().manifest();
        write(
            &dir.path().join("provided.al2").join(MANIFEST),
            toml::to_string(&manifest).unwrap().as_bytes(),
        )
        .unwrap();
        let mut lines = Vec::new();
        let done = install("provided.al2", dir.path(), |line| {
            lines.push(line.to_owned())
        })
        .await;
        assert_eq!(done.unwrap(), Installed::Present);
        assert_eq!(lines, ["provided.al2 is installed already"]);
        assert!(install("none", dir.path(), |_| {}).await.is_err());
    }

    #[test]
    fn a_root_has_what_a_sandbox_needs() {
        let dir = tempfile::tempdir().unwrap();
        make_skeleton(dir.path()).unwrap();
        write(
            &dir.path().join("usr/share/ca-certificates/mozilla/b.crt"),
            b"B",
        )
        .unwrap();
        write(
            &dir.path().join("usr/share/ca-certificates/mozilla/a.crt"),
            b"A\n",
        )
        .unwrap();
        finish_root(dir.path()).unwrap();
        for path in [
            "proc",
            "dev",
            "tmp",
            "var/task",
            "opt",
            "etc/passwd",
            "lib64/../lib",
        ] {
            assert!(dir.path().join(path).exists(), "{path}");
        }
        super::super::debian::keep_merged(dir.path()).unwrap();
        let bundle = fs::read(dir.path().join("etc/ssl/certs/ca-certificates.crt")).unwrap();
        assert_eq!(bundle, b"A\nB\n");
    }
}
