//! Recipes: what a runtime pack is built from. Data, one file each in `worker/recipes/`; a new runtime is a new file in
//! the list below, or a file anywhere that is named to `hearth runtime install`. How a recipe is carried out is in
//! [`super::install`].

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use toml::{Table, Value};

use super::{Manifest, Stem};

/// The recipes this build carries.
const RECIPES: [&str; 12] = [
    include_str!("../../recipes/dotnet8.toml"),
    include_str!("../../recipes/java17.toml"),
    include_str!("../../recipes/java21.toml"),
    include_str!("../../recipes/java25.toml"),
    include_str!("../../recipes/nodejs20.x.toml"),
    include_str!("../../recipes/nodejs22.x.toml"),
    include_str!("../../recipes/nodejs24.x.toml"),
    include_str!("../../recipes/provided.al2.toml"),
    include_str!("../../recipes/provided.al2023.toml"),
    include_str!("../../recipes/python3.11.toml"),
    include_str!("../../recipes/python3.13.toml"),
    include_str!("../../recipes/ruby3.3.toml"),
];

/// Changes when the same recipe is carried out in another way: packs built before are then built anew.
const BUILDER: &[u8] = b"2";

/// Longest chain of `extends`.
const EXTENDS_MAX: usize = 4;

/// How a pack is built.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The runtime's name.
    pub name: String,
    /// One line for people: what it is, and whose client.
    pub about: String,
    /// Digest of all the rest; set when a recipe is read.
    #[serde(skip)]
    pub digest: String,
    /// See [`Manifest::argv`].
    pub argv: Vec<String>,
    /// See [`Manifest::entry`].
    #[serde(default)]
    pub entry: Vec<String>,
    /// See [`Manifest::env`].
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// See [`Manifest::stem`].
    #[serde(default)]
    pub stem: Option<Stem>,
    /// See [`Manifest::compile`].
    #[serde(default)]
    pub compile: Option<Vec<String>>,
    /// Debian release that the packages are of, for example `bookworm`.
    pub suite: String,
    /// Debian packages of the root; their dependencies come with them.
    pub packages: Vec<String>,
    /// Debian packages of the tools' tree, in which parts of the pack are made; nothing of it gets into the pack by itself.
    #[serde(default)]
    pub tools: Vec<String>,
    /// Packages from PyPI.
    #[serde(default)]
    pub pypi: Option<Pypi>,
    /// Packages from npm by name, unpacked into the working directory as `npm/NAME`.
    #[serde(default)]
    pub npm: BTreeMap<String, NpmPackage>,
    /// Artifacts from Maven's repositories by `group:artifact`, as `maven/ARTIFACT-VERSION.jar` in the working directory.
    #[serde(default)]
    pub maven: BTreeMap<String, MavenArtifact>,
    /// Text files of the working directory.
    #[serde(default)]
    pub work: BTreeMap<String, String>,
    /// Programs that make parts of the pack, in this order.
    #[serde(default)]
    pub make: Vec<Make>,
    /// What is copied from the working directory into the root: target, then source.
    #[serde(default)]
    pub copy: BTreeMap<String, String>,
    /// Text files of the root.
    #[serde(default)]
    pub file: BTreeMap<String, String>,
    /// Symbolic links of the root: where, then to what.
    #[serde(default)]
    pub link: BTreeMap<String, String>,
    /// What is run in the finished root.
    #[serde(default)]
    pub finish: Vec<Make>,
    /// The runtime is started once, as a sandbox would.
    #[serde(default)]
    pub rehearsal: Option<Rehearsal>,
}

/// Packages from PyPI, installed by an interpreter of the pack or of its tools.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pypi {
    /// Where the interpreter is, and what it installs for.
    pub tree: Tree,
    /// Interpreter in the tree, without a leading `/`.
    pub python: String,
    /// Debian package that holds pip as a wheel; used for building alone.
    pub pip_package: String,
    /// Requirements, each pinned with `==` and the digests of its wheels; dependencies are listed like all others.
    pub requirements: Vec<String>,
    /// Directory in the root (for the tools: in the working directory), without a leading `/`.
    pub target: String,
}

