//! The [`Driver`] on OCI runtimes: takes parts from the native driver, starts a shim for each sandbox.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use super::config::OciConfig;
use super::wire::{KILL, ShimRequest};
use crate::sandbox::driver::{DriverError, SandboxSpec, StartedSandbox};
use crate::sandbox::native::SpawnerCommand;
use crate::sandbox::native::control::{Killer, LinuxControl, Sandbox};
use crate::sandbox::native::driver::{NativeDriver, Provided};
use crate::sandbox::native::netns::NetnsListener;
use crate::sandbox::native::slots::Slot;
use crate::sandbox::native::wire::{Failure, INIT_REPORT_MAX, InitReport, ProgramEnd, encode};
use crate::sandbox::sys;

/// A start that takes longer is broken: a shim gives up a call of the runtime after 30 s, and there are two.
const START_DEADLINE: Duration = Duration::from_secs(70);

/// A shim that was told to clear away and has not by then is ended; its worker's next life sweeps its group.
const CLEAR_DEADLINE: Duration = Duration::from_secs(40);

/// What runtimes may need to find (mkfs, ip...).
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin";

/// Makes sandboxes with one OCI runtime.
#[derive(Debug)]
pub struct OciDriver {
    runtime: OciConfig,
    /// How to start a shim.
    shim: SpawnerCommand,
    /// Directory for the bundles of running sandboxes.
    state_dir: PathBuf,
    native: Arc<NativeDriver>,
}

impl OciDriver {
    /// Sandboxes on `runtime`, out of parts of `native`.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] if the runtime's program is not there.
    pub fn open(
        runtime: OciConfig,
        shim: SpawnerCommand,
        state_dir: PathBuf,
        native: Arc<NativeDriver>,
    ) -> Result<Self, DriverError> {
        if !runtime.program.is_file() {
            return Err(DriverError::Unsupported(format!(
                "there is no OCI runtime at {}: install it, or take it out of the options",
                runtime.program.display()
            )));
        }
        Ok(Self {
            runtime,
            shim,
            state_dir,
            native,
        })
    }

    /// As [`crate::sandbox::driver::Driver::start`].
    ///
    /// # Errors
    /// As there.
    pub async fn start(&self, spec: SandboxSpec) -> Result<StartedSandbox, DriverError> {
        if !spec.extensions.programs.is_empty() {
            return Err(DriverError::Unsupported(
                "OCI runtimes start no extensions: take the tag hearth:sandbox from the function, or the layer"
                    .to_owned(),
            ));
        }
        let program = spec.argv.first().cloned().unwrap_or_default();
        let id = spec.id.clone();
        let uid_base = (!self.runtime.user_namespace).then_some(0);
        let provided = self.native.provide(&spec, uid_base).await?;
        let Provided {
            request,
            slot,
            netns,
            group,
            scratch,
            output,
            output_write,
            ..
        } = provided;
        let listener = tokio::net::TcpListener::from_std(netns.listener)
            .map_err(setup("watch the listener"))?;
        let request = ShimRequest {
            runtime: self.runtime.clone(),
            directory: self.state_dir.join(&id),
            id,
            group: group.as_ref().map(|owned| owned.group().place()),
            join: group
                .as_ref()
                .and_then(|owned| owned.group().unknown_to_runtimes()),
            thaw: group
                .as_ref()
                .and_then(|owned| owned.group().thaw())
                .map(|(file, word)| (file, word.to_owned())),
            start: request,
        };
        let mount = scratch
            .as_ref()
            .map(|owned| owned.scratch().descriptor().try_clone_to_owned());
        let mount = mount.transpose().map_err(setup("duplicate a descriptor"))?;
        let sandbox = Sandbox::new(group, scratch);
        let (shim, socket) = self.launch()?;
        let mut descriptors = vec![netns.descriptor.as_fd(), output_write.as_fd()];
        descriptors.extend(mount.iter().map(AsFd::as_fd));
        sys::net::send(socket.get_ref(), &encode(&request), &descriptors)
            .map_err(setup("ask the shim"))?;
        drop(output_write);
        let started = Started {
            shim,
            socket: Arc::new(socket),
            sandbox,
            slot,
        };
        let (answer, answered) = oneshot::channel();
        // A task of its own, which ends with the shim: should the caller give up, what is being made is still ended in order.
        tokio::spawn(started.run(program, answer));
        let control = answered.await.map_err(|_| DriverError::Gone)??;
        Ok(StartedSandbox {
            runtime_api: Box::new(NetnsListener(listener)),
            output: Box::new(output),
            control: Box::new(control),
            // No way to start them: the runtime runs alone.
            extensions: None,
        })
    }

