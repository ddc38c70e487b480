//! The init of a sandbox with extensions: starts these, then the runtime when the worker says so, and tells the worker how
//! each of them ends. Unlike [`super::init`]'s usual watch it does not end with the runtime: the extensions have something
//! left to do, and the worker knows for how long.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, dup2_stderr, dup2_stdout};

use super::init::{Plan, confine, end_of, fail, prepare_program, report};
use super::wire::{Command, INIT_REPORT_MAX, InitReport, ProcessReport, encode};
use crate::sandbox::driver::Process;
use crate::sandbox::sys;

/// What a sandbox with extensions has besides; made by the spawner before the clone.
#[derive(Debug)]
pub(crate) struct Supervised {
    pub(crate) programs: Vec<CString>,
    pub(crate) env: Vec<CString>,
    pub(crate) output: OwnedFd,
    /// Leads to the worker.
    pub(crate) worker: OwnedFd,
}

struct Supervisor<'a> {
    plan: &'a Plan,
    socket: OwnedFd,
    worker: OwnedFd,
    running: Vec<(Pid, Process)>,
}

/// The life of this init once the sandbox is built. `socket` leads to the spawner.
pub(super) fn run(plan: &Plan, supervised: Supervised, socket: OwnedFd) -> ! {
    let Supervised {
        programs,
        env,
        output,
        worker,
    } = supervised;
    let Ok([socket, worker, output]) = sys::process::keep_only([socket, worker, output]) else {
        sys::process::exit_now(1)
    };
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    let ends = children.thread_block().and_then(|()| {
        SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
    });
    let ends = match ends {
        Ok(ends) => ends,
        Err(errno) => fail(&socket, "watch children".to_owned(), errno as i32),
    };
    confine(plan, &socket);
    let mut supervisor = Supervisor {
        plan,
        socket,
        worker,
        running: Vec::with_capacity(programs.len() + 1),
    };
    for (place, program) in programs.iter().enumerate() {
        supervisor.start(Process::Extension(place), || {
            dup2_stdout(&output)?;
            dup2_stderr(&output)?;
            prepare_program(c"/")?;
            Ok(sys::process::execute(
                program,
                std::slice::from_ref(program),
                &env,
            ))
        });
    }
    // Ends for the reader with the last extension.
    drop(output);
    report(&supervisor.socket, &InitReport::Started);
    supervisor.serve(&ends)
}

impl Supervisor<'_> {
    /// `become_it` returns only if it could not.
    fn start(&mut self, process: Process, become_it: impl FnOnce() -> nix::Result<std::io::Error>) {
        match sys::process::fork_and_hold() {
            Ok(None) => {
                let errno = match become_it() {
                    Ok(error) => error.raw_os_error().unwrap_or(Errno::EIO as i32),
                    Err(errno) => errno as i32,
                };
                self.tell(&ProcessReport::ExecFailed(process, errno));
                sys::process::exit_now(127)
            }
            Ok(Some(pid)) => self.running.push((pid, process)),
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(Errno::EIO as i32);
                self.tell(&ProcessReport::ExecFailed(process, errno));
            }
        }
    }

    /// A worker that is gone takes the spawner along, and that this process.
    fn tell(&self, message: &ProcessReport) {
        let _ = sys::net::send(&self.worker, &encode(message), &[]);
    }

    fn serve(mut self, ends: &SignalFd) -> ! {
        loop {
            let mut sources = [
                PollFd::new(self.worker.as_fd(), PollFlags::POLLIN),
                PollFd::new(ends.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut sources, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => sys::process::exit_now(1),
            }
            let [is_told, is_ended] = sources.map(|source| source.any().unwrap_or(false));
            if is_ended {
                while let Ok(Some(_)) = ends.read_signal() {}
                self.reap();
            }
            if is_told {
                self.obey();
            }
        }
    }

    fn obey(&mut self) {
        let mut buffer = [0; INIT_REPORT_MAX];
        let length = match sys::net::receive(&self.worker, &mut buffer) {
            Ok((length, _)) if length > 0 => length,
            _ => sys::process::exit_now(1),
        };
        let runtime = self
            .running
            .iter()
            .find(|(_, process)| *process == Process::Runtime);
        match (serde_json::from_slice(&buffer[..length]), runtime) {
            (Ok(Command::StartRuntime), None) => {
                let plan = self.plan;
                self.start(Process::Runtime, || {
                    prepare_program(&plan.cwd)?;
                    Ok(sys::process::execute(&plan.argv[0], &plan.argv, &plan.env))
                });
                if let Some((pid, Process::Runtime)) = self.running.last() {
                    sys::process::hand_on_terminations(*pid);
                }
            }
            (Ok(Command::KillRuntime), Some((pid, _))) => {
                // Its group, which it leads; it may be ending already.
                let _ = kill(Pid::from_raw(-pid.as_raw()), Signal::SIGKILL);
            }
            // It runs already, or is gone: nothing to do.
            (Ok(Command::StartRuntime), Some(_))
            | (Ok(Command::KillRuntime), None)
            | (Err(_), _) => {}
        }
    }

    /// All that ended, orphans among them.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = sys::process::reap() {
            let Some(place) = self.running.iter().position(|(running, _)| *running == pid) else {
                continue;
            };
            let (_, process) = self.running.swap_remove(place);
            let end = end_of(status);
            if process == Process::Runtime {
                // A number that may soon be another's.
                sys::process::hand_on_terminations(Pid::from_raw(0));
                report(&self.socket, &InitReport::Ended(end));
            }
            self.tell(&ProcessReport::Ended(process, end));
        }
    }
}
