//! The processes of the bench: controllers and a gateway as users run them, and the fleet of simulated workers. They end
//! with the value.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use hearth_node::config::HumanDuration;
use hearth_node::telemetry::TelemetryOptions;
use hearth_tests::cluster::{Ready, build_dir};
use hearth_tests::http::Connection;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;

use super::Scale;
use super::fleet::Fleet;

const CLUSTER_ID: &str = "bench-control";
const GATEWAY_ID: u64 = 9_001;
const ACCOUNT: &str = "000000000000";
/// Descriptors of the fleet: a worker has two listeners and a handful of connections.
const DESCRIPTORS: u64 = 200_000;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Nodes {
    children: Vec<Child>,
    /// Of the controllers, by id.
    pub(crate) controllers: BTreeMap<u64, (u32, String)>,
    pub(crate) fleet_pid: u32,
    pub(crate) gateway_pid: u32,
    /// Where the gateway serves, and where its metrics are; means nothing before it is started.
    gateway_addrs: [SocketAddr; 2],
    /// The gateway, as the HTTP client of the tests wants it.
    pub(crate) ready: Ready,
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in &mut self.children {
            // What it had is thrown away.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A process may hold as many files as the fleet needs.
pub(crate) fn raise_descriptor_limit() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("reading the limit of files")?;
    let wanted = DESCRIPTORS.max(hard);
    setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted)
        .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))
        .context("raising the limit of files")
}

impl Nodes {
    /// Starts three controllers in `dir`.
    pub(crate) fn start(dir: &Path, scale: Scale) -> anyhow::Result<Self> {
        let ports = free_ports(3)?;
        let peers: BTreeMap<u64, String> = (1..=3)
            .zip(&ports)
            .map(|(id, port)| (id, port.to_string()))
            .collect();
        let mut nodes = Self {
            children: Vec::new(),
            controllers: BTreeMap::new(),
            fleet_pid: 0,
            gateway_pid: 0,
            gateway_addrs: [ports[0]; 2],
            ready: ready(ports[0]),
        };
        for (id, addr) in &peers {
            let options = controller(dir, *id, &peers, scale);
            let pid = nodes.spawn(dir, "controller", *id, &options)?;
            nodes.controllers.insert(*id, (pid, addr.clone()));
        }
        Ok(nodes)
    }

    /// Starts the gateway: it hears every worker ten times a second, which the leader's numbers are not to be mixed with.
    pub(crate) fn start_gateway(&mut self, dir: &Path) -> anyhow::Result<()> {
        // Only now: thousands of the workers' connections have ports of the same range.
        let ports = free_ports(2)?;
        self.gateway_addrs = [ports[0], ports[1]];
        self.ready = ready(ports[0]);
        let options = gateway(self);
        self.gateway_pid = self.spawn(dir, "gateway", GATEWAY_ID, &options)?;
        Ok(())
    }

    /// An error as soon as one of the processes has ended.
    pub(crate) fn all_run(&mut self) -> anyhow::Result<()> {
        for child in &mut self.children {
            if let Some(status) = child.try_wait().context("looking for a process")? {
                bail!("process {} ended ({status}); see its log", child.id());
            }
        }
        Ok(())
    }

    /// The gateway's metrics.
    pub(crate) async fn gateway_metrics(&self) -> anyhow::Result<String> {
        let addr = self.gateway_addrs[1];
        let mut connection = Connection::open(&format!("http://{addr}")).await?;
        let request = format!("GET /metrics HTTP/1.1\r\nhost: {addr}\r\n\r\n");
        let answer = connection.send(request.as_bytes()).await?;
        String::from_utf8(answer.body).context("reading metrics")
    }

