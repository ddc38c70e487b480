//! The command line. Every option of a role that is not here is in its TOML file.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use hearth_node::config::HumanDuration;
use hearth_node::tls::NodeRole;

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
    /// Install, list, export or import runtime packs.
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
    /// Show event (asynchronous) invocations, and take failed ones up again.
    Events {
        #[command(subcommand)]
        command: EventsCommand,
    },
    /// Write metadata and code of a running cluster into one file, or check such a file.
    Backup(BackupArgs),
    /// Make the data dir of a new cluster from a backup.
    Restore(RestoreArgs),
    /// Make a token with which a new node joins a running cluster.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Make a CA for a cluster of several machines, issue certificates from it, replace it.
    Ca {
        #[command(subcommand)]
        command: CaCommand,
    },
    /// Show the nodes of a cluster started with `hearth up`.
    Status(StatusArgs),
    /// The worker's helper process that makes sandboxes. Started by the worker itself.
    #[command(name = "__spawner", hide = true)]
    Spawner,
    /// The worker's helper process for one sandbox of an OCI runtime. Started by the worker itself.
    #[command(name = "__oci-shim", hide = true)]
    OciShim,
}

/// How requests are authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AuthMode {
    /// AWS Signature Version 4.
    Sigv4,
    /// Anything goes (development only, loopback only): an access key of 12 digits is the account.
    Any,
}

/// Whether nodes speak TLS with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum UpTls {
    /// With certificates of a CA in the data dir, made at the first start.
    On,
    /// Plaintext (development only).
    Off,
}

/// Whether functions have a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum UpNetwork {
    /// They reach out if this machine lets them (root, nftables).
    Auto,
    /// They reach out, or the cluster does not start.
    Egress,
    /// Loopback alone.
    Isolated,
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
    /// TLS between nodes.
    #[arg(long, value_enum, default_value = "on")]
    pub(crate) tls: UpTls,
    /// Life of the nodes' certificates; they are renewed at two thirds of it.
    #[arg(long, default_value = "30d")]
    pub(crate) certificate_life: HumanDuration,
    /// Where runtime packs are (see `hearth runtime install`).
    #[arg(long, default_value = "/var/lib/hearth/runtimes")]
    pub(crate) runtimes_dir: PathBuf,
    /// Memory all workers together may give to sandboxes, MiB. [default: 80 % of the machine's]
    #[arg(long)]
    pub(crate) memory_mib: Option<u64>,
    /// Whether functions reach the network outside. [default: auto, if this machine lets them]
    #[arg(long, value_enum, default_value = "auto", hide_default_value = true)]
    pub(crate) network: UpNetwork,
    /// TOML file with tables `controller`, `worker` and `gateway`: options of the nodes that have no flag here.
    #[arg(long)]
    pub(crate) options: Option<PathBuf>,
    /// Where an AWS service is that destinations and dead-letter queues name: SERVICE=URL with sqs, sns, s3 or events, as often as
    /// needed. Keys go into --options (tables gateway.endpoints.sqs and so on).
    #[arg(long, value_name = "SERVICE=URL", value_parser = endpoint_for)]
    pub(crate) endpoint_for: Vec<(String, String)>,
    /// Wait before the first retry of an event after a function error; before the second it is twice that.
    #[arg(long, default_value = "1m")]
    pub(crate) event_retry_base_delay: HumanDuration,
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
    /// Build runtime packs from public packages (Debian, PyPI, npm, Maven), as each runtime needs.
    Install {
        /// For example `python3.11` or `nodejs22.x`; or the file of a recipe of your own, `./mine.toml`.
        #[arg(required_unless_present = "list")]
        names: Vec<String>,
        /// Only tell what is installed and what could be.
        #[arg(long)]
        list: bool,
        /// Where runtime packs are.
        #[arg(long, default_value = "/var/lib/hearth/runtimes")]
        runtimes_dir: PathBuf,
    },
    /// Write an installed pack into one file, for machines that reach no package registry.
    Export {
        /// For example `python3.11`.
        name: String,
        /// The file to write, a compressed tar archive.
        file: PathBuf,
        /// Where runtime packs are.
        #[arg(long, default_value = "/var/lib/hearth/runtimes")]
        runtimes_dir: PathBuf,
    },
    /// Install the pack of a file made by `export`.
    Import {
        /// The file.
        file: PathBuf,
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
    /// Directory of the operator's certificate (`hearth ca issue --role operator`). [default: made from the CA in --data-dir]
    #[arg(long)]
    pub(crate) tls_dir: Option<PathBuf>,
}

