//! The worker's end of the socket to the init of a sandbox with extensions ([`super::supervise`]).

use std::io;
use std::os::fd::OwnedFd;

use async_trait::async_trait;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::pipe2;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::Receiver;

use super::wire::{Command, INIT_REPORT_MAX, ProcessReport, ProgramEnd, encode};
use crate::sandbox::driver::{ExitStatus, ProcessEvent, Processes, StartedExtensions};
use crate::sandbox::sys;

/// See [`Processes`].
#[derive(Debug)]
struct NativeProcesses(AsyncFd<OwnedFd>);

impl NativeProcesses {
    /// This end, and init's.
    fn make() -> io::Result<(Self, OwnedFd)> {
        let (ours, inside) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok((Self(sys::net::watch(ours)?), inside))
    }

    /// Never waits: init reads the little it is told, and a full socket means that it does not.
    fn tell(&self, command: Command) -> io::Result<()> {
        sys::net::send(self.0.get_ref(), &encode(&command), &[])
    }
}

#[async_trait]
impl Processes for NativeProcesses {
    async fn next(&self) -> Option<ProcessEvent> {
        let mut buffer = [0; INIT_REPORT_MAX];
        loop {
            let mut ready = self.0.readable().await.ok()?;
            let Ok(received) = ready.try_io(|socket| sys::net::receive(socket, &mut buffer)) else {
                continue;
            };
            let (length, _) = received.ok().filter(|(length, _)| *length > 0)?;
            let report = serde_json::from_slice(&buffer[..length]).ok()?;
            return Some(match report {
                ProcessReport::ExecFailed(process, errno) => {
                    ProcessEvent::ExecFailed(process, errno)
                }
                ProcessReport::Ended(process, ProgramEnd::Exited(code)) => {
                    ProcessEvent::Ended(process, ExitStatus::Exited(code))
                }
                ProcessReport::Ended(process, ProgramEnd::Signaled(signal)) => {
                    ProcessEvent::Ended(process, ExitStatus::Signaled(signal))
                }
            });
        }
    }

    fn start_runtime(&self) -> io::Result<()> {
        self.tell(Command::StartRuntime)
    }

    fn kill_runtime(&self) -> io::Result<()> {
        self.tell(Command::KillRuntime)
    }
}

/// The reading end of a sandbox's output, and the sandbox's own.
pub(super) fn output_pipe() -> io::Result<(Receiver, OwnedFd)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    Ok((Receiver::from_owned_fd(read)?, write))
}

/// What a sandbox with extensions has besides: a pipe for their output, a socket to its init.
#[derive(Debug)]
pub(super) struct Supervision {
    output: Receiver,
    pub(super) write: OwnedFd,
    processes: NativeProcesses,
    pub(super) inside: OwnedFd,
}

impl Supervision {
    pub(super) fn make() -> io::Result<Self> {
        let (output, write) = output_pipe()?;
        let (processes, inside) = NativeProcesses::make()?;
        Ok(Self {
            output,
            write,
            processes,
            inside,
        })
    }

    /// The sandbox has its own copies of its ends; they are closed here.
    pub(super) fn into_started(self) -> StartedExtensions {
        StartedExtensions {
            output: Box::new(self.output),
            processes: Box::new(self.processes),
        }
    }
}