    /// Starts the simulated workers.
    pub(crate) fn start_fleet(&mut self, dir: &Path, workers: u64) -> anyhow::Result<()> {
        let fleet = Fleet {
            dir: dir.join("fleet"),
            workers,
            cluster_id: CLUSTER_ID.to_owned(),
            controllers: self.addresses(),
        };
        let file = dir.join("fleet.json");
        let text = serde_json::to_vec(&fleet).context("encoding the fleet's file")?;
        std::fs::write(&file, text).context("writing the fleet's file")?;
        let this = std::env::current_exe().context("finding this executable")?;
        let child = Command::new(this)
            .arg("fleet")
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log(dir, "fleet")?)
            .spawn()
            .context("starting the fleet")?;
        self.fleet_pid = child.id();
        self.children.push(child);
        Ok(())
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.controllers
            .values()
            .map(|(_, addr)| addr.clone())
            .collect()
    }

    fn spawn(
        &mut self,
        dir: &Path,
        role: &str,
        id: u64,
        options: &impl Serialize,
    ) -> anyhow::Result<u32> {
        let hearth = build_dir()?.join("hearth");
        if !hearth.exists() {
            bail!("{} is missing: run `make bench-control`", hearth.display());
        }
        let file = dir.join(format!("{role}-{id}.toml"));
        let text = toml::to_string(options).context("encoding options")?;
        std::fs::write(&file, text).context("writing options")?;
        let child = Command::new(&hearth)
            .arg(role)
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log(dir, &format!("{role}-{id}"))?)
            .spawn()
            .with_context(|| format!("starting {}", hearth.display()))?;
        let pid = child.id();
        self.children.push(child);
        Ok(pid)
    }
}

fn log(dir: &Path, name: &str) -> anyhow::Result<std::fs::File> {
    std::fs::File::create(dir.join(format!("{name}.log"))).context("creating a log")
}

/// Free a moment ago; the bench has the machine for itself.
fn free_ports(count: usize) -> anyhow::Result<Vec<SocketAddr>> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()
        .context("finding free ports")?;
    listeners
        .iter()
        .map(|listener| listener.local_addr().context("reading a port"))
        .collect()
}

fn telemetry() -> TelemetryOptions {
    TelemetryOptions {
        log_filter: "warn".to_owned(),
        ..TelemetryOptions::default()
    }
}

fn controller(
    dir: &Path,
    id: u64,
    peers: &BTreeMap<u64, String>,
    scale: Scale,
) -> hearth_controller::Options {
    let mut options = hearth_controller::Options {
        node_id: id,
        cluster_id: CLUSTER_ID.to_owned(),
        listen: peers[&id].clone(),
        admin_listen: "127.0.0.1:0".to_owned(),
        data_dir: dir.join(format!("controller-{id}")),
        peers: peers.clone(),
        telemetry: telemetry(),
        ..hearth_controller::Options::default()
    };
    let reserved = u32::try_from(scale.functions).unwrap_or(u32::MAX / 2);
    options.accounts.concurrency = reserved + 1_000;
    // All nodes share two cores, where on machines of their own a ping is answered at once.
    options.server.keep_alive_interval = HumanDuration::from_secs(10);
    options.server.keep_alive_timeout = HumanDuration::from_secs(20);
    options.workers.silent_after = HumanDuration::from_secs(10);
    options
}

fn gateway(nodes: &Nodes) -> hearth_gateway::Options {
    let [listen, admin_listen] = nodes.gateway_addrs;
    hearth_gateway::Options {
        node_id: GATEWAY_ID,
        cluster_id: CLUSTER_ID.to_owned(),
        listen,
        admin_listen,
        controllers: nodes.addresses(),
        account_id: ACCOUNT.to_owned(),
        access_key_id: nodes.ready.access_key_id.clone(),
        secret_access_key: hearth_gateway::Secret(nodes.ready.secret_access_key.clone()),
        telemetry: telemetry(),
        ..hearth_gateway::Options::default()
    }
}

fn ready(gateway: SocketAddr) -> Ready {
    let endpoint = format!("http://{gateway}");
    Ready {
        endpoints: vec![endpoint.clone()],
        endpoint,
        access_key_id: "AKIABENCH".to_owned(),
        secret_access_key: "bench".to_owned(),
        region: "us-east-1".to_owned(),
        account_id: ACCOUNT.to_owned(),
        nodes: Vec::new(),
    }
}

/// Resident memory of a process, bytes.
pub(crate) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("reading process {pid}"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .context("a process without VmRSS")?;
    Ok(kib * 1_024)
}
