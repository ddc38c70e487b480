//! `hearth runtime`: installs, lists and moves runtime packs. How a pack is built is in `hearth_worker::runtimes`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hearth_worker::runtimes;
use hearth_worker::runtimes::install::Installer;

use crate::cli::RuntimeCommand;

pub(crate) async fn run(command: RuntimeCommand) -> anyhow::Result<()> {
    match command {
        RuntimeCommand::Install {
            list: true,
            runtimes_dir,
            ..
        }
        | RuntimeCommand::List { runtimes_dir } => list(&runtimes_dir),
        RuntimeCommand::Install {
            names,
            runtimes_dir,
            ..
        } => return install(&names, &runtimes_dir).await,
        RuntimeCommand::Export {
            name,
            file,
            runtimes_dir,
        } => {
            runtimes::archive::export(&runtimes_dir, &name, &file).await?;
            println!("{name} is in {}", file.display());
        }
        RuntimeCommand::Import { file, runtimes_dir } => {
            let installer = Installer::open(&absolute(&runtimes_dir)?, say).await?;
            let name = installer.import(&file).await?;
            println!("{name} is installed");
        }
    }
    Ok(())
}

fn say(line: &str) {
    println!("{line}");
}

fn absolute(runtimes_dir: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(runtimes_dir).context("finding the runtimes directory")
}

async fn install(names: &[String], runtimes_dir: &Path) -> anyhow::Result<()> {
    // All names are looked up before the first pack is built.
    for name in names {
        runtimes::recipe::find(name)?;
    }
    let installer = Installer::open(&absolute(runtimes_dir)?, say).await?;
    for name in names {
        let installed = installer.install(name, say).await;
        installed.with_context(|| format!("installing {name}"))?;
    }
    installer.forget_downloads()?;
    Ok(())
}

fn list(runtimes_dir: &Path) {
    let installed = runtimes::installed(runtimes_dir);
    for recipe in runtimes::recipe::all() {
        let state = if !installed.contains(&recipe.name) {
            "not installed"
        } else if runtimes::is_current(runtimes_dir, &recipe) {
            "installed"
        } else {
            "outdated"
        };
        println!("{:<18} {state:<14} {}", recipe.name, recipe.about);
    }
    let known = runtimes::recipe::known();
    for name in installed.iter().filter(|name| !known.contains(name)) {
        println!("{name:<18} {:<14} no recipe of this build", "installed");
    }
}
