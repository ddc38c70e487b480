//! A pack as one file, for machines that reach no package registry.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::command::run;
use super::install::{InstallError, Installer, Workshop, disk};
use super::{installed, read_manifest};

const ADVICE: &str = "tar and gzip are needed";

fn failed(step: &str, output: impl Into<String>) -> InstallError {
    InstallError::Step {
        step: step.to_owned(),
        output: output.into(),
    }
}

/// Writes the pack of a runtime into a compressed archive. The file is whole or not there.
///
/// # Errors
/// When there is no such pack, or no room.
pub async fn export(runtimes_dir: &Path, name: &str, file: &Path) -> Result<(), InstallError> {
    let step = format!("exporting {name}");
    if !installed(runtimes_dir).iter().any(|n| n == name) {
        return Err(failed(
            &step,
            format!("there is no such pack in {}", runtimes_dir.display()),
        ));
    }
    let partial = file.with_added_extension("partial");
    let mut command = Command::new("tar");
    command
        .stderr(Stdio::piped())
        .args([
            "--create",
            "--gzip",
            "--numeric-owner",
            "--sort=name",
            "--file",
        ])
        .arg(&partial)
        .arg("--directory")
        .arg(runtimes_dir.join(name))
        .arg(".");
    run(&mut command, &step, ADVICE).await?;
    fs::rename(&partial, file).map_err(disk(file))
}

impl Installer {
    /// Puts the pack of an archive made by [`export`] in place, over one of the same name; returns the name. An archive is
    /// trusted like a program that is installed: what is in it runs as functions' runtime.
    ///
    /// # Errors
    /// When it is no pack, or cannot be unpacked.
    pub async fn import(&self, file: &Path) -> Result<String, InstallError> {
        let step = format!("importing {}", file.display());
        let work = Workshop::open(&self.dir, "import")?;
        let mut command = Command::new("tar");
        command
            .stderr(Stdio::piped())
            .args([
                "--extract",
                "--gzip",
                "--preserve-permissions",
                "--numeric-owner",
                "--same-owner",
                "--file",
            ])
            .arg(file)
            .arg("--directory")
            .arg(work.pack());
        run(&mut command, &step, ADVICE).await?;
        let manifest = read_manifest(&work.pack()).map_err(|e| failed(&step, e.to_string()))?;
        let manifest = manifest.ok_or_else(|| failed(&step, "it holds no runtime pack"))?;
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let name = manifest.name;
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(is_plain) {
            return Err(failed(&step, format!("{name:?} is no name of a runtime")));
        }
        work.finish(&self.dir.join(&name))?;
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::install::write;

    #[tokio::test]
    async fn a_pack_goes_through_a_file_to_another_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        let manifest = "name = \"r1\"\nrecipe = \"1\"\nargv = [\"/bin/r\"]\n";
        write(
            &here.join("r1").join(crate::runtimes::MANIFEST),
            manifest.as_bytes(),
        )
        .unwrap();
        write(&here.join("r1/root/usr/bin/r"), b"#!").unwrap();
        std::os::unix::fs::symlink("usr/bin", here.join("r1/root/bin")).unwrap();
        let file = dir.path().join("r1.tar.gz");
        export(&here, "r1", &file).await.unwrap();
        assert!(export(&here, "r2", &file).await.is_err());
        let installer = Installer::open(&there, |_| {}).await.unwrap();
        for _ in 0..2 {
            assert_eq!(installer.import(&file).await.unwrap(), "r1");
        }
        assert_eq!(installed(&there), ["r1"]);
        assert_eq!(fs::read(there.join("r1/root/bin/r")).unwrap(), b"#!");
        let other = dir.path().join("other.tar.gz");
        fs::write(&other, "not an archive").unwrap();
        let error = installer.import(&other).await.unwrap_err();
        assert!(error.to_string().contains("importing"), "{error}");
        assert_eq!(installed(&there), ["r1"]);
    }
}
