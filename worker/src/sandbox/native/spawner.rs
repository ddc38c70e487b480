//! The spawner: a small single-threaded process that makes sandboxes for the worker.
//!
//! It exists because a fork costs by the memory of the parent, and because entering a mount namespace is forbidden to
//! a process with threads. The worker starts its own executable again (`hearth __spawner`) with one end of a
//! `SOCK_SEQPACKET` pair as standard input; `main` must reach [`main`] before it makes any thread.
//!
//! The spawner ends when that socket closes, which the kernel does when the worker dies, however it dies. (A parent
//! death signal would do harm instead: it follows the *thread* that started the spawner.) Each init asks for a parent
//! death signal from the spawner, so all sandboxes end with it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Pid, Uid, dup2_stdin, fchown, setsid};

use super::config::ID_RANGE;
use super::init::{self, Plan};
use super::rootfs::{self, Places, c_string};
use super::seccomp;
use super::step::{Named, StepError};
use super::supervise::Supervised;
use super::wire::{
    Failure, INIT_REPORT_MAX, InitReport, MESSAGE_MAX, ProgramEnd, Reply, Request, StartRequest,
    encode,
};
use crate::sandbox::driver::{SANDBOX_GID, SANDBOX_UID};
use crate::sandbox::sys;
use crate::sandbox::sys::process::Cloned;

/// The namespaces of a sandbox, except the network's, which is made beforehand, and the cgroup's, which init makes
/// once it is in its group.
const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// The event of the worker's socket; sandboxes are numbered from 1.
const WORKER: u64 = 0;

/// Events taken from the kernel at once.
const EVENTS: usize = 64;

/// Runs the spawner on the socket that is standard input. Returns the exit code of the process.
#[must_use]
pub fn main() -> std::process::ExitCode {
    match serve() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            // The worker has been told where possible; standard error is the worker's own.
            eprintln!("hearth spawner: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), StepError> {
    let threads = fs::read_dir("/proc/self/task")
        .step(|| "count threads".to_owned())?
        .count();
    if threads != 1 {
        return Err(StepError {
            step: format!("started with {threads} threads"),
            errno: Errno::EINVAL as i32,
        });
    }
    let worker = nix::fcntl::fcntl(io::stdin(), nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(3))
        .step(|| "take the socket".to_owned())?;
    let worker = sys::process::adopt(worker);
    let null = open(
        c"/dev/null",
        OFlag::O_RDWR | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .step(|| "open /dev/null".to_owned())?;
    dup2_stdin(&null).step(|| "redirect standard input".to_owned())?;
    match prepare(&worker) {
        Ok(Some(mut spawner)) => {
            spawner.reply(&Reply::Ready, None)?;
            spawner.run()
        }
        Ok(None) => Ok(()),
        Err(error) => {
            let reply = Reply::Unusable {
                step: error.step.clone(),
                errno: error.errno,
            };
            sys::net::send(&worker, &encode(&reply), &[])
                .step(|| "report to the worker".to_owned())?;
            Err(error)
        }
    }
}

/// `None`: the worker is gone before it said anything.
fn prepare(worker: &OwnedFd) -> Result<Option<Spawner>, StepError> {
    // Signals meant for the worker (a terminal's, an init system's) must not take its sandboxes while it drains.
    let mut ignored = SigSet::empty();
    ignored.extend([
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ]);
    sys::process::default_signals();
    ignored.thread_block().step(|| "block signals".to_owned())?;
    // Fails for a process that leads its group already, which then needs no session either.
    let _ = setsid();
    let mut buffer = vec![0; MESSAGE_MAX];
    let (length, _) = sys::net::receive(worker, &mut buffer).step(|| "receive".to_owned())?;
    if length == 0 {
        return Ok(None);
    }
    let invalid = || StepError {
        step: "understand the worker".to_owned(),
        errno: Errno::EPROTO as i32,
    };
    let Ok(Request::Configure { state_dir }) = serde_json::from_slice(&buffer[..length]) else {
        return Err(invalid());
    };
    unshare(CloneFlags::CLONE_NEWNS)
        .step(|| "unshare the mount namespace (is this root?)".to_owned())?;
    // Slave: what the host mounts later (code images) is seen here, what is mounted here is not seen there.
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_SLAVE,
        None::<&str>,
    )
    .step(|| "make mounts private".to_owned())?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).step(|| "epoll".to_owned())?;
    epoll
        .add(worker, EpollEvent::new(EpollFlags::EPOLLIN, WORKER))
        .step(|| "watch the worker".to_owned())?;
    let netns = File::open("/proc/self/ns/net").step(|| "open the network namespace".to_owned())?;
    let oom_score_adj =
        fs::read_to_string("/proc/self/oom_score_adj").step(|| "read oom_score_adj".to_owned())?;
    Ok(Some(Spawner {
        is_protected: oom_score_adj.starts_with('-'),
        places: Places::make(Path::new(&state_dir))?,
        worker: worker
            .try_clone()
            .step(|| "duplicate the socket".to_owned())?,
        epoll,
        netns,
        filter: Rc::new(seccomp::program()),
        children: BTreeMap::new(),
        serial: WORKER,
        buffer,
    }))
}

