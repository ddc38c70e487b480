//! Debian packages for runtime packs, by the host's apt and dpkg. What is built of them is in [`super::install`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::command::{fetch, run};
use super::install::{InstallError, disk, write};
use super::root::keep_merged;
use super::suites;

/// What to do where there is no apt.
const ADVICE: &str = "runtime packs are built from Debian packages; run this on Debian 12 as root, \
     or import a pack that was built elsewhere (`hearth runtime export` there, `import` here)";

const REGISTRY: &str = "Debian's package archive";

/// apt for one release, with a state of its own: as if nothing were installed.
pub(super) struct Apt {
    dir: PathBuf,
    /// The list of sources, when the host's own is for another release.
    sources: Option<PathBuf>,
}

/// A downloaded package.
pub(super) struct Archive {
    pub(super) path: PathBuf,
    /// `name version`.
    pub(super) title: String,
}

impl Apt {
    /// Downloads are kept in `cache`, so that an installation that was interrupted does not fetch them again.
    pub(super) async fn open(cache: &Path, suite: &str) -> Result<Self, InstallError> {
        let dir = cache.join(format!("debian-{suite}"));
        for part in ["archives/partial", "lists/partial"] {
            let path = dir.join(part);
            fs::create_dir_all(&path).map_err(disk(&path))?;
        }
        write(&dir.join("status"), b"")?;
        let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let host = suites::codename(&os_release).unwrap_or_default();
        if host == suite {
            return Ok(Self { dir, sources: None });
        }
        let mut command = Command::new("apt-get");
        command.stdout(Stdio::piped()).args([
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE)",
            "Created-By: Packages",
        ]);
        let targets = run(&mut command, "reading apt's sources", ADVICE).await?;
        let targets = String::from_utf8_lossy(&targets.stdout);
        let keyring = Path::new(suites::KEYRING)
            .exists()
            .then_some(suites::KEYRING);
        let text =
            suites::sources(&targets, host, suite, keyring).ok_or_else(|| InstallError::Step {
                step: format!("looking for a source of Debian {suite}"),
                output: format!(
                    "apt's sources have none of Debian for this host's release ({host:?})"
                ),
            })?;
        let path = dir.join("hearth.sources");
        write(&path, text.as_bytes())?;
        Ok(Self {
            dir,
            sources: Some(path),
        })
    }

    /// Downloads packages and all they depend on.
    pub(super) async fn download(&self, packages: &[String]) -> Result<Vec<Archive>, InstallError> {
        let what = packages.join(", ");
        let found = match self.resolve(packages).await {
            Ok(found) => found,
            Err(_) => {
                // The lists may be missing or old; one more try with new ones, whose error then counts.
                self.update().await?;
                self.resolve(packages).await?
            }
        };
        let mut command = self.install(packages);
        command.arg("--download-only");
        if fetch(&mut command, REGISTRY, &what, ADVICE).await.is_err() {
            self.update().await?;
            fetch(&mut command, REGISTRY, &what, ADVICE).await?;
            return self.resolve(packages).await;
        }
        Ok(found)
    }

    /// What would be installed, by apt's simulation.
    async fn resolve(&self, packages: &[String]) -> Result<Vec<Archive>, InstallError> {
        let mut command = self.install(packages);
        command.arg("--simulate");
        let output = fetch(&mut command, REGISTRY, &packages.join(", "), ADVICE).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let archives = self.dir.join("archives");
        let found = text.lines().filter_map(|line| archive(line, &archives));
        Ok(found.collect())
    }

    async fn update(&self) -> Result<(), InstallError> {
        let mut command = self.apt_get();
        // Without it, lists that cannot be fetched are a warning.
        command.args(["update", "--error-on=any"]);
        fetch(&mut command, REGISTRY, "the package lists", ADVICE).await?;
        Ok(())
    }

    fn install(&self, packages: &[String]) -> Command {
        let mut command = self.apt_get();
        command
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages);
        command
    }

    fn apt_get(&self) -> Command {
        let option = |name: &str, value: &Path| format!("{name}={}", value.display());
        let mut options = vec![
            option("Dir::State::status", &self.dir.join("status")),
            option("Dir::Cache::archives", &self.dir.join("archives")),
        ];
        if let Some(sources) = &self.sources {
            options.push(option("Dir::State::lists", &self.dir.join("lists")));
            options.push(option("Dir::Etc::sourcelist", sources));
            options.push("Dir::Etc::sourceparts=/dev/null".into());
            options.push("Acquire::Languages=none".into());
            options.push("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into());
        }
        // Caches of the package lists hold the status as well; the host's own are left alone.
        options.extend(["Dir::Cache::pkgcache=", "Dir::Cache::srcpkgcache="].map(String::from));
        // The user `_apt` may not enter the directory, and the lists' lock is not ours to hold for long.
        options.extend(["APT::Sandbox::User=root", "Debug::NoLocking=1"].map(String::from));
        options.push("Acquire::Retries=3".into());
        let mut command = Command::new("apt-get");
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C");
        for option in options {
            command.arg("-o").arg(option);
        }
        command
    }
}

/// From a line like `Inst libc6 (2.36-9+deb12u13 Debian:12.13/oldstable [amd64])`.
fn archive(line: &str, archives: &Path) -> Option<Archive> {
    let rest = line.strip_prefix("Inst ")?;
    let (name, rest) = rest.split_once(" (")?;
    // Of one that is to be replaced, the version it has comes first, in brackets.
    let name = name.split(' ').next().unwrap_or(name);
    let version = rest.split(' ').next()?;
    // What else is in brackets comes after the parenthesis.
    let arch = rest.split_once(')')?.0.rsplit_once('[')?.1;
    let arch = arch.strip_suffix(']')?;
    let file = format!("{name}_{}_{arch}.deb", version.replace(':', "%3a"));
    Some(Archive {
        path: archives.join(file),
        title: format!("{name} {version}"),
    })
}

/// `dpkg-deb --extract` would replace the links of the merged `/usr` by directories; tar can be told not to.
pub(super) async fn extract(
    archive: &Path,
    root: &Path,
    scratch: &Path,
) -> Result<(), InstallError> {
    let step = format!("unpacking {}", archive.display());
    let mut unwrap = Command::new("dpkg-deb");
    unwrap.arg("--fsys-tarfile").arg(archive);
    let content = scratch.join("package.tar");
    let file = fs::File::create(&content).map_err(disk(&content))?;
    unwrap.stdout(file).stderr(Stdio::piped());
    run(&mut unwrap, &step, ADVICE).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_from_apts_simulation() {
        let read =
            |line| archive(line, Path::new("/a")).map(|a| (a.path.display().to_string(), a.title));
        assert_eq!(
            read("Inst g++-12 (4:12.2.0-3 Debian:12.13/oldstable [amd64]) [libc6:amd64 ]"),
            Some((
                "/a/g++-12_4%3a12.2.0-3_amd64.deb".into(),
                "g++-12 4:12.2.0-3".into()
            ))
        );
        assert_eq!(
            read("Inst tzdata (2025b-0+deb12u1 Debian:12.13/oldstable, Debian:12-updates/x [all])"),
            Some((
                "/a/tzdata_2025b-0+deb12u1_all.deb".into(),
                "tzdata 2025b-0+deb12u1".into()
            ))
        );
        assert_eq!(read("Conf tzdata (2025b Debian:12 [all])"), None);
        assert_eq!(read("Reading package lists..."), None);
    }
}
