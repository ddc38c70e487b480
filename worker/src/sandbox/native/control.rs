//! One running sandbox as the worker sees it.

use std::fmt::Debug;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Type};
use tokio::net::TcpSocket;
use tokio::sync::{oneshot, watch};

use super::cgroup::{Group, Limits};
use super::cleaner::{OwnedGroup, OwnedScratch};
use super::wire::ProgramEnd;
use crate::sandbox::driver::{ExitReport, ExitStatus, RuntimeApiStream, SandboxControl};
use crate::sandbox::sys;

const SIGKILL: i32 = libc::SIGKILL;

/// The way to a sandbox's processes.
pub(in crate::sandbox) trait Killer: Debug + Send + Sync {
    /// Kills all of them; those that are gone are no error.
    fn kill(&self) -> io::Result<()>;

    /// Whether that needs processes that run.
    fn needs_thawed(&self) -> bool {
        false
    }

    /// The process descriptor of an init of ours, which hands signals on and is in all of the sandbox's namespaces.
    fn init(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The first process, whose death ends its pid namespace.
impl Killer for OwnedFd {
    fn kill(&self) -> io::Result<()> {
        sys::process::signal_process(self, SIGKILL)
    }

    fn init(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

/// Shared by the table of running sandboxes and the control.
#[derive(Debug)]
pub(in crate::sandbox) struct Sandbox {
    /// Until the end; `None` from the start on a host without cgroups.
    group: Mutex<Option<OwnedGroup>>,
    /// Until the end; `None` from the start when `/tmp` is a tmpfs.
    scratch: Mutex<Option<OwnedScratch>>,
    /// Set when started.
    killer: OnceLock<Box<dyn Killer>>,
    /// Whether we killed it ourselves.
    killed: AtomicBool,
    end: watch::Sender<Option<ExitReport>>,
}

impl Sandbox {
    pub(in crate::sandbox) fn new(
        group: Option<OwnedGroup>,
        scratch: Option<OwnedScratch>,
    ) -> Arc<Self> {
        Arc::new(Self {
            group: Mutex::new(group),
            scratch: Mutex::new(scratch),
            killer: OnceLock::new(),
            killed: AtomicBool::new(false),
            end: watch::Sender::new(None),
        })
    }

    fn group(&self) -> MutexGuard<'_, Option<OwnedGroup>> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `action` on the group; `default` without one.
    fn with_group<T>(&self, default: T, action: impl FnOnce(&dyn Group) -> T) -> T {
        self.group()
            .as_ref()
            .map_or(default, |owned| action(owned.group()))
    }

    /// It runs from now on.
    pub(in crate::sandbox) fn on_started(
        self: &Arc<Self>,
        killer: Box<dyn Killer>,
    ) -> LinuxControl {
        // A second report of the same start cannot come: the table forgets the waiting side with the first.
        let _ = self.killer.set(killer);
        LinuxControl(Arc::clone(self))
    }

    pub(super) fn kill(&self) {
        if self.end.borrow().is_some() {
            return;
        }
        self.killed.store(true, Ordering::Relaxed);
        let needs_thawed = self
            .killer
            .get()
            .is_some_and(|killer| killer.needs_thawed());
        let thawed = self.with_group(Ok(()), |group| {
            if needs_thawed || group.is_kill_stopped_by_freezer() {
                group.set_frozen(false)
            } else {
                Ok(())
            }
        });
        let killed = self.killer.get().map_or(Ok(()), |killer| killer.kill());
        if let Err(error) = thawed.and(killed) {
            tracing::error!(%error, "sandbox could not be killed");
        }
    }

    /// Every process is gone; the image goes too, and the group once the caller drops it.
    pub(in crate::sandbox) fn on_end(&self, end: Option<ProgramEnd>) -> Option<OwnedGroup> {
        drop(
            self.scratch
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let owned = self.group().take();
        let group = owned.as_ref().map(OwnedGroup::group);
        let was_out_of_memory = group.is_some_and(Group::was_out_of_memory);
        let status = exit_status(end, was_out_of_memory, self.killed.load(Ordering::Relaxed));
        let memory_peak_bytes = group.and_then(Group::memory_peak_bytes);
        self.end.send_replace(Some(ExitReport {
            status,
            memory_peak_bytes,
        }));
        owned
    }
}

/// The kernel's memory killer sends SIGKILL to the program, or in the worst case to init, which then reports nothing.
/// Our own kill always hits init.
fn exit_status(end: Option<ProgramEnd>, was_out_of_memory: bool, was_killed: bool) -> ExitStatus {
    match end {
        Some(ProgramEnd::Signaled(SIGKILL)) if was_out_of_memory => ExitStatus::OutOfMemory,
        None if was_out_of_memory && !was_killed => ExitStatus::OutOfMemory,
        Some(ProgramEnd::Exited(code)) => ExitStatus::Exited(code),
        Some(ProgramEnd::Signaled(signal)) => ExitStatus::Signaled(signal),
        None => ExitStatus::Signaled(SIGKILL),
    }
}

/// A socket in the network namespace of a process. Made by a thread that ends with it, as nothing else may run in there.
async fn socket_inside(pidfd: OwnedFd) -> io::Result<TcpSocket> {
    let (done, made) = oneshot::channel();
    std::thread::Builder::new()
        .name("inside".to_owned())
        .spawn(move || {
            let socket = setns(&pidfd, CloneFlags::CLONE_NEWNET)
                .map_err(io::Error::from)
                .and_then(|()| socket2::Socket::new(Domain::IPV4, Type::STREAM, None));
            // Nobody may be waiting any more.
            let _ = done.send(socket);
        })?;
    let socket = made.await.map_err(io::Error::other)??;
    socket.set_nonblocking(true)?;
    // Not connected yet, which neither type minds.
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// The control handed out; dropping it kills.
#[derive(Debug)]
pub(in crate::sandbox) struct LinuxControl(Arc<Sandbox>);

impl LinuxControl {
    pub(super) fn has_ended(&self) -> bool {
        self.0.end.borrow().is_some()
    }

    /// Those of its owner, who was not known when it was made.
    pub(super) fn set_limits(&self, limits: Limits) -> io::Result<()> {
        self.0.with_group(Ok(()), |group| group.set_limits(limits))
    }
}

#[async_trait]
impl SandboxControl for LinuxControl {
    async fn wait(&self) -> ExitReport {
        let mut end = self.0.end.subscribe();
        let report = end
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|report| *report);
        report.expect("the sender lives in self, and the value waited for is Some")
    }

    fn kill(&self) {
        self.0.kill();
    }

    fn set_cpu(&self, cpu_millis: u32) -> io::Result<()> {
        self.0.with_group(Ok(()), |group| group.set_cpu(cpu_millis))
    }

    fn memory_peak_bytes(&self) -> Option<u64> {
        let ended = *self.0.end.borrow();
        match ended {
            Some(report) => report.memory_peak_bytes,
            None => self.0.with_group(None, |group| group.memory_peak_bytes()),
        }
    }

    fn freeze(&self) -> io::Result<()> {
        self.0.with_group(Ok(()), |group| group.set_frozen(true))
    }

    fn thaw(&self) -> io::Result<()> {
        self.0.with_group(Ok(()), |group| group.set_frozen(false))
    }

    fn terminate(&self) -> io::Result<()> {
        // Init hands it on.
        let init = self.0.killer.get().and_then(|killer| killer.init());
        let init = init.ok_or(io::ErrorKind::Unsupported)?;
        sys::process::signal_process(init, libc::SIGTERM)
    }

    fn was_out_of_memory(&self) -> bool {
        self.0.with_group(false, |group| group.was_out_of_memory())
    }

    async fn connect(&self, port: u16) -> io::Result<Box<dyn RuntimeApiStream>> {
        let init = self.0.killer.get().and_then(|killer| killer.init());
        let init = init
            .ok_or(io::ErrorKind::Unsupported)?
            .try_clone_to_owned()?;
        let socket = socket_inside(init).await?;
        let stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await?;
        Ok(Box::new(stream))
    }
}

impl Drop for LinuxControl {
    fn drop(&mut self) {
        self.0.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_memory_is_told_from_other_ends() {
        let killed = Some(ProgramEnd::Signaled(SIGKILL));
        assert_eq!(exit_status(killed, true, false), ExitStatus::OutOfMemory);
        assert_eq!(exit_status(killed, false, false), ExitStatus::Signaled(9));
        assert_eq!(exit_status(None, true, false), ExitStatus::OutOfMemory);
        assert_eq!(exit_status(None, true, true), ExitStatus::Signaled(9));
        assert_eq!(exit_status(None, false, false), ExitStatus::Signaled(9));
        // A child of the program was killed at the limit, the program went on and ended by itself.
        assert_eq!(
            exit_status(Some(ProgramEnd::Exited(3)), true, false),
            ExitStatus::Exited(3)
        );
        assert_eq!(
            exit_status(Some(ProgramEnd::Signaled(11)), true, false),
            ExitStatus::Signaled(11)
        );
    }
}
