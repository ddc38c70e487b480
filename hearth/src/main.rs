//! The `hearth` executable: reads the command line, starts the role that was asked for. What a role does is in its
//! own crate.

mod backup;
mod cli;
mod credentials;
mod events;
mod members;
mod nodes;
mod role;
mod runtime;
mod status;
mod trust;
mod up;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let command = match Cli::parse().command {
        // Before any thread: both enter namespaces, which a process with threads may not.
        Command::Spawner => return hearth_worker::sandbox::native::spawner::main(),
        Command::OciShim => return hearth_worker::sandbox::oci::shim::main(),
        command => command,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(&anyhow::Error::new(error).context("starting the async runtime"));
        }
    };
    let outcome = runtime.block_on(run(command));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up(args) => Box::pin(up::run(args)).await,
        Command::Controller(args) => role::controller(args).await,
        Command::Worker(args) => role::worker(args).await,
        Command::Gateway(args) => role::gateway(args).await,
        Command::Runtime { command } => runtime::run(command).await,
        Command::Controllers { command } => members::run(command).await,
        Command::Backup(args) => backup::run(args).await,
        Command::Restore(args) => backup::restore(args).await,
        Command::Token { command } => trust::token(command).await,
        Command::Ca { command } => trust::ca::run(&command),
        Command::Status(args) => status::run(args).await,
        Command::Events { command } => events::run(command).await,
        Command::Nodes(args) => nodes::list(args).await,
        Command::Drain(args) => nodes::drain(args).await,
        Command::Forget(args) => nodes::forget(args).await,
        Command::Spawner | Command::OciShim => {
            unreachable!("handled before the async runtime exists")
        }
    }
}

/// One line, the chain of causes included; logs go elsewhere.
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("hearth: {error:#}");
    ExitCode::FAILURE
}
