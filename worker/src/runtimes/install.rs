//! Builds runtime packs from recipes: Debian packages with their dependencies, packages from PyPI, npm and Maven, files of
//! the recipe's own, programs that make the rest.
//!
//! ```text
//! recipe -> root <- packages            tools <- packages of tools
//!           root <- make's results      work <- npm, maven, pypi, files; made in tools
//!           root: finish, compile, rehearsal -> renamed into place
//! ```
//!
//! One installer works in a directory at a time. The pack is built beside its place and renamed into it, so that there is a
//! whole one or none; what an interrupted installer left is removed by the next, which goes on with its downloads. No
//! package's own scripts are run: packages are only unpacked.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use super::command::run;
use super::debian::{Apt, Archive, extract};
use super::recipe::{self, Make, Recipe, RecipeError, Tree};
use super::{MANIFEST, fetch, inside, is_current, pypi, rehearsal, root};

/// What of downloads and built parts is kept between installs.
const CACHE: &str = ".cache";

/// How often another installer is asked whether it is done.
const LOCK_RETRY: Duration = Duration::from_millis(200);

/// Why a runtime was not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// No recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
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
    /// Nothing came from a registry.
    #[error(
        "cannot get {what} from {registry}: {reason} (check the network and the settings of its client on this host)"
    )]
    Registry {
        /// Whose packages.
        registry: &'static str,
        /// Which packages.
        what: String,
        /// The client's own words.
        reason: String,
    },
    /// Something else came than the recipe says.
    #[error("{what} is not what the recipe pins: its digest is {found}, not {expected}")]
    Digest {
        /// Which package.
        what: String,
        /// The recipe's.
        expected: String,
        /// What came.
        found: String,
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

pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), InstallError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(disk(parent))?;
    }
    fs::write(path, content).map_err(disk(path))
}

/// The one installer of a directory of packs.
#[derive(Debug)]
pub struct Installer {
    pub(super) dir: PathBuf,
    /// Held until the installer is dropped.
    _lock: File,
}

impl Installer {
    /// Waits for another installer of the same directory and clears away what one that was interrupted left.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub async fn open(
        runtimes_dir: &Path,
        progress: impl Fn(&str) + Send + Sync,
    ) -> Result<Self, InstallError> {
        fs::create_dir_all(runtimes_dir).map_err(disk(runtimes_dir))?;
        let path = runtimes_dir.join(".lock");
        let lock = File::create(&path).map_err(disk(&path))?;
        let mut told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if told => {}
                Err(TryLockError::WouldBlock) => {
                    told = true;
                    let dir = runtimes_dir.display();
                    progress(&format!("waiting for another installation in {dir}"));
                }
                Err(TryLockError::Error(source)) => return Err(disk(&path)(source)),
            }
            tokio::time::sleep(LOCK_RETRY).await;
        }
        for entry in fs::read_dir(runtimes_dir)
            .map_err(disk(runtimes_dir))?
            .flatten()
        {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(Workshop::PREFIX) {
                fs::remove_dir_all(entry.path()).map_err(disk(&entry.path()))?;
            }
        }
        Ok(Self {
            dir: runtimes_dir.to_owned(),
            _lock: lock,
        })
    }

    /// Builds the pack of a runtime (or of a recipe's file), unless it is there. `progress` gets a line for each step.
    ///
    /// # Errors
    /// Why it could not; a pack that was there before still is.
    pub async fn install(
        &self,
        name: &str,
        progress: impl Fn(&str) + Send + Sync,
    ) -> Result<Installed, InstallError> {
        let recipe = recipe::find(name)?;
        let name = &recipe.name;
        let target = self.dir.join(name);
        // A damaged pack is built anew.
        if is_current(&self.dir, &recipe) {
            // Made by an earlier version of this program, it may lack a name.
            write(&target.join("root/etc/hosts"), root::HOSTS.as_bytes())?;
            progress(&format!("{name} is installed already"));
            return Ok(Installed::Present);
        }
        let work = Workshop::open(&self.dir, name)?;
        let build = Build {
            recipe: &recipe,
            work: &work,
            cache: self.dir.join(CACHE),
            progress: &|step| progress(&format!("{name}: {step}")),
        };
        build.run().await?;
        progress(&format!("{name}: putting it in place"));
        let manifest =
            toml::to_string(&recipe.manifest()).expect("a manifest is strings, lists and a table");
        write(&work.pack().join(MANIFEST), manifest.as_bytes())?;
        work.finish(&target)?;
        Ok(Installed::Built)
    }

    /// Forgets the downloads, which are of use only to an installation that is to go on. Parts that were built stay: they
    /// are small and dear.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub fn forget_downloads(&self) -> Result<(), InstallError> {
        let cache = self.dir.join(CACHE);
        let Ok(entries) = fs::read_dir(&cache) else {
            return Ok(());
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.file_name().is_some_and(|name| name != KEPT) {
                fs::remove_dir_all(&path).map_err(disk(&path))?;
            }
        }
        Ok(())
    }
}

