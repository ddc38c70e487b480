//! Debian packages for runtime packs, by the host's apt and dpkg, and the running of programs. What is built of them is
//! in [`super::install`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::process::Command;

use super::install::{InstallError, MERGED, Workshop, disk, write};

/// Downloads packages and all they depend on, as if nothing were installed.
pub(super) async fn download(
    work: &Workshop,
    purpose: &str,
    packages: &[String],
) -> Result<Vec<PathBuf>, InstallError> {
    let dir = work.dir.join(purpose);
    let archives = dir.join("archives");
    let partial = archives.join("partial");
    fs::create_dir_all(&partial).map_err(disk(&partial))?;
    let status = dir.join("status");
    write(&status, b"")?;
    let mut command = apt_get(&status, &archives);
    command
        .args([
            "install",
            "--download-only",
            "--yes",
            "--no-install-recommends",
        ])
        .args(packages);
    if run(&mut command, "downloading packages", ADVICE)
        .await
        .is_err()
    {
        // The lists may be missing or old; one more try with new ones, whose error then counts.
        let mut update = apt_get(&status, &archives);
        update.arg("update");
        run(&mut update, "updating the package lists", ADVICE).await?;
        run(&mut command, "downloading packages", ADVICE).await?;
    }
    archives_in(&archives)
}

fn archives_in(dir: &Path) -> Result<Vec<PathBuf>, InstallError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(disk(dir))? {
        let path = entry.map_err(disk(dir))?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// What to do where there is no apt.
pub(super) const ADVICE: &str = "runtime packs are built from Debian packages; run this on Debian 12 as root, \
     or copy a pack built elsewhere into the runtimes directory";

fn apt_get(status: &Path, archives: &Path) -> Command {
    let mut command = Command::new("apt-get");
    command
        .stdout(Stdio::piped())
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
        .arg("-o")
        .arg(format!("Dir::State::status={}", status.display()))
        .arg("-o")
        .arg(format!("Dir::Cache::archives={}", archives.display()))
        // Caches of the package lists hold the status as well; the host's own are left alone.
        .args([
            "-o",
            "Dir::Cache::pkgcache=",
            "-o",
            "Dir::Cache::srcpkgcache=",
        ])
        // The user `_apt` may not enter the directory, and the lists' lock is not ours to hold for long.
        .args(["-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1"])
        .args(["-o", "Acquire::Retries=3"]);
    command
}

/// `dpkg-deb --extract` would replace the links of the merged `/usr` by directories; tar can be told not to.
pub(super) async fn extract(archive: &Path, root: &Path) -> Result<(), InstallError> {
    let step = format!("unpacking {}", archive.display());
    let mut unwrap = Command::new("dpkg-deb");
    unwrap.arg("--fsys-tarfile").arg(archive);
    let content = archive.with_extension("tar");
    let unwrapped = run(unwrap.stdout(Stdio::piped()), &step, ADVICE).await?;
    write(&content, &unwrapped.stdout)?;
    let mut unpack = Command::new("tar");
    unpack
        .args([
            "--extract",
            "--preserve-permissions",
            "--keep-directory-symlink",
            "--file",
        ])
        .arg(&content)
        .arg("--directory")
        .arg(root);
    run(&mut unpack, &step, ADVICE).await?;
    fs::remove_file(&content).map_err(disk(&content))?;
    keep_merged(root)
}

/// A root whose `/lib64` is no link does not start.
pub(super) fn keep_merged(root: &Path) -> Result<(), InstallError> {
    for name in MERGED {
        let path = root.join(name);
        let meta = fs::symlink_metadata(&path).map_err(disk(&path))?;
        if !meta.is_symlink() {
            return Err(InstallError::Step {
                step: format!("unpacking into {}", root.display()),
                output: format!("/{name} became a directory"),
            });
        }
    }
    Ok(())
}

/// Runs a program to its end; its standard output is the caller's to direct.
pub(super) async fn run(
    command: &mut Command,
    step: &str,
    advice: &'static str,
) -> Result<Output, InstallError> {
    let program = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let output = output.map_err(|source| InstallError::NoProgram {
        program,
        advice,
        source,
    })?;
    if output.status.success() {
        return Ok(output);
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    Err(InstallError::Step {
        step: step.to_owned(),
        output: lines[lines.len().saturating_sub(12)..].join("\n"),
    })
}
