//! The command line. Every option of a role that is not here is in its TOML file.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// AWS Lambda on machines you own.
#[derive(Debug, Parser)]
#[command(
    name = "hearth",
    version,
    about,
    after_help = "Start with:  hearth runtime install python3.11 && hearth up"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole cluster on this machine.
    Up(UpArgs),
    /// Run a controller: replicated metadata, quotas and code.
    Controller(RoleArgs),
    /// Run a worker: sandboxes.
    Worker(RoleArgs),
    /// Run a gateway: the AWS APIs and the gRPC API.
    Gateway(RoleArgs),
    /// Install or list runtime packs.
    Runtime {
        #[command(subcommand)]
        command: RuntimeCommand,
    },
    /// List, add or remove controllers of a running cluster.
    Controllers {
        #[command(subcommand)]
        command: ControllersCommand,
    },
    /// List all nodes of a cluster, with their state and load.
    Nodes(NodesArgs),
    /// Have a node finish and take no more; kept over restarts until it is undone.
    Drain(DrainArgs),
    /// Declare a silent worker dead: what it held is free at once.
    Forget(ForgetArgs),
    /// Show the nodes of a cluster started with `hearth up`.
    Status(StatusArgs),
    /// The worker's helper process that makes sandboxes. Started by the worker itself.
    #[command(name = "__spawner", hide = true)]
    Spawner,
}

/// How requests are authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AuthMode {
    /// AWS Signature Version 4.
    Sigv4,
    /// Anything goes (development only, loopback only): an access key of 12 digits is the account.
    Any,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct UpArgs {
    /// Where the cluster keeps everything.
    #[arg(long, default_value = "/var/lib/hearth/cluster")]
    pub(crate) data_dir: PathBuf,
    /// Address of the (first) gateway; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:9100")]
    pub(crate) listen: SocketAddr,
    /// Controllers: 1, 3 or 5. [default: 1, or what the data dir has]
    #[arg(long)]
    pub(crate) controllers: Option<u16>,
    /// Workers. [default: 1, or what the data dir has]
    #[arg(long)]
    pub(crate) workers: Option<u16>,
    /// Gateways. [default: 1, or what the data dir has]
    #[arg(long)]
    pub(crate) gateways: Option<u16>,
    /// Written as JSON when the cluster answers: endpoints, credentials, nodes with their pids.
    #[arg(long)]
    pub(crate) ready_file: Option<PathBuf>,
    /// Region the cluster answers for. [default: us-east-1, or what the data dir has]
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// Account of the root credentials. [default: 000000000000, or what the data dir has]
    #[arg(long)]
    pub(crate) account_id: Option<String>,
    /// How requests are authenticated.
    #[arg(long, value_enum, default_value = "sigv4")]
    pub(crate) auth: AuthMode,
    /// Where runtime packs are (see `hearth runtime install`).
    #[arg(long, default_value = "/var/lib/hearth/runtimes")]
    pub(crate) runtimes_dir: PathBuf,
    /// Memory all workers together may give to sandboxes, MiB. [default: 80 % of the machine's]
    #[arg(long)]
    pub(crate) memory_mib: Option<u64>,
    /// TOML file with tables `controller`, `worker` and `gateway`: options of the nodes that have no flag here.
    #[arg(long)]
    pub(crate) options: Option<PathBuf>,
    /// Run without cgroups: no memory, process or CPU limits (development only).
    #[arg(long)]
    pub(crate) allow_no_cgroups: bool,
    /// Log filter, for example `info` or `hearth_worker=debug`.
    #[arg(long, default_value = "info")]
    pub(crate) log: String,
    /// Export traces to this OTLP/gRPC endpoint.
    #[arg(long)]
    pub(crate) otlp_endpoint: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RoleArgs {
    /// The role's TOML file.
    #[arg(long, required_unless_present = "sample")]
    pub(crate) config: Option<PathBuf>,
    /// Print a commented sample file with every option and its default.
    #[arg(long)]
    pub(crate) sample: bool,
    /// End when standard input does: ties the process to the supervisor that holds the other end.
    #[arg(long, hide = true)]
    pub(crate) tied: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RuntimeCommand {
    /// Build a runtime pack from Debian and PyPI packages.
    Install {
        /// For example `python3.11` or `provided.al2023`.
        #[arg(required = true)]
        names: Vec<String>,
        /// Where runtime packs are.
        #[arg(long, default_value = "/var/lib/hearth/runtimes")]
        runtimes_dir: PathBuf,
    },
    /// What is installed and what could be.
    List {
        /// Where runtime packs are.
        #[arg(long, default_value = "/var/lib/hearth/runtimes")]
        runtimes_dir: PathBuf,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ControllersCommand {
    /// Which controllers there are.
    List {
        #[command(flatten)]
        at: MembersArgs,
    },
    /// Bring a running controller that was started with empty `peers` into the cluster.
    Add {
        /// Its `node_id`.
        id: u64,
        /// HOST:PORT where the other controllers reach it.
        addr: String,
        #[command(flatten)]
        at: MembersArgs,
    },
    /// Take a controller out; stop its process afterwards.
    Remove {
        /// Its `node_id`.
        id: u64,
        #[command(flatten)]
        at: MembersArgs,
    },
}

/// Whom to ask.
#[derive(Clone, Debug, Args)]
pub(crate) struct MembersArgs {
    /// HOST:PORT of any controller of the cluster. [default: those of --data-dir]
    #[arg(long)]
    pub(crate) controller: Option<String>,
    /// Data dir of a cluster started with `hearth up`.
    #[arg(long, default_value = "/var/lib/hearth/cluster")]
    pub(crate) data_dir: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct StatusArgs {
    /// The cluster's data dir.
    #[arg(long, default_value = "/var/lib/hearth/cluster")]
    pub(crate) data_dir: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct NodesArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) at: MembersArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DrainArgs {
    /// The node's id.
    pub(crate) id: u64,
    /// Its role, where several nodes have the id: controller, worker or gateway.
    #[arg(long)]
    pub(crate) role: Option<String>,
    /// Let it take work again.
    #[arg(long)]
    pub(crate) undo: bool,
    /// Return when it has nothing left to do.
    #[arg(long, conflicts_with = "undo")]
    pub(crate) wait: bool,
    /// How long to wait, seconds. A function runs 900 seconds at most.
    #[arg(long, default_value_t = 930)]
    pub(crate) timeout_s: u64,
    #[command(flatten)]
    pub(crate) at: MembersArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ForgetArgs {
    /// The worker's id.
    pub(crate) id: u64,
    /// Also a worker that is alive.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) at: MembersArgs,
}