/// Directory of built parts in the cache.
const KEPT: &str = "kept";

/// Where a pack is built; removed when dropped.
pub(super) struct Workshop {
    pub(super) dir: PathBuf,
}

impl Workshop {
    const PREFIX: &str = ".building-";

    pub(super) fn open(runtimes_dir: &Path, name: &str) -> Result<Self, InstallError> {
        let dir = runtimes_dir.join(format!("{}{name}", Self::PREFIX));
        for part in ["pack/root", "work", "tools"] {
            let path = dir.join(part);
            fs::create_dir_all(&path).map_err(disk(&path))?;
        }
        Ok(Self { dir })
    }

    pub(super) fn pack(&self) -> PathBuf {
        self.dir.join("pack")
    }

    /// The tree that becomes the pack's root.
    pub(super) fn root(&self) -> PathBuf {
        self.dir.join("pack/root")
    }

    /// The tree of the tools.
    pub(super) fn tools(&self) -> PathBuf {
        self.dir.join("tools")
    }

    /// Downloads and what is made of them.
    pub(super) fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// Puts the pack in place of whatever was there.
    pub(super) fn finish(&self, target: &Path) -> Result<(), InstallError> {
        let pack = self.pack();
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
        // What is left behind is removed by the next installer.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// One recipe being carried out.
struct Build<'a> {
    recipe: &'a Recipe,
    work: &'a Workshop,
    cache: PathBuf,
    progress: &'a (dyn Fn(&str) + Send + Sync),
}

impl Build<'_> {
    async fn run(&self) -> Result<(), InstallError> {
        let (recipe, work) = (self.recipe, self.work);
        let apt = Apt::open(&self.cache, &recipe.suite).await?;
        let archives = self.packages(&apt, &recipe.packages, &work.root()).await?;
        let contents: String = archives.iter().map(|a| format!("{}\n", a.title)).collect();
        write(&work.pack().join("packages.txt"), contents.as_bytes())?;
        self.fetch(&apt).await?;
        self.make_all(&apt).await?;
        self.place().await?;
        root::slim(&work.root())?;
        for step in &recipe.finish {
            (self.progress)(&step.step);
            inside::script(work, Tree::Root, step).await?;
        }
        if let Some(pypi) = recipe.pypi.as_ref().filter(|pypi| pypi.tree == Tree::Root) {
            (self.progress)("compiling");
            pypi::compile(work, pypi).await?;
        }
        if let Some(plan) = &recipe.rehearsal {
            (self.progress)("starting it once");
            rehearsal::run(work, recipe, plan).await?;
        }
        Ok(())
    }

    /// Packages and what they need, in a tree.
    async fn packages(
        &self,
        apt: &Apt,
        packages: &[String],
        tree: &Path,
    ) -> Result<Vec<Archive>, InstallError> {
        let suite = &self.recipe.suite;
        (self.progress)(&format!(
            "downloading {} packages of Debian {suite} and what they need",
            packages.len()
        ));
        let archives = apt.download(packages).await?;
        (self.progress)(&format!("unpacking {} packages", archives.len()));
        root::make_skeleton(tree)?;
        for archive in &archives {
            extract(&archive.path, tree, &self.work.dir).await?;
        }
        root::settle(tree)?;
        Ok(archives)
    }

