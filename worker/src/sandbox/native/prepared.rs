//! Sandboxes that are built before their owner is known, as the worker sees them; the inside is [`super::held`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use async_trait::async_trait;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::Receiver;

use super::cgroup::Limits;
use super::config::{checked, request};
use super::control::{LinuxControl, Sandbox};
use super::driver::{NativeDriver, Provided, setup};
use super::netns::NetnsListener;
use super::rootfs::c_string;
use super::wire::{
    Failure, INIT_REPORT_MAX, MESSAGE_MAX, MountRequest, Order, OrderReport, encode,
};
use crate::sandbox::driver::{DriverError, Prepared, SandboxSpec, StartedSandbox};
use crate::sandbox::sys;
use crate::sandbox::sys::mount::{ATTR_NODEV, ATTR_NOSUID, ATTR_RDONLY, clone_tree};

/// An order takes a fraction of a millisecond; a host on which it takes this long is not usable.
const ORDER_DEADLINE: Duration = Duration::from_secs(10);

/// See [`Prepared`].
#[derive(Debug)]
struct NativePrepared {
    runtime_api: NetnsListener,
    output: Receiver,
    control: LinuxControl,
    orders: AsyncFd<OwnedFd>,
}

impl NativeDriver {
    /// See [`crate::sandbox::driver::Driver::prepare`].
    pub(super) async fn prepare_held(
        &self,
        spec: &SandboxSpec,
    ) -> Result<Box<dyn Prepared>, DriverError> {
        let client = self.client().await?;
        let mut provided = self.provide_as(checked(spec)?, spec, None).await?;
        provided.request.held = true;
        provided.request.tasks = provided.entrance.tasks.len();
        provided.request.cgroup_dir = provided.entrance.directory.is_some();
        if let Some(group) = &provided.group {
            group
                .group()
                .set_background()
                .map_err(setup("set a share of CPU"))?;
        }
        let (orders, inside) = orders().map_err(setup("make the socket of orders"))?;
        let Provided {
            request,
            slot,
            netns,
            group,
            entrance,
            scratch,
            output,
            output_write,
        } = provided;
        let listener = tokio::net::TcpListener::from_std(netns.listener)
            .map_err(setup("watch the listener"))?;
        let mount = scratch
            .as_ref()
            .map(|owned| owned.scratch().descriptor().try_clone_to_owned());
        let mount = mount.transpose().map_err(setup("duplicate a descriptor"))?;
        let mut descriptors = vec![netns.descriptor.as_fd(), output_write.as_fd()];
        let entrances = entrance.tasks.iter().chain(&entrance.directory);
        descriptors.extend(entrances.chain(&mount).chain([&inside]).map(AsFd::as_fd));
        let sandbox = Sandbox::new(group, scratch);
        let control = client.start(request, &descriptors, sandbox, slot).await?;
        Ok(Box::new(NativePrepared {
            runtime_api: NetnsListener(listener),
            output,
            control,
            orders,
        }))
    }
}

/// The worker's end of the socket that an order goes by, and init's.
fn orders() -> io::Result<(AsyncFd<OwnedFd>, OwnedFd)> {
    let kind = SockType::SeqPacket;
    let (ours, inside) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((sys::net::watch(ours)?, inside))
}

#[async_trait]
impl Prepared for NativePrepared {
    fn is_alive(&self) -> bool {
        !self.control.has_ended()
    }

    async fn start(self: Box<Self>, spec: SandboxSpec) -> Result<StartedSandbox, DriverError> {
        let request = request(&spec)?;
        self.control
            .set_limits(Limits {
                memory_mib: spec.memory_mib,
                pids_max: spec.pids_max,
            })
            .map_err(setup("set limits"))?;
        let trees = request.mounts.iter().map(clone);
        let trees: Vec<OwnedFd> = trees
            .collect::<Result<_, _>>()
            .map_err(setup("clone a tree"))?;
        let descriptors: Vec<_> = trees.iter().map(AsFd::as_fd).collect();
        let message = encode(&Order {
            argv: request.argv,
            env: request.env,
            cwd: request.cwd,
            targets: request
                .mounts
                .into_iter()
                .map(|mount| mount.target)
                .collect(),
        });
        if message.len() > MESSAGE_MAX {
            return Err(DriverError::InvalidSpec(format!(
                "longer than {MESSAGE_MAX} bytes"
            )));
        }
        // Nothing was sent before, so there is room.
        sys::net::send(self.orders.get_ref(), &message, &descriptors)
            .map_err(|_| DriverError::Gone)?;
        let answer = tokio::time::timeout(ORDER_DEADLINE, answer(&self.orders)).await;
        let answer =
            answer.map_err(|_| setup("wait for the start")(io::ErrorKind::TimedOut.into()))?;
        match answer {
            Some(OrderReport::Started) => {}
            Some(OrderReport::Failed(failure)) => return Err(error(failure, &spec)),
            None => return Err(DriverError::Gone),
        }
        Ok(StartedSandbox {
            runtime_api: Box::new(self.runtime_api),
            output: Box::new(self.output),
            control: Box::new(self.control),
            extensions: None,
        })
    }
}

fn error(failure: Failure, spec: &SandboxSpec) -> DriverError {
    match failure {
        Failure::Exec { errno } => DriverError::Exec {
            program: spec.argv.first().cloned().unwrap_or_default(),
            source: io::Error::from_raw_os_error(errno),
        },
        Failure::Setup { step, errno } => DriverError::Setup {
            step,
            source: io::Error::from_raw_os_error(errno),
        },
    }
}

fn clone(mount: &MountRequest) -> io::Result<OwnedFd> {
    let source =
        c_string(&mount.source).map_err(|error| io::Error::from_raw_os_error(error.errno))?;
    let read_only = if mount.writable { 0 } else { ATTR_RDONLY };
    clone_tree(&source, ATTR_NOSUID | ATTR_NODEV | read_only)
}

/// `None` when the sandbox is gone.
async fn answer(orders: &AsyncFd<OwnedFd>) -> Option<OrderReport> {
    let mut buffer = [0; INIT_REPORT_MAX];
    loop {
        let mut ready = orders.readable().await.ok()?;
        let Ok(received) = ready.try_io(|socket| sys::net::receive(socket, &mut buffer)) else {
            continue;
        };
        let (length, _) = received.ok().filter(|(length, _)| *length > 0)?;
        return serde_json::from_slice(&buffer[..length]).ok();
    }
}