/// Where something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tree {
    /// The root that becomes the pack.
    Root,
    /// The tree of the tools.
    Tools,
}

/// A package from npm; its scripts are not run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NpmPackage {
    /// Version.
    pub version: String,
    /// As the registry gives it: `sha512-` and base64.
    pub integrity: String,
}

/// A jar.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MavenArtifact {
    /// Version.
    pub version: String,
    /// Hexadecimal.
    pub sha256: String,
}

/// A script of bash, run as root in a tree with the working directory as its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Make {
    /// What it does, for people: "building the native addon".
    pub step: String,
    /// The script; it stops at the first error.
    pub script: String,
    /// What of it is kept between installs.
    #[serde(default)]
    pub keep: Option<Keep>,
}

/// A built part that recipes which say the same build once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Directory of the working directory.
    pub dir: String,
    /// Packages from npm that it is made of; of nothing else but the script and the tools.
    pub of: Vec<String>,
}

/// The runtime started once with a Runtime API that hands out `events` and then ends it: what is wrong with the pack shows
/// before a user's function does, and what a start and an invocation load can be kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rehearsal {
    /// Directory of the working directory that becomes `/var/task`.
    pub task: String,
    /// The function's handler.
    pub handler: String,
    /// Events, as JSON. Each must be answered by a response.
    pub events: Vec<String>,
    /// Arguments that are others for the rehearsal.
    #[serde(default)]
    pub replace: BTreeMap<String, String>,
    /// File of the root that must be there afterwards.
    #[serde(default)]
    pub makes: Option<String>,
}

