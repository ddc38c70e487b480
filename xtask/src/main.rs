//! Developer commands, run as `cargo xtask <command>`. Each command lives in its own module; none
//! of them is needed to build Hearth, their output is committed.

mod aws_api;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "xtask", about = "Developer commands of Hearth")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Generate aws-api/src/generated from botocore's service models.
    AwsApi {
        /// Directory of the installed `botocore` package (default: $HEARTH_BOTOCORE, then the
        /// package that python3 of .venv or of PATH imports).
        #[arg(long, value_name = "PATH")]
        botocore: Option<PathBuf>,
        /// Write nothing; fail when a committed file differs from what would be generated.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::AwsApi { botocore, check } => aws_api::run(botocore, check),
    }
}
