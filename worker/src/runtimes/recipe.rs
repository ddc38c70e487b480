//! Recipes: what a runtime pack is built from. Data, one file each in `worker/recipes/`; a new runtime is a new file in
//! the list below. How a recipe is carried out is in [`super::install`].

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Manifest;

/// The recipes this build carries.
const RECIPES: [&str; 3] = [
    include_str!("../../recipes/provided.al2.toml"),
    include_str!("../../recipes/provided.al2023.toml"),
    include_str!("../../recipes/python3.11.toml"),
];

/// How a pack is built.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The runtime's name.
    pub name: String,
    /// Changes whenever the recipe does.
    pub recipe: String,
    /// Build it as another one under this recipe's name. Nothing else is set then.
    #[serde(default)]
    pub same_as: Option<String>,
    /// See [`Manifest::argv`].
    #[serde(default)]
    pub argv: Vec<String>,
    /// See [`Manifest::entry`].
    #[serde(default)]
    pub entry: Vec<String>,
    /// See [`Manifest::env`].
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Debian packages; their dependencies come with them.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Packages from PyPI.
    #[serde(default)]
    pub pypi: Option<Pypi>,
    /// Files of the recipe's own.
    #[serde(default)]
    pub file: Vec<RecipeFile>,
}

/// Packages from PyPI, installed by the pack's own interpreter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pypi {
    /// Interpreter in the root, without a leading `/`.
    pub python: String,
    /// Debian package that holds pip as a wheel; used for building alone.
    pub pip_package: String,
    /// Requirements, each pinned with `==`.
    pub requirements: Vec<String>,
    /// Directory in the root, without a leading `/`.
    pub target: String,
}

/// A file put into the root.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeFile {
    /// Path in the root, without a leading `/`.
    pub path: String,
    /// What is in it.
    pub content: String,
}

/// Why there is no such recipe.
#[derive(Debug, thiserror::Error)]
#[error("there is no recipe for runtime {name}; there are: {}", known().join(", "))]
pub struct UnknownRuntime {
    name: String,
}

fn all() -> impl Iterator<Item = Recipe> {
    RECIPES
        .iter()
        .map(|text| toml::from_str(text).expect("a test parses every recipe of this build"))
}

/// Names of the runtimes that can be installed.
#[must_use]
pub fn known() -> Vec<String> {
    all().map(|recipe| recipe.name).collect()
}

/// The recipe of a runtime, `same_as` followed.
///
/// # Errors
/// When there is none.
pub fn find(name: &str) -> Result<Recipe, UnknownRuntime> {
    let by_name = |name: &str| {
        all()
            .find(|recipe| recipe.name == name)
            .ok_or_else(|| UnknownRuntime {
                name: name.to_owned(),
            })
    };
    let recipe = by_name(name)?;
    match &recipe.same_as {
        None => Ok(recipe),
        Some(other) => Ok(Recipe {
            name: name.to_owned(),
            ..by_name(other)?
        }),
    }
}

impl Recipe {
    /// What the pack will say of itself.
    #[must_use]
    pub fn manifest(&self) -> Manifest {
        Manifest {
            name: self.name.clone(),
            recipe: self.recipe.clone(),
            argv: self.argv.clone(),
            entry: self.entry.clone(),
            root: "root".into(),
            code_target: "/var/task".into(),
            env: self.env.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_is_complete() {
        assert_eq!(known(), ["provided.al2", "provided.al2023", "python3.11"]);
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
                assert!(requirement.contains("=="), "{requirement} is not pinned");
            }
            for path in recipe.file.iter().map(|f| &f.path) {
                assert!(!path.starts_with('/') && !path.contains(".."), "{path}");
            }
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