/// A program may open its own output again, as /dev/stderr; that asks the pipe's owner.
fn give_away(output: &OwnedFd, uid_base: u32) -> Result<(), StepError> {
    let (uid, gid) = (uid_base + SANDBOX_UID, uid_base + SANDBOX_GID);
    fchown(output, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .step(|| "give the output pipe away".to_owned())
}

#[derive(Debug)]
struct Spawner {
    worker: OwnedFd,
    epoll: Epoll,
    places: Places,
    /// The spawner's own, to come back to.
    netns: File,
    is_protected: bool,
    filter: Rc<Vec<seccompiler::sock_filter>>,
    children: BTreeMap<u64, Child>,
    serial: u64,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Child {
    key: u64,
    pid: Pid,
    pidfd: OwnedFd,
    socket: OwnedFd,
    phase: Phase,
    /// Init closed its socket; its process is awaited.
    closing: bool,
}

/// `Starting -> Running(None) -> Running(Some)` or `Starting -> Failed`; the end of init's process ends all.
#[derive(Debug)]
enum Phase {
    Starting,
    Failed(Failure),
    Running(Option<ProgramEnd>),
}

impl Spawner {
    fn run(&mut self) -> Result<(), StepError> {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other.step(|| "epoll_wait".to_owned())?,
            };
            for event in &events[..count] {
                match event.data() {
                    WORKER => {
                        if !self.on_worker()? {
                            return Ok(());
                        }
                    }
                    serial => self.on_child(serial)?,
                }
            }
        }
    }

    fn reply(&self, reply: &Reply, pidfd: Option<BorrowedFd<'_>>) -> Result<(), StepError> {
        sys::net::send(&self.worker, &encode(reply), pidfd.as_slice())
            .step(|| "reply to the worker".to_owned())
    }

    /// False when the worker is gone.
    fn on_worker(&mut self) -> Result<bool, StepError> {
        let received = sys::net::receive(&self.worker, &mut self.buffer);
        let (length, descriptors) = received.step(|| "receive".to_owned())?;
        if length == 0 {
            return Ok(false);
        }
        match serde_json::from_slice(&self.buffer[..length]) {
            Ok(Request::Start(request)) => {
                if let Err(error) = self.start(&request, descriptors) {
                    let failure = Failure::Setup {
                        step: error.step,
                        errno: error.errno,
                    };
                    self.reply(
                        &Reply::Failed {
                            key: request.key,
                            failure,
                        },
                        None,
                    )?;
                }
                Ok(true)
            }
            Ok(Request::Configure { .. }) | Err(_) => Err(StepError {
                step: "understand the worker".to_owned(),
                errno: Errno::EPROTO as i32,
            }),
        }
    }

    fn start(
        &mut self,
        request: &StartRequest,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), StepError> {
        let (plan, netns, cgroup) = self.plan(request, descriptors)?;
        let (socket, inside) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .step(|| "make a socket pair".to_owned())?;
        setns(&netns, CloneFlags::CLONE_NEWNET)
            .step(|| "enter the network namespace".to_owned())?;
        let cloned = sys::process::clone_process(NAMESPACES, cgroup.as_ref().map(AsFd::as_fd));
        if let Ok(Cloned::Child) = cloned {
            // Init must not hold the spawner's end itself, or it would never see the spawner go.
            drop(socket);
            init::run(plan, inside)
        }
        setns(&self.netns, CloneFlags::CLONE_NEWNET)
            .step(|| "leave the network namespace".to_owned())?;
        let Cloned::Parent(pid, pidfd) = cloned.step(|| "clone3".to_owned())? else {
            unreachable!("the child never returns")
        };
        drop(inside);
        let child = Child {
            key: request.key,
            pid,
            pidfd,
            socket,
            phase: Phase::Starting,
            closing: false,
        };
        if let Err(error) = self.release(&child, request.uid_base) {
            let _ = sys::process::signal_process(&child.pidfd, libc::SIGKILL);
            let _ = sys::process::wait_for(Some(pid));
            return Err(error);
        }
        self.children.insert(self.serial, child);
        Ok(())
    }

    /// Writes the id maps, watches the child and lets it go on.
    fn release(&mut self, child: &Child, uid_base: u32) -> Result<(), StepError> {
        let map = format!("0 {uid_base} {ID_RANGE}\n");
        for name in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{name}", child.pid), &map)
                .step(|| format!("write {name}"))?;
        }
        self.serial += 1;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, self.serial);
        self.epoll
            .add(&child.socket, event)
            .step(|| "watch a sandbox".to_owned())?;
        sys::net::send(&child.socket, b"go", &[]).step(|| "release init".to_owned())
    }

    fn plan(
        &self,
        request: &StartRequest,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(Plan, OwnedFd, Option<OwnedFd>), StepError> {
        let missing = || StepError {
            step: "take the descriptors".to_owned(),
            errno: Errno::EPROTO as i32,
        };
        let mut descriptors = descriptors.into_iter();
        let netns = descriptors.next().ok_or_else(missing)?;
        let output = descriptors.next().ok_or_else(missing)?;
        give_away(&output, request.uid_base)?;
        let tasks: Vec<OwnedFd> = descriptors.by_ref().take(request.tasks).collect();
        let cgroup = if request.cgroup_dir {
            Some(descriptors.next().ok_or_else(missing)?)
        } else {
            None
        };
        let scratch = if request.scratch {
            Some(descriptors.next().ok_or_else(missing)?)
        } else {
            None
        };
        let supervised = if request.extensions.is_empty() {
            None
        } else {
            let output = descriptors.next().ok_or_else(missing)?;
            give_away(&output, request.uid_base)?;
            Some((output, descriptors.next().ok_or_else(missing)?))
        };
        let held = if request.held {
            Some(descriptors.next().ok_or_else(missing)?)
        } else {
            None
        };
        let strings = |list: &[String]| {
            list.iter()
                .map(|text| c_string(text))
                .collect::<Result<Vec<_>, StepError>>()
        };
        let plan = Plan {
            trees: rootfs::prepare(&self.places, request, scratch)?,
            tasks,
            output,
            hostname: request.hostname.clone(),
            cwd: c_string(&request.cwd)?,
            argv: strings(&request.argv)?,
            env: strings(&request.env)?,
            is_protected: self.is_protected,
            filter: Rc::clone(&self.filter),
            held,
            supervised: match supervised {
                None => None,
                Some((output, worker)) => Some(Supervised {
                    programs: strings(&request.extensions)?,
                    env: strings(&request.extension_env)?,
                    output,
                    worker,
                }),
            },
        };
        Ok((plan, netns, cgroup))
    }

    /// A report of init, or its end.
    fn on_child(&mut self, serial: u64) -> Result<(), StepError> {
        let Some(child) = self.children.get_mut(&serial) else {
            return Ok(());
        };
        if child.closing {
            return self.on_end(serial);
        }
        let mut buffer = [0; INIT_REPORT_MAX];
        // An error here (a message cut short) can come from a broken init only, and is treated as its end.
        let length = sys::net::receive(&child.socket, &mut buffer).map_or(0, |(length, _)| length);
        if length == 0 {
            return Self::await_end(&self.epoll, child, serial);
        }
        match (serde_json::from_slice(&buffer[..length]), &child.phase) {
            (Ok(InitReport::Started), Phase::Starting) => {
                child.phase = Phase::Running(None);
                let key = child.key;
                let pidfd = child
                    .pidfd
                    .try_clone()
                    .step(|| "duplicate a pid descriptor".to_owned())?;
                self.reply(&Reply::Started { key }, Some(pidfd.as_fd()))
            }
            (Ok(InitReport::Failed(failure)), Phase::Starting) => {
                child.phase = Phase::Failed(failure);
                Ok(())
            }
            (Ok(InitReport::Ended(end)), Phase::Running(None)) => {
                child.phase = Phase::Running(Some(end));
                Ok(())
            }
            // After a failure init still goes through its motions; there is nothing to tell any more.
            (Ok(_) | Err(_), _) => Ok(()),
        }
    }

    /// Init closed its socket: it is dying, and everything in its pid namespace with it. That takes a while when much
    /// memory is to be freed, so the end is awaited with all other events.
    fn await_end(epoll: &Epoll, child: &mut Child, serial: u64) -> Result<(), StepError> {
        // Not needed when init exits by itself, but makes sure that the end comes.
        sys::process::signal_process(&child.pidfd, libc::SIGKILL)
            .step(|| "kill init".to_owned())?;
        child.closing = true;
        epoll
            .delete(&child.socket)
            .step(|| "unwatch a socket".to_owned())?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, serial);
        epoll
            .add(&child.pidfd, event)
            .step(|| "watch init's end".to_owned())
    }

    /// Init is a zombie: the sandbox is empty.
    fn on_end(&mut self, serial: u64) -> Result<(), StepError> {
        let Some(child) = self.children.remove(&serial) else {
            return Ok(());
        };
        // The worker's copy of the descriptor keeps it alive, so epoll would go on reporting it.
        self.epoll
            .delete(&child.pidfd)
            .step(|| "unwatch init's end".to_owned())?;
        let (_, status) =
            sys::process::wait_for(Some(child.pid)).step(|| format!("reap init {}", child.pid))?;
        // Whoever hears of the end may count on its descriptors being closed.
        drop((child.pidfd, child.socket));
        let key = child.key;
        let reply = match child.phase {
            Phase::Starting => {
                let step = format!("init ended early, wait status {status:#x}");
                Reply::Failed {
                    key,
                    failure: Failure::Setup {
                        step,
                        errno: Errno::ECHILD as i32,
                    },
                }
            }
            Phase::Failed(failure) => Reply::Failed { key, failure },
            Phase::Running(end) => Reply::Exited { key, end },
        };
        self.reply(&reply, None)
    }
}