    /// Everything that is not from Debian, but what only tools can fetch.
    async fn fetch(&self, apt: &Apt) -> Result<(), InstallError> {
        let (recipe, work) = (self.recipe, self.work);
        if !recipe.npm.is_empty() {
            (self.progress)(&format!(
                "downloading {} packages from npm",
                recipe.npm.len()
            ));
            fetch::npm(&recipe.npm, &work.work()).await?;
        }
        if !recipe.maven.is_empty() {
            (self.progress)(&format!(
                "downloading {} jars with Maven",
                recipe.maven.len()
            ));
            fetch::maven(&recipe.maven, &work.work()).await?;
        }
        for (path, content) in &recipe.work {
            write(&work.work().join(path), content.as_bytes())?;
        }
        if let Some(pypi) = recipe.pypi.as_ref().filter(|pypi| pypi.tree == Tree::Root) {
            self.pypi(apt, pypi).await?;
        }
        Ok(())
    }

    async fn pypi(&self, apt: &Apt, from: &recipe::Pypi) -> Result<(), InstallError> {
        (self.progress)(&format!(
            "installing {} from PyPI",
            pypi::names(&from.requirements)
        ));
        pypi::install(self.work, apt, from).await
    }

    /// What only programs can make, unless all of it was kept.
    async fn make_all(&self, apt: &Apt) -> Result<(), InstallError> {
        let (recipe, work) = (self.recipe, self.work);
        let from_pypi = recipe.pypi.as_ref().filter(|pypi| pypi.tree == Tree::Tools);
        let mut missing = Vec::new();
        for make in &recipe.make {
            let kept = self.kept(make);
            match kept.filter(|(path, _)| path.is_dir()) {
                Some((path, dir)) => copy(&path, &work.work().join(dir)).await?,
                None => missing.push(make),
            }
        }
        if missing.is_empty() && from_pypi.is_none() {
            return Ok(());
        }
        self.packages(apt, &recipe.tools, &work.tools()).await?;
        if let Some(pypi) = from_pypi {
            self.pypi(apt, pypi).await?;
        }
        for make in missing {
            (self.progress)(&make.step);
            inside::script(work, Tree::Tools, make).await?;
            if let Some((path, dir)) = self.kept(make) {
                // Renamed, so that there is a whole one or none.
                let built = work.work().join(dir);
                let copied = work.dir.join("kept");
                copy(&built, &copied).await?;
                fs::create_dir_all(self.cache.join(KEPT)).map_err(disk(&self.cache))?;
                fs::rename(&copied, &path).map_err(disk(&path))?;
            }
        }
        Ok(())
    }

    /// Where the result of a program is kept and its name in the working directory. The name says all it is made of.
    fn kept(&self, make: &Make) -> Option<(PathBuf, String)> {
        let recipe = self.recipe;
        let keep = make.keep.as_ref()?;
        let mut digest = Sha256::new()
            .chain_update(&make.script)
            .chain_update(&recipe.suite)
            .chain_update(recipe.tools.join(" "));
        for name in &keep.of {
            let pin = recipe
                .npm
                .get(name)
                .map_or("", |package| &package.integrity);
            digest.update(format!(" {name} {pin}"));
        }
        let path = self.cache.join(KEPT).join(hex::encode(digest.finalize()));
        Some((path, keep.dir.clone()))
    }

    /// The recipe's files, copies and links.
    async fn place(&self) -> Result<(), InstallError> {
        let (recipe, root) = (self.recipe, self.work.root());
        for (to, from) in &recipe.copy {
            copy(&self.work.work().join(from), &root.join(to)).await?;
        }
        for (path, content) in &recipe.file {
            write(&root.join(path), content.as_bytes())?;
        }
        for (path, target) in &recipe.link {
            let link = root.join(path);
            if let Some(parent) = link.parent() {
                fs::create_dir_all(parent).map_err(disk(parent))?;
            }
            std::os::unix::fs::symlink(target, &link).map_err(disk(&link))?;
        }
        Ok(())
    }
}

/// A file or a tree to a place where nothing is yet.
async fn copy(from: &Path, to: &Path) -> Result<(), InstallError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(disk(parent))?;
    }
    let mut command = Command::new("cp");
    command
        .stderr(Stdio::piped())
        .args([
            "--recursive",
            "--preserve=mode,timestamps,links",
            "--no-target-directory",
        ])
        .args([from, to]);
    run(
        &mut command,
        &format!("copying {}", from.display()),
        "coreutils is needed",
    )
    .await?;
    Ok(())
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
