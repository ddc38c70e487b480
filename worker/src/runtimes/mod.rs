//! Runtime packs: directories with a manifest and a root tree, of which a sandbox for one runtime is made. A runtime is
//! data; nothing here knows one by name. How packs are built is in [`install`], from [`recipe`]s; what a function finds
//! in its environment is in `environment`.

pub mod archive;
mod command;
mod debian;
pub(crate) mod environment;
mod fetch;
mod inside;
pub mod install;
mod pypi;
pub mod recipe;
mod rehearsal;
mod root;
mod suites;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Name of the manifest in a pack.
pub(crate) const MANIFEST: &str = "runtime.toml";

/// How a runtime is started; the pack's `runtime.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The runtime's name in the Lambda API.
    pub name: String,
    /// Digest of the recipe it was built from; a pack of another one is built anew.
    pub recipe: String,
    /// Program and arguments; `{handler}`, `{entry}` and `{memory:NN}` (that many percent of the function's memory, MiB) are
    /// filled in.
    pub argv: Vec<String>,
    /// Programs of the function of which the first that exists is `{entry}`. Empty: the runtime has its own.
    #[serde(default)]
    pub entry: Vec<String>,
    /// The root tree, relative to the pack. Default `root`.
    #[serde(default = "default_root")]
    pub root: PathBuf,
    /// Where the function's code is. Default `/var/task`.
    #[serde(default = "default_code_target")]
    pub code_target: PathBuf,
    /// Added to the environment that all runtimes have.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// A program that waits to become a function's, if the runtime has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem: Option<Stem>,
    /// A program that makes byte code of `/var/task` and `/opt`, and says it on standard output: a line of length and path, then
    /// the bytes, for each file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile: Option<Vec<String>>,
}

/// A stem cell: a program that loads what all functions of the runtime need, says so by a byte on descriptor 3, reads there
/// who it is (`worker/src/sandbox/native/held.rs` has the format), and goes on as the program of [`Manifest::argv`] would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stem {
    /// Program and arguments; `{memory:NN}` is filled in, and stems are kept for each size that is asked for.
    pub argv: Vec<String>,
    /// Memory of one that waits, rounded up.
    pub memory_mib: u64,
    /// Variables that are read before the stem waits, `NAME` or `PREFIX*`: functions that set one otherwise than the pack get
    /// no stem.
    pub early: Vec<String>,
}

impl Stem {
    /// Program and arguments for functions of this memory.
    pub(crate) fn argv(&self, memory_mib: u32) -> Vec<String> {
        let fill = |arg: &String| fill_memory(arg, memory_mib);
        self.argv.iter().map(fill).collect()
    }
}

fn default_root() -> PathBuf {
    "root".into()
}

fn default_code_target() -> PathBuf {
    "/var/task".into()
}

/// A pack on disk.
#[derive(Debug)]
pub(crate) struct Pack {
    pub(crate) manifest: Manifest,
    /// Absolute path of the root tree.
    pub(crate) root: PathBuf,
    /// Of the manifest's file: a pack that is replaced has another.
    stamp: Stamp,
}

/// What tells one file of a name from the next.
type Stamp = (u64, i64, i64);

fn stamp(dir: &Path) -> Option<Stamp> {
    let meta = fs::metadata(dir.join(MANIFEST)).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec()))
}

/// Why a runtime cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// Not there.
    #[error("runtime {name} is not installed on this worker; run `hearth runtime install {name}`")]
    NotInstalled {
        /// Which.
        name: String,
    },
    /// There, and damaged.
    #[error("runtime pack {path} cannot be read: {reason}")]
    Damaged {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Names of the packs in a directory; none when it cannot be read.
#[must_use]
pub fn installed(runtimes_dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(runtimes_dir) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join(MANIFEST).is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Whether the pack of a recipe is there, and built from it as it is now.
#[must_use]
pub fn is_current(runtimes_dir: &Path, recipe: &recipe::Recipe) -> bool {
    let manifest = read_manifest(&runtimes_dir.join(&recipe.name));
    manifest.is_ok_and(|manifest| manifest.as_ref() == Some(&recipe.manifest()))
}

/// The packs of a directory.
#[derive(Debug)]
pub(crate) struct Runtimes {
    dir: PathBuf,
    packs: Mutex<HashMap<String, Arc<Pack>>>,
}

impl Runtimes {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            packs: Mutex::default(),
        }
    }

    /// Names of the packs that are there.
    pub(crate) fn installed(&self) -> Vec<String> {
        installed(&self.dir)
    }

    /// A pack; read once, and again when it was replaced. One that is installed later is found then.
    pub(crate) fn pack(&self, name: &str) -> Result<Arc<Pack>, PackError> {
        let mut packs = self.packs.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is known has a name that is none of a path's; while it is being replaced there may be no file.
        if let Some(pack) = packs.get(name)
            && stamp(&self.dir.join(name)).is_none_or(|stamp| stamp == pack.stamp)
        {
            return Ok(Arc::clone(pack));
        }
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let not_installed = || PackError::NotInstalled {
            name: name.to_owned(),
        };
        // The name comes from users and becomes a path.
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(is_plain) {
            return Err(not_installed());
        }
        let dir = self.dir.join(name);
        let stamp = stamp(&dir).ok_or_else(not_installed)?;
        let manifest = read_manifest(&dir)?.ok_or_else(not_installed)?;
        let root = dir.join(&manifest.root);
        let pack = Arc::new(Pack {
            manifest,
            root,
            stamp,
        });
        packs.insert(name.to_owned(), Arc::clone(&pack));
        Ok(pack)
    }
}