/// Which events.
#[derive(Clone, Debug, Args)]
pub(crate) struct EventSelection {
    /// Of this account. [default: all]
    #[arg(long)]
    pub(crate) account: Option<String>,
    /// Of this function. [default: all]
    #[arg(long)]
    pub(crate) function: Option<String>,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// List events that wait, run, have failed, or have lately succeeded, the oldest first.
    List {
        #[command(flatten)]
        selection: EventSelection,
        /// Only those that failed and can be taken up again.
        #[arg(long)]
        failed: bool,
        /// At most so many.
        #[arg(long, default_value = "100")]
        limit: u32,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: MembersArgs,
    },
    /// Show one event.
    Show {
        /// The request id that its invocation was answered.
        request_id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: MembersArgs,
    },
    /// Run failed events again, with new attempts.
    Redrive {
        /// Their request ids. [default: all that failed, up to 1000]
        request_ids: Vec<String>,
        #[command(flatten)]
        selection: EventSelection,
        #[command(flatten)]
        at: MembersArgs,
    },
}

fn endpoint_for(text: &str) -> Result<(String, String), String> {
    let (service, url) = text.split_once('=').ok_or("give it as SERVICE=URL")?;
    if !["sqs", "sns", "s3", "events"].contains(&service) {
        return Err(format!(
            "there is no service {service:?}: sqs, sns, s3 and events are"
        ));
    }
    Ok((service.to_owned(), url.to_owned()))
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Print a token that lets one node in, once.
    Create {
        /// controller, worker or gateway.
        #[arg(long)]
        role: NodeRole,
        /// The one node that may use it; needed for an id that was used before. [default: any new one]
        #[arg(long)]
        id: Option<u64>,
        /// How long it may be used.
        #[arg(long, default_value = "1h")]
        ttl: HumanDuration,
        #[command(flatten)]
        at: MembersArgs,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Make a CA: `ca.pem` for every node, `ca.key` for the controllers that sign. Prints its SHA-256.
    Init {
        /// Where to.
        #[arg(long)]
        dir: PathBuf,
        /// The cluster's id, as in the nodes' files.
        #[arg(long)]
        cluster_id: String,
    },
    /// Issue a certificate: `ca.pem`, and `node.pem` with the key.
    Issue {
        /// Directory of the CA.
        #[arg(long)]
        ca: PathBuf,
        /// The cluster's id.
        #[arg(long)]
        cluster_id: String,
        /// controller, worker, gateway or operator.
        #[arg(long)]
        role: NodeRole,
        /// The node's id; 0 for an operator.
        #[arg(long, default_value_t = 0)]
        id: u64,
        /// Where to.
        #[arg(long)]
        out: PathBuf,
        /// How long it is good.
        #[arg(long, default_value = "30d")]
        life: HumanDuration,
    },
    /// Replace the CA of a directory without downtime, in three steps; wait for all nodes after each.
    Rotate {
        /// Directory of the CA.
        #[arg(long)]
        dir: PathBuf,
        /// The cluster's id.
        #[arg(long)]
        cluster_id: String,
        /// begin: a second CA is trusted. switch: it signs. finish: the first is trusted no more.
        step: RotateStep,
    },
}

/// A step of the replacement of a CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum RotateStep {
    /// Make a second CA, trusted beside the first.
    Begin,
    /// Sign with the second.
    Switch,
    /// Trust the second alone.
    Finish,
}

#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct BackupArgs {
    #[command(subcommand)]
    pub(crate) command: Option<BackupCommand>,
    /// Where the backup is written (mode 0600). It has the environments of functions in it: keep it safe.
    #[arg(required = true)]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) at: MembersArgs,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Check every digest of a backup.
    Verify {
        /// The backup.
        file: PathBuf,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup.
    pub(crate) file: PathBuf,
    /// Data dir to make; it must not exist or be empty.
    #[arg(long, required_unless_present = "dry_run")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Only check every digest of the backup.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Keep the old cluster's id, after a disaster: its workers and gateways can be used again once they are restarted.
    /// None of its controllers must ever run again. [default: a new id, which keeps the two apart]
    #[arg(long)]
    pub(crate) same_cluster: bool,
    /// HOST:PORT where other controllers will reach the restored one, which `hearth controller` then runs. [default:
    /// loopback, for `hearth up`]
    #[arg(long)]
    pub(crate) addr: Option<String>,
    /// Account of the root credentials of `hearth up`. [default: the one that has the functions]
    #[arg(long)]
    pub(crate) account_id: Option<String>,
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