    fn launch(&self) -> Result<(Child, AsyncFd<OwnedFd>), DriverError> {
        let kind = SockType::SeqPacket;
        let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|errno| setup("make the shim's socket")(errno.into()))?;
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|errno| setup("make the shim's socket non-blocking")(errno.into()))?;
        let process = Command::new(&self.shim.program)
            .args(&self.shim.args)
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(setup("start the shim"))?;
        let socket = sys::net::watch(ours).map_err(setup("watch the shim's socket"))?;
        Ok((process, socket))
    }
}

fn setup(step: &str) -> impl FnOnce(io::Error) -> DriverError {
    let step = step.to_owned();
    |source| DriverError::Setup { step, source }
}

/// A sandbox in the making, then the one that runs.
struct Started {
    shim: Child,
    socket: Arc<AsyncFd<OwnedFd>>,
    sandbox: Arc<Sandbox>,
    /// Given back once the shim is gone.
    slot: Slot,
}

impl Started {
    /// The life of the sandbox: answers once the program was executed, ends when nothing is left.
    async fn run(
        self,
        program: String,
        answer: oneshot::Sender<Result<LinuxControl, DriverError>>,
    ) {
        match self.started(program).await {
            Ok(()) => {
                let killer = Shim(Arc::clone(&self.socket));
                let control = self.sandbox.on_started(Box::new(killer));
                // Nobody may be waiting any more; then the control is dropped, which kills.
                let _ = answer.send(Ok(control));
                self.keep().await;
            }
            Err(error) => {
                let _ = answer.send(Err(error));
                self.end(None).await;
            }
        }
    }

    async fn started(&self, program: String) -> Result<(), DriverError> {
        let report = tokio::time::timeout(START_DEADLINE, receive(&self.socket)).await;
        match report {
            Ok(Ok(Some(InitReport::Started))) => Ok(()),
            Ok(Ok(Some(InitReport::Failed(Failure::Exec { errno })))) => Err(DriverError::Exec {
                program,
                source: io::Error::from_raw_os_error(errno),
            }),
            Ok(Ok(Some(InitReport::Failed(Failure::Setup { step, errno })))) => {
                Err(setup(&step)(io::Error::from_raw_os_error(errno)))
            }
            Ok(Ok(Some(InitReport::Ended(_)) | None)) => Err(DriverError::Gone),
            Ok(Err(source)) => Err(setup("hear the shim")(source)),
            Err(_) => Err(setup("wait for the shim")(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn keep(self) {
        let end = match receive(&self.socket).await {
            Ok(Some(InitReport::Ended(end))) => Some(end),
            // The shim was killed; whatever it left ends with its group.
            Ok(_) | Err(_) => None,
        };
        self.end(end).await;
    }

    /// Reads the last of the sandbox, then has the shim clear away.
    async fn end(mut self, end: Option<ProgramEnd>) {
        let group = self.sandbox.on_end(end);
        // The killer may hold the socket for as long as the control lives: the connection is ended, not dropped.
        let raw = std::os::fd::AsRawFd::as_raw_fd(self.socket.get_ref());
        let _ = nix::sys::socket::shutdown(raw, nix::sys::socket::Shutdown::Write);
        let gone = tokio::time::timeout(CLEAR_DEADLINE, self.shim.wait()).await;
        if gone.is_err() {
            tracing::warn!("the shim of a sandbox did not end; killing it");
            let _ = self.shim.kill().await;
        }
        // The group is removed after the runtime is done with it.
        drop(group);
        drop(self.slot);
    }
}

/// `None` when the shim is gone.
async fn receive(socket: &AsyncFd<OwnedFd>) -> io::Result<Option<InitReport>> {
    let mut buffer = vec![0; INIT_REPORT_MAX];
    loop {
        let mut ready = socket.readable().await?;
        let Ok(received) = ready.try_io(|socket| sys::net::receive(socket, &mut buffer)) else {
            continue;
        };
        let (length, _) = received?;
        if length == 0 {
            return Ok(None);
        }
        return serde_json::from_slice(&buffer[..length])
            .map(Some)
            .map_err(io::Error::from);
    }
}

/// Kills by word.
#[derive(Debug)]
struct Shim(Arc<AsyncFd<OwnedFd>>);

impl Killer for Shim {
    fn needs_thawed(&self) -> bool {
        // A runtime asks the kernel of its own for it, which is frozen too.
        true
    }

    fn kill(&self) -> io::Result<()> {
        match sys::net::send(self.0.get_ref(), KILL, &[]) {
            // It is gone, or has been told so often that it will hear.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe
                        | io::ErrorKind::WouldBlock
                        | io::ErrorKind::NotConnected
                ) =>
            {
                Ok(())
            }
            other => other,
        }
    }
}