/// The manifest of a pack, none if there is no pack.
pub(crate) fn read_manifest(dir: &Path) -> Result<Option<Manifest>, PackError> {
    let path = dir.join(MANIFEST);
    let damaged = |reason: String| PackError::Damaged {
        path: path.clone(),
        reason,
    };
    match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text)
            .map(Some)
            .map_err(|e| damaged(e.to_string())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(damaged(e.to_string())),
    }
}

impl Manifest {
    /// Program and arguments with everything filled in.
    pub(crate) fn fill(&self, handler: &str, entry: &str, memory_mib: u32) -> Vec<String> {
        let fill = |arg: &String| {
            let arg = fill_memory(arg, memory_mib);
            // The handler is the user's text, so it comes last.
            arg.replace("{entry}", entry).replace("{handler}", handler)
        };
        self.argv.iter().map(fill).collect()
    }
}

/// `{memory:80}` becomes 80 % of `memory_mib`.
fn fill_memory(arg: &str, memory_mib: u32) -> String {
    let Some((before, rest)) = arg.split_once("{memory:") else {
        return arg.to_owned();
    };
    let Some((percent, after)) = rest.split_once('}') else {
        return arg.to_owned();
    };
    let Ok(percent) = percent.parse::<u64>() else {
        return arg.to_owned();
    };
    let mib = u64::from(memory_mib).saturating_mul(percent) / 100;
    format!("{before}{mib}{after}")
}

impl Pack {
    /// Program and arguments for a function whose code is at `code`. `Err`: AWS's text for an entry point that is not
    /// there.
    pub(crate) fn argv(
        &self,
        handler: &str,
        code: &Path,
        memory_mib: u32,
    ) -> Result<Vec<String>, String> {
        let entry = match self.manifest.entry.as_slice() {
            [] => "",
            candidates => candidates
                .iter()
                .find(|candidate| self.exists(candidate, code))
                .ok_or_else(|| {
                    format!(
                        "Couldn't find valid bootstrap(s): [{}]",
                        candidates.join(" ")
                    )
                })?,
        };
        Ok(self.manifest.fill(handler, entry, memory_mib))
    }

    /// Whether a path of the sandbox is a file, or a link that may lead to one.
    fn exists(&self, path: &str, code: &Path) -> bool {
        let path = Path::new(path);
        let host = match path.strip_prefix(&self.manifest.code_target) {
            Ok(inner) => code.join(inner),
            Err(_) => self.root.join(path.strip_prefix("/").unwrap_or(path)),
        };
        fs::symlink_metadata(host).is_ok_and(|meta| !meta.is_dir())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(dir: &Path, manifest: &str) {
        fs::create_dir_all(dir.join("root/opt")).unwrap();
        fs::write(dir.join(MANIFEST), manifest).unwrap();
    }

    #[test]
    fn a_pack_is_found_by_name_and_never_by_path() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = "name = \"r1\"\nrecipe = \"1\"\nargv = [\"/bin/r\", \"{handler}\"]\n";
        pack(&dir.path().join("packs/r1"), manifest);
        pack(&dir.path().join("r2"), manifest);
        let runtimes = Runtimes::new(dir.path().join("packs"));
        assert_eq!(runtimes.installed(), ["r1"]);
        let r1 = runtimes.pack("r1").unwrap();
        let argv = r1.argv("app.handler", Path::new("/nowhere"), 128).unwrap();
        assert_eq!(argv, ["/bin/r", "app.handler"]);
        for name in ["", "r2", "../r2", "..", "packs/r1"] {
            let error = runtimes.pack(name).unwrap_err();
            assert!(
                error.to_string().contains("hearth runtime install"),
                "{error}"
            );
        }
        pack(&dir.path().join("packs/bad"), "name = 1");
        assert!(matches!(
            runtimes.pack("bad"),
            Err(PackError::Damaged { .. })
        ));
    }

    #[test]
    fn arguments_may_depend_on_the_functions_memory() {
        assert_eq!(fill_memory("-Xmx{memory:80}m", 1_769), "-Xmx1415m");
        for arg in ["{memory:x}", "{memory:80", "{handler}"] {
            assert_eq!(fill_memory(arg, 128), arg);
        }
    }

    #[test]
    fn the_first_entry_that_exists_is_run() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = "name = \"p\"\nrecipe = \"1\"\nargv = [\"{entry}\"]\nentry = [\"/var/task/bootstrap\", \"/opt/bootstrap\"]\n";
        pack(&dir.path().join("p"), manifest);
        let code = dir.path().join("code");
        fs::create_dir(&code).unwrap();
        let runtimes = Runtimes::new(dir.path().into());
        let p = runtimes.pack("p").unwrap();
        assert_eq!(
            p.argv("h", &code, 128).unwrap_err(),
            "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
        );
        fs::write(dir.path().join("p/root/opt/bootstrap"), "").unwrap();
        assert_eq!(p.argv("h", &code, 128).unwrap(), ["/opt/bootstrap"]);
        fs::write(code.join("bootstrap"), "").unwrap();
        assert_eq!(p.argv("h", &code, 128).unwrap(), ["/var/task/bootstrap"]);
    }
}
