//! The router namespace of a worker: made once, with its way to the host. It lives as long as this process.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::runtime::Runtime;

use super::rules::{PREFIX, Policy, UPLINK};
use super::{current_namespace, named};

/// Uplinks have the lower half of 198.18.0.0/15 (RFC 2544, for tests of devices, so in use nowhere), four addresses each.
const UPLINKS: u32 = 16_384;
const UPLINK_BASE: u32 = u32::from_be_bytes([198, 18, 0, 0]);

/// Numbers tried before the start is given up: as many workers may be on one host.
const TRIES_MAX: u32 = 512;

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// The router, as the thread that made it uses it.
pub(super) struct Router {
    /// Drives the connections to the kernel.
    pub(super) runtime: Runtime,
    pub(super) namespace: File,
    /// Speaks to the router's namespace, wherever the thread is.
    pub(super) handle: Handle,
    /// The table in the host's namespace; named as the interface.
    pub(super) table: String,
}

/// An error of the kernel as one of the standard library, with its number.
pub(super) fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

/// A connection to the namespace that the calling thread is in.
pub(super) fn connect(runtime: &Runtime) -> io::Result<Handle> {
    let _inside = runtime.enter();
    let (connection, handle, _) = rtnetlink::new_connection()?;
    runtime.spawn(connection);
    Ok(handle)
}

/// Makes the router and leaves the calling thread in its namespace.
pub(super) fn make(policy: &Policy) -> io::Result<Router> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let host_namespace = current_namespace()?;
    let host = connect(&runtime).map_err(named("speak to the kernel"))?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    let namespace = current_namespace()?;
    let handle = connect(&runtime)?;
    fs::write(FORWARDING, "1").map_err(named("let the router forward"))?;
    run_nft(&policy.router()).map_err(named("load the router's rules"))?;
    let number = runtime.block_on(uplink(&host, &handle, &namespace))?;
    setns(&host_namespace, CloneFlags::CLONE_NEWNET)?;
    let began = begin_forwarding()?;
    let (name, network) = (interface(number), format!("{}/30", address(number, 0)));
    run_nft(&policy.host(&name, &network, began)).map_err(named("load the host's rules"))?;
    setns(&namespace, CloneFlags::CLONE_NEWNET)?;
    tracing::info!(
        interface = name,
        network,
        "functions reach out through this host"
    );
    Ok(Router {
        runtime,
        namespace,
        handle,
        table: name,
    })
}

/// Takes away what [`make`] loaded into the namespace of the calling thread, which is the host's.
pub(super) fn remove_table(name: &str) -> io::Result<()> {
    run_nft(&format!("delete table ip {name}\n"))
}

/// Has the host forward, and says whether it did not before.
fn begin_forwarding() -> io::Result<bool> {
    let before = fs::read_to_string(FORWARDING)?;
    if before.trim() != "0" {
        return Ok(false);
    }
    fs::write(FORWARDING, "1").map_err(named("let the host forward"))?;
    Ok(true)
}

fn interface(number: u32) -> String {
    format!("{PREFIX}{number}")
}

fn address(number: u32, host: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(UPLINK_BASE + 4 * (number % UPLINKS) + host)
}

/// Brings an interface up: the second of a pair cannot be made so.
pub(super) async fn up(handle: &Handle, index: u32) -> io::Result<()> {
    let change = LinkUnspec::new_with_index(index).up().build();
    handle.link().set(change).execute().await.map_err(io_error)
}

/// Makes the pair between host and router, under the first number that is free, and gives both ends their addresses.
async fn uplink(host: &Handle, router: &Handle, namespace: &File) -> io::Result<u32> {
    // Far above what anybody else has made; both ends are found by it without asking.
    let index = |number: u32| 1_000_000 + number;
    for number in 0..TRIES_MAX {
        let peer = LinkUnspec::new_with_name(UPLINK)
            .setns_by_fd(namespace.as_raw_fd())
            .index(index(number))
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new(&interface(number), UPLINK)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .index(index(number))
            .up()
            .build();
        match host.link().add(pair).execute().await.map_err(io_error) {
            Ok(()) => {}
            // Another worker of this host has it.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EBUSY)) => {
                continue;
            }
            Err(error) => return Err(named("make the uplink")(error)),
        }
        up(router, index(number)).await?;
        let (own, theirs) = (address(number, 1), address(number, 2));
        for (handle, address) in [(host, own), (router, theirs)] {
            let added = handle.address().add(index(number), IpAddr::V4(address), 30);
            added.execute().await.map_err(io_error)?;
        }
        let out = RouteMessageBuilder::<Ipv4Addr>::new().gateway(own).build();
        let added = router.route().add(out).execute().await;
        added
            .map_err(io_error)
            .map_err(named("route to the host"))?;
        return Ok(number);
    }
    Err(io::Error::other(format!(
        "{TRIES_MAX} workers have an uplink on this host already"
    )))
}

/// Loads rules into the namespace of the calling thread, all or none.
fn run_nft(rules: &str) -> io::Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::new(
                error.kind(),
                "the program nft is not there; install the package nftables",
            ),
            _ => error,
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(rules.as_bytes())?;
    }
    let done = child.wait_with_output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let first = said.lines().next().unwrap_or("it says nothing").to_owned();
    Err(io::Error::other(format!("nft: {first}")))
}