/// Why there is no such recipe.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// None of that name.
    #[error("there is no recipe for runtime {name}; there are: {}", known().join(", "))]
    Unknown {
        /// Which.
        name: String,
    },
    /// A file that is none.
    #[error("{path} is not a recipe: {reason}")]
    Invalid {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

fn table(text: &str) -> Result<Table, String> {
    text.parse::<Table>().map_err(|e| e.to_string())
}

fn built_in() -> impl Iterator<Item = Table> {
    RECIPES
        .iter()
        .map(|text| table(text).expect("a test parses every recipe of this build"))
}

fn name_of(table: &Table) -> &str {
    table
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Names of the runtimes that can be installed.
#[must_use]
pub fn known() -> Vec<String> {
    built_in().map(|table| name_of(&table).to_owned()).collect()
}

/// All recipes of this build.
///
/// # Panics
/// Never: a test reads every recipe.
#[must_use]
pub fn all() -> Vec<Recipe> {
    let read = |table| parse(table).expect("a test parses every recipe of this build");
    built_in().map(read).collect()
}

/// The recipe of a runtime, or the one in a file when `name` ends in `.toml`.
///
/// # Errors
/// When there is none.
pub fn find(name: &str) -> Result<Recipe, RecipeError> {
    let invalid = |reason| RecipeError::Invalid {
        path: name.into(),
        reason,
    };
    if Path::new(name).extension().is_some_and(|e| e == "toml") {
        let text = fs::read_to_string(name).map_err(|e| invalid(e.to_string()))?;
        return parse(table(&text).map_err(invalid)?).map_err(invalid);
    }
    let found = built_in().find(|table| name_of(table) == name);
    let table = found.ok_or_else(|| RecipeError::Unknown {
        name: name.to_owned(),
    })?;
    parse(table).map_err(invalid)
}

/// Follows `extends`: tables are merged, everything else is replaced.
fn parse(mut table: Table) -> Result<Recipe, String> {
    for _ in 0..EXTENDS_MAX {
        let Some(base) = table.remove("extends") else {
            return finish(table);
        };
        let base = base.as_str().unwrap_or_default();
        let mut merged = built_in()
            .find(|table| name_of(table) == base)
            .ok_or_else(|| format!("it extends {base}, which there is no recipe of"))?;
        merge(&mut merged, table);
        table = merged;
    }
    Err("it extends itself".to_owned())
}

fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn finish(table: Table) -> Result<Recipe, String> {
    let digest = Sha256::new()
        .chain_update(BUILDER)
        .chain_update(table.to_string());
    let mut recipe: Recipe = Value::Table(table)
        .try_into()
        .map_err(|e: toml::de::Error| e.to_string())?;
    recipe.digest = hex::encode(digest.finalize());
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if recipe.name.is_empty() || recipe.name.starts_with('.') || !recipe.name.bytes().all(is_plain)
    {
        return Err("the name is not one of letters, digits, `.`, `-` and `_`".to_owned());
    }
    let inside = recipe.file.keys().chain(recipe.link.keys());
    let paths = inside
        .chain(recipe.work.keys())
        .chain(recipe.copy.iter().flat_map(|(to, from)| [to, from]));
    for path in paths {
        let leaves = path.starts_with('/') || path.split('/').any(|part| part == "..");
        if path.is_empty() || leaves {
            return Err(format!("path {path:?} is not relative, or leads out"));
        }
    }
    Ok(recipe)
}

impl Recipe {
    /// What the pack will say of itself.
    #[must_use]
    pub fn manifest(&self) -> Manifest {
        Manifest {
            name: self.name.clone(),
            recipe: self.digest.clone(),
            argv: self.argv.clone(),
            entry: self.entry.clone(),
            root: "root".into(),
            code_target: "/var/task".into(),
            env: self.env.clone(),
            stem: self.stem.clone(),
            compile: self.compile.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_is_complete_and_pins_what_it_fetches() {
        assert!(known().is_sorted());
        for name in known() {
            let recipe = find(&name).unwrap();
            assert_eq!(recipe.name, name);
            assert!(
                !recipe.argv.is_empty() && !recipe.packages.is_empty(),
                "{name}"
            );
            let manifest = toml::to_string(&recipe.manifest()).unwrap();
            assert_eq!(
                toml::from_str::<Manifest>(&manifest).unwrap(),
                recipe.manifest()
            );
            for requirement in recipe.pypi.iter().flat_map(|p| &p.requirements) {
                let pinned = requirement.contains("==") && requirement.contains("--hash=sha256:");
                assert!(pinned, "{requirement} is not pinned");
            }
            for (package, pin) in &recipe.npm {
                assert!(pin.integrity.starts_with("sha512-"), "{package}");
            }
            for (artifact, pin) in &recipe.maven {
                assert!(
                    pin.sha256.len() == 64 && artifact.split(':').count() == 2,
                    "{artifact}"
                );
            }
        }
    }

    #[test]
    fn a_recipe_that_extends_another_says_what_differs() {
        let text = "name='mine'\nextends='provided.al2023'\nabout='x'\n[env]\nA='1'\n";
        let mine = parse(table(text).unwrap()).unwrap();
        let base = find("provided.al2023").unwrap();
        assert_eq!((mine.name.as_str(), mine.about.as_str()), ("mine", "x"));
        assert_eq!((&mine.packages, &mine.argv), (&base.packages, &base.argv));
        assert_eq!(mine.env["A"], "1");
        assert_ne!(mine.digest, base.digest);
    }

    #[test]
    fn a_file_is_a_recipe_too_and_a_bad_one_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.toml");
        let path_name = path.to_str().unwrap();
        fs::write(&path, "name='mine'\nextends='provided.al2'\n").unwrap();
        assert_eq!(find(path_name).unwrap().name, "mine");
        for (text, reason) in [
            ("name='x'\nextends='y'\n", "extends y"),
            ("name='../x'\nextends='provided.al2'\n", "letters"),
            (
                "name='x'\nextends='provided.al2'\n[file]\n'../x'=''\n",
                "leads out",
            ),
            ("name='x'\nextends='provided.al2'\nwhat=1\n", "what"),
            ("name=", "recipe"),
        ] {
            fs::write(&path, text).unwrap();
            let error = find(path_name).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn an_unknown_runtime_names_those_there_are() {
        let error = find("cobol74").unwrap_err().to_string();
        assert!(
            error.contains("cobol74") && error.contains("python3.11"),
            "{error}"
        );
    }
}
