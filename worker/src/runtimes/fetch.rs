//! Packages from npm and Maven's repositories, by the host's own clients: their mirrors, proxies and credentials hold here
//! too. What they bring is checked against the digests of the recipe.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256, Sha512};
use tokio::process::Command;

use super::command::{fetch, run};
use super::install::{InstallError, disk, write};
use super::recipe::{MavenArtifact, NpmPackage};

const NPM_ADVICE: &str = "this runtime has packages from npm, and is built with npm's client; install it (Debian: npm) and try again";
const MAVEN_ADVICE: &str = "this runtime has packages from Maven's repositories, and is built with Maven; install it (Debian: maven) and try again";

fn mismatch(what: &str, expected: &str, found: &str) -> InstallError {
    InstallError::Digest {
        what: what.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}

/// Unpacks each package into `work/npm/NAME`. No script of theirs is run.
pub(super) async fn npm(
    packages: &BTreeMap<String, NpmPackage>,
    work: &Path,
) -> Result<(), InstallError> {
    for (name, pin) in packages {
        let downloads = work.join("npm-downloads").join(name);
        fs::create_dir_all(&downloads).map_err(disk(&downloads))?;
        let spec = format!("{name}@{}", pin.version);
        let mut command = Command::new("npm");
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .current_dir(&downloads)
            .args(["pack", "--ignore-scripts", "--fetch-retries=1", &spec]);
        fetch(&mut command, "npm", &spec, NPM_ADVICE).await?;
        let archive = only_file(&downloads)?;
        let content = fs::read(&archive).map_err(disk(&archive))?;
        let found = format!("sha512-{}", STANDARD.encode(Sha512::digest(&content)));
        if found != pin.integrity {
            return Err(mismatch(&spec, &pin.integrity, &found));
        }
        let target = work.join("npm").join(name);
        fs::create_dir_all(&target).map_err(disk(&target))?;
        let mut unpack = Command::new("tar");
        unpack
            .args([
                "--extract",
                "--no-same-owner",
                "--strip-components=1",
                "--file",
            ])
            .arg(&archive)
            .arg("--directory")
            .arg(&target);
        run(&mut unpack, &format!("unpacking {spec}"), NPM_ADVICE).await?;
        fs::remove_file(&archive).map_err(disk(&archive))?;
    }
    Ok(())
}

fn only_file(dir: &Path) -> Result<PathBuf, InstallError> {
    let mut entries = fs::read_dir(dir).map_err(disk(dir))?.flatten();
    entries
        .next()
        .map(|entry| entry.path())
        .ok_or_else(|| InstallError::Step {
            step: "downloading from npm".to_owned(),
            output: "npm left no archive".to_owned(),
        })
}

/// Puts each artifact into `work/maven` as `ARTIFACT-VERSION.jar`.
pub(super) async fn maven(
    artifacts: &BTreeMap<String, MavenArtifact>,
    work: &Path,
) -> Result<(), InstallError> {
    let target = work.join("maven");
    let project = work.join("maven-project");
    write(&project.join("pom.xml"), pom(artifacts).as_bytes())?;
    let mut command = Command::new("mvn");
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .current_dir(&project)
        .args([
            "--batch-mode",
            "--quiet",
            "dependency:copy-dependencies",
            "-DexcludeTransitive=true",
        ])
        .arg(format!("-DoutputDirectory={}", target.display()));
    let what = artifacts.keys().cloned().collect::<Vec<_>>().join(", ");
    fetch(&mut command, "Maven's repositories", &what, MAVEN_ADVICE).await?;
    for (name, pin) in artifacts {
        let artifact = name.split(':').next_back().unwrap_or(name);
        let jar = target.join(format!("{artifact}-{}.jar", pin.version));
        let found = hex::encode(Sha256::digest(fs::read(&jar).map_err(disk(&jar))?));
        if found != pin.sha256 {
            return Err(mismatch(
                &format!("{name}:{}", pin.version),
                &pin.sha256,
                &found,
            ));
        }
    }
    Ok(())
}

fn pom(artifacts: &BTreeMap<String, MavenArtifact>) -> String {
    let mut text = String::from(
        "<project><modelVersion>4.0.0</modelVersion><groupId>hearth</groupId><artifactId>pack</artifactId>\
         <version>1</version><packaging>pom</packaging><dependencies>\n",
    );
    for (name, pin) in artifacts {
        let (group, artifact) = name.split_once(':').unwrap_or((name, name));
        text.push_str(&format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{}</version></dependency>\n",
            pin.version
        ));
    }
    text.push_str("</dependencies></project>\n");
    text
}
