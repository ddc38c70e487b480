//! `hearth runtime`: installs and lists runtime packs. How a pack is built is in `hearth_worker::runtimes`.

use anyhow::Context as _;
use hearth_worker::runtimes;

use crate::cli::RuntimeCommand;

pub(crate) async fn run(command: RuntimeCommand) -> anyhow::Result<()> {
    match command {
        RuntimeCommand::Install {
            names,
            runtimes_dir,
        } => {
            let runtimes_dir =
                std::path::absolute(runtimes_dir).context("finding the runtimes directory")?;
            // All names are looked up before the first pack is built.
            for name in &names {
                runtimes::recipe::find(name)?;
            }
            for name in &names {
                runtimes::install::install(name, &runtimes_dir, |step| println!("{step}"))
                    .await
                    .with_context(|| format!("installing {name}"))?;
            }
            Ok(())
        }
        RuntimeCommand::List { runtimes_dir } => {
            let installed = runtimes::installed(&runtimes_dir);
            for name in runtimes::recipe::known() {
                let state = if installed.contains(&name) {
                    "installed"
                } else {
                    "not installed"
                };
                println!("{name:<20} {state}");
            }
            for name in installed
                .iter()
                .filter(|name| runtimes::recipe::find(name).is_err())
            {
                println!("{name:<20} installed (no recipe)");
            }
            Ok(())
        }
    }
}
