//! What a version brings into its sandboxes, archive or image, and the program that it is to run there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_core::function::{FunctionConfig, FunctionVersion, PackageType};
use hearth_core::image::{Overrides, Process};

use super::extensions;
use super::stock::Base;
use crate::code::image::{ImageDir, find_program, has_directory};
use crate::code::{CodeDir, CodeError, CodeStore};
use crate::runtime_api::fault::Fault;
use crate::runtimes::environment::{Facts, Origin, environment};
use crate::runtimes::{PackError, Runtimes};
use crate::sandbox::driver::Mount;

/// Where layers are found.
const LAYERS_TARGET: &str = "/opt";

/// What is held until nothing runs.
#[derive(Debug)]
pub(crate) enum Package {
    /// Deployment package and layers.
    Archive {
        code: Arc<CodeDir>,
        layers: Option<Arc<CodeDir>>,
    },
    /// Container image.
    Image(ImageDir),
}

/// A program in its sandbox.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) root: PathBuf,
    pub(super) mounts: Vec<Mount>,
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) cwd: PathBuf,
    /// What its sandbox may be made from; `None` for an image.
    pub(super) base: Option<Base>,
}

/// Why there is no program.
#[derive(Debug)]
pub(super) enum ProgramError {
    /// The function's own.
    Fault(Fault),
    /// The worker's.
    Platform(String),
}

/// Whether this worker has what runs a configuration; an image brings its own.
pub(crate) fn check_runtime(runtimes: &Runtimes, config: &FunctionConfig) -> Result<(), PackError> {
    match config.package_type {
        PackageType::Image => Ok(()),
        PackageType::Zip => {
            let runtime = config.runtime.as_deref().unwrap_or_default();
            runtimes.pack(runtime).map(drop)
        }
    }
}

impl Package {
    /// What the version names, fetched now if need be.
    pub(crate) async fn ensure(
        store: &Arc<CodeStore>,
        version: &FunctionVersion,
    ) -> Result<Self, Arc<CodeError>> {
        let config = &version.config;
        if config.package_type == PackageType::Image {
            return store
                .ensure_image(&version.code, config)
                .await
                .map(Self::Image);
        }
        let (code, layers) = futures::try_join!(
            store.ensure(&version.code),
            store.ensure_layers(&config.layer_contents),
        )?;
        Ok(Self::Archive { code, layers })
    }

    /// Names of the extensions that it brings.
    pub(super) async fn extensions(&self) -> Vec<String> {
        let directory = match self {
            Self::Archive { layers, .. } => layers.as_ref().map(|layers| layers.path.clone()),
            // A link would lead where it does inside the sandbox only.
            Self::Image(image) => {
                Some(image.root().join("opt")).filter(|opt| !opt.is_symlink() && opt.is_dir())
            }
        };
        match directory {
            Some(directory) => extensions::find(directory).await,
            None => Vec::new(),
        }
    }

    /// What is to be started; `facts` is what it finds in its environment.
    pub(super) async fn program(
        &self,
        runtimes: &Runtimes,
        config: &FunctionConfig,
        facts: &Facts<'_>,
    ) -> Result<Program, ProgramError> {
        match self {
            Self::Archive { code, layers } => {
                archive(code, layers.as_deref(), runtimes, config, facts)
            }
            Self::Image(image) => {
                let (dir, overrides) = (image.clone(), Overrides::of(config));
                let read = move || dir.file().map(|file| (overrides.over(&file), file.env));
                let read = hearth_node::blocking::run(read).await;
                let read = read.map_err(|error| ProgramError::Platform(error.to_string()))?;
                let (process, env) = read.map_err(|error| ProgramError::Platform(error.told()))?;
                of_image(
                    image.root(),
                    process,
                    environment(facts, Origin::Image(&env)),
                )
            }
        }
    }
}

fn archive(
    code: &CodeDir,
    layers: Option<&CodeDir>,
    runtimes: &Runtimes,
    config: &FunctionConfig,
    facts: &Facts<'_>,
) -> Result<Program, ProgramError> {
    let runtime = config.runtime.as_deref().unwrap_or_default();
    let pack = runtimes
        .pack(runtime)
        .map_err(|error| ProgramError::Platform(error.to_string()))?;
    let handler = config.handler.as_deref().unwrap_or_default();
    let argv = pack
        .argv(handler, &code.path, config.memory_mib)
        .map_err(|text| ProgramError::Fault(Fault::InvalidEntrypoint(text)))?;
    let code_target = &pack.manifest.code_target;
    Ok(Program {
        root: pack.root.clone(),
        mounts: package_mounts(code, layers, code_target),
        argv,
        env: environment(facts, Origin::Pack(&pack.manifest)),
        cwd: code_target.clone(),
        base: Some(Base {
            runtime: runtime.to_owned(),
            pack: Arc::clone(&pack),
        }),
    })
}

/// Where a function finds its code and layers.
pub(super) fn package_mounts(
    code: &CodeDir,
    layers: Option<&CodeDir>,
    target: &Path,
) -> Vec<Mount> {
    let mount = |tree: &CodeDir, target: &Path| Mount {
        source: tree.path.clone(),
        target: target.to_owned(),
        writable: false,
    };
    let layers = layers.map(|tree| mount(tree, Path::new(LAYERS_TARGET)));
    std::iter::once(mount(code, target)).chain(layers).collect()
}

fn of_image(
    root: PathBuf,
    process: Option<Process>,
    env: Vec<(String, String)>,
) -> Result<Program, ProgramError> {
    let fault = |text: String| ProgramError::Fault(Fault::InvalidEntrypoint(text));
    let Some(Process {
        mut argv,
        working_dir,
    }) = process
    else {
        let text =
            "the image has no ENTRYPOINT and no CMD, and the function's ImageConfig names none";
        return Err(fault(text.to_owned()));
    };
    if !has_directory(&root, &working_dir) {
        let text = format!("chdir {working_dir}: no such file or directory");
        return Err(ProgramError::Fault(Fault::InvalidWorkingDir(text)));
    }
    let search = env.iter().find(|(name, _)| name == "PATH");
    let search = search.map_or("", |(_, value)| value);
    argv[0] = find_program(&root, &argv[0], search, &working_dir).map_err(fault)?;
    Ok(Program {
        root,
        mounts: Vec::new(),
        argv,
        env,
        cwd: PathBuf::from(working_dir),
        base: None,
    })
}
