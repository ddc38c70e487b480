//! The shim: a small process that makes one sandbox with an OCI runtime, and stays for as long as the sandbox lives.
//!
//! It exists because a runtime's `create` ends and leaves the program behind: somebody must be its parent to learn how it
//! ends, and must end it when the worker is gone. The worker starts its own executable (`hearth __oci-shim`) with one end
//! of a `SOCK_SEQPACKET` pair as standard input. What is mounted for the sandbox is mounted in the shim's own mount
//! namespace, so nothing is left of it when the shim is gone.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};

use super::bundle::{self, Places};
use super::config::ExitSource;
use super::wire::ShimRequest;
use crate::sandbox::native::rootfs::c_string;
use crate::sandbox::native::step::{Named, StepError};
use crate::sandbox::native::wire::{Failure, InitReport, MESSAGE_MAX, ProgramEnd, encode};
use crate::sandbox::sys;
use crate::sandbox::sys::mount::{ATTR_NODEV, ATTR_NOSUID, ATTR_RDONLY, attach_tree, clone_tree};

/// How long one call of the runtime may take; a virtual machine boots within it.
const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// Between two looks at a running call; short against a call, which takes tens of milliseconds.
const CALL_PAUSE: Duration = Duration::from_millis(2);

/// Runs the shim on the socket that is standard input. Returns the exit code of the process.
#[must_use]
pub fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hearth oci shim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), StepError> {
    let socket = nix::fcntl::fcntl(io::stdin(), nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(3))
        .step(|| "take the socket".to_owned())?;
    let socket = Arc::new(sys::process::adopt(socket));
    // Signals of a terminal are the worker's, which ends its sandboxes in order.
    let _ = setsid();
    let mut buffer = vec![0; MESSAGE_MAX];
    let (length, descriptors) =
        sys::net::receive(&*socket, &mut buffer).step(|| "receive the request".to_owned())?;
    if length == 0 {
        return Ok(());
    }
    let request: ShimRequest = serde_json::from_slice(&buffer[..length])
        .map_err(io::Error::from)
        .step(|| "read the request".to_owned())?;
    let mut shim = Shim::new(request, descriptors)?;
    let started = shim.start();
    let waiter = match started {
        Ok(waiter) => waiter,
        Err(failure) => {
            shim.clear();
            return report(&socket, &InitReport::Failed(failure));
        }
    };
    report(&socket, &InitReport::Started)?;
    let shim = Arc::new(shim);
    let orders = listen(Arc::clone(&socket), Arc::clone(&shim))?;
    let end = shim.await_end(waiter);
    report(&socket, &InitReport::Ended(end))?;
    // The worker reads the group's counters now; an error means that it is gone.
    let _ = orders.recv();
    shim.clear();
    Ok(())
}

fn report(socket: &OwnedFd, message: &InitReport) -> Result<(), StepError> {
    match sys::net::send(socket, &encode(message), &[]) {
        // A worker that is gone needs no report.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.step(|| "report to the worker".to_owned()),
    }
}

/// Hears the worker: kills on its word and at the end of the connection, of which the channel tells.
fn listen(socket: Arc<OwnedFd>, shim: Arc<Shim>) -> Result<Receiver<()>, StepError> {
    let (gone, is_gone) = channel();
    let hear = move || {
        let mut word = [0; 16];
        loop {
            let heard = sys::net::receive(&*socket, &mut word);
            shim.kill();
            if !matches!(heard, Ok((1.., _))) {
                let _ = gone.send(());
                return;
            }
        }
    };
    thread::Builder::new()
        .name("worker".to_owned())
        .spawn(hear)
        .step(|| "start a thread".to_owned())?;
    Ok(is_gone)
}

fn setup(error: StepError) -> Failure {
    Failure::Setup {
        step: error.step,
        errno: error.errno,
    }
}

/// How the end of the program is learned.
enum Waiter {
    Process(Pid),
    Run(Child),
}

struct Shim {
    request: ShimRequest,
    network: OwnedFd,
    /// Until the program has it; `None` then, so that the output ends with the last process inside.
    output: Option<OwnedFd>,
    scratch: Option<OwnedFd>,
}

impl Shim {
    fn new(request: ShimRequest, descriptors: Vec<OwnedFd>) -> Result<Self, StepError> {
        let mut descriptors = descriptors.into_iter();
        let mut next = |what: &str| {
            descriptors.next().ok_or_else(|| StepError {
                step: format!("no descriptor of the {what}"),
                errno: Errno::EBADF as i32,
            })
        };
        let (network, output) = (next("network")?, next("output")?);
        let scratch = request.start.scratch.then(|| next("/tmp")).transpose()?;
        Ok(Self {
            request,
            network,
            output: Some(output),
            scratch,
        })
    }

    fn directory(&self) -> &Path {
        &self.request.directory
    }

    fn log(&self) -> PathBuf {
        self.directory().join("log")
    }

    fn read_log(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn pid_file(&self) -> PathBuf {
        self.directory().join("pid")
    }

    fn program(&self) -> &str {
        self.request.start.argv.first().map_or("", String::as_str)
    }

    fn start(&mut self) -> Result<Waiter, Failure> {
        let places = self.mount().map_err(setup)?;
        let config = bundle::config(&self.request, &places).to_string();
        fs::write(self.directory().join("config.json"), config)
            .step(|| "write config.json".to_owned())
            .map_err(setup)?;
        let waiter = match self.request.runtime.exit_status {
            ExitSource::Process => Waiter::Process(self.create_and_start()?),
            ExitSource::Run => Waiter::Run(self.run()?),
        };
        Ok(waiter)
    }

    /// A call that makes the sandbox; the program inherits the output.
    fn making(&mut self, subcommand: &str) -> Result<Command, Failure> {
        let mut making = self.runtime(subcommand);
        making.arg("--bundle").arg(self.directory());
        making.arg("--pid-file").arg(self.pid_file());
        if let Some(output) = self.output.take() {
            let other = output.try_clone().step(|| "share the output".to_owned());
            making.stdout(other.map_err(setup)?).stderr(output);
        }
        Ok(making)
    }

    /// For runtimes whose sandbox is a process like others, and becomes a child of the shim.
    fn create_and_start(&mut self) -> Result<Pid, Failure> {
        prctl::set_child_subreaper(true)
            .step(|| "become the parent of what a runtime leaves".to_owned())
            .map_err(setup)?;
        let create = self.making("create")?;
        self.call("create", create)?;
        let pid = read_pid(&self.pid_file()).map_err(setup)?;
        // Before the program is executed: it is born in its groups.
        self.join().map_err(setup)?;
        self.call("start", self.runtime("start"))?;
        Ok(pid)
    }

    /// For runtimes that only tell their caller how a program ended.
    fn run(&mut self) -> Result<Child, Failure> {
        let mut run = self.making("run")?;
        let mut child = run
            .arg(&self.request.id)
            .spawn()
            .step(|| format!("run {}", self.request.runtime.program.display()))
            .map_err(setup)?;
        drop(run);
        let mut waited = Duration::ZERO;
        loop {
            if child
                .try_wait()
                .step(|| "wait for run".to_owned())
                .map_err(setup)?
                .is_some()
            {
                let log = self.read_log();
                // Without an error it was the program that has ended already.
                return if bundle::has_error(&log) {
                    Err(bundle::failure("run", &log, self.program()))
                } else {
                    Ok(child)
                };
            }
            if self.pid_file().exists() && self.is_running() {
                self.join().map_err(setup)?;
                return Ok(child);
            }
            if waited >= CALL_DEADLINE {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Failure::Setup {
                    step: "wait for run".to_owned(),
                    errno: Errno::ETIMEDOUT as i32,
                });
            }
            thread::park_timeout(CALL_PAUSE);
            waited += CALL_PAUSE;
        }
    }

    fn is_running(&self) -> bool {
        let said = self
            .runtime("state")
            .arg(&self.request.id)
            .stdout(Stdio::piped())
            .output();
        said.is_ok_and(|said| bundle::is_running(&said.stdout))
    }

    /// Puts what the runtime has made into the group that it does not know.
    fn join(&self) -> Result<(), StepError> {
        let Some((members, procs)) = &self.request.join else {
            return Ok(());
        };
        let pids = fs::read_to_string(members).step(|| format!("read {}", members.display()))?;
        for pid in pids.lines() {
            match fs::write(procs, pid) {
                // It ended meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                other => other.step(|| format!("join {}", procs.display()))?,
            }
        }
        Ok(())
    }

    /// Puts the parts where the runtime finds them, visible here alone.
    fn mount(&self) -> Result<Places, StepError> {
        let directory = self.directory();
        fs::create_dir_all(directory).step(|| format!("create {}", directory.display()))?;
        // The sandbox's user, who is nobody on the host, passes through to the root.
        fs::set_permissions(directory, PermissionsExt::from_mode(0o711))
            .step(|| format!("open {}", directory.display()))?;
        unshare(CloneFlags::CLONE_NEWNS).step(|| "unshare the mount namespace".to_owned())?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            .step(|| "make mounts private".to_owned())?;
        let plain = ATTR_NOSUID | ATTR_NODEV;
        let start = &self.request.start;
        let root = directory.join("root");
        show(Path::new(&start.root), &root, plain | ATTR_RDONLY)?;
        let mut mounts = Vec::with_capacity(start.mounts.len());
        for (number, wanted) in start.mounts.iter().enumerate() {
            let place = directory.join(format!("mount{number}"));
            let read_only = if wanted.writable { 0 } else { ATTR_RDONLY };
            show(Path::new(&wanted.source), &place, plain | read_only)?;
            mounts.push(place);
        }
        let tmp = match &self.scratch {
            Some(tree) => {
                let place = directory.join("tmp");
                fs::create_dir_all(&place).step(|| "create a mount point".to_owned())?;
                attach_tree(tree, &c_string(&place.to_string_lossy())?)
                    .step(|| "attach /tmp".to_owned())?;
                Some(place)
            }
            None => None,
        };
        let network = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.network.as_raw_fd()
        );
        Ok(Places {
            root,
            mounts,
            tmp,
            network: network.into(),
        })
    }

    /// A call of the runtime about this sandbox; the caller may add options.
    fn runtime(&self, subcommand: &str) -> Command {
        let runtime = &self.request.runtime;
        let mut command = Command::new(&runtime.program);
        command
            .args(&runtime.args)
            .arg("--root")
            .arg(self.directory().join("state"))
            .arg("--log")
            .arg(self.log())
            .args(["--log-format", "json", subcommand])
            .current_dir(self.directory())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// A call about this sandbox must succeed.
    fn call(&self, step: &str, mut command: Command) -> Result<(), Failure> {
        command.arg(&self.request.id);
        match Self::run_to_end(command) {
            Ok(true) => Ok(()),
            Ok(false) => Err(bundle::failure(step, &self.read_log(), self.program())),
            Err(error) => Err(Failure::Setup {
                step: format!("{step} with {}", self.request.runtime.program.display()),
                errno: error.raw_os_error().unwrap_or(Errno::EIO as i32),
            }),
        }
    }

    /// Runs a call to its end, within the deadline; whether it succeeded.
    fn run_to_end(mut command: Command) -> io::Result<bool> {
        let mut child = command.spawn()?;
        let mut waited = Duration::ZERO;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status.success());
            }
            if waited >= CALL_DEADLINE {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Errno::ETIMEDOUT.into());
            }
            thread::park_timeout(CALL_PAUSE);
            waited += CALL_PAUSE;
        }
    }

    fn await_end(&self, waiter: Waiter) -> ProgramEnd {
        match waiter {
            Waiter::Process(pid) => loop {
                match waitpid(pid, None) {
                    Ok(WaitStatus::Exited(_, code)) => return ProgramEnd::Exited(code),
                    Ok(WaitStatus::Signaled(_, signal, _)) => {
                        return ProgramEnd::Signaled(signal as i32);
                    }
                    Ok(_) | Err(Errno::EINTR) => {}
                    // It is no child of ours: a runtime that keeps it to itself needs `exit_status = "wait"`.
                    Err(_) => return ProgramEnd::Signaled(libc::SIGKILL),
                }
            },
            Waiter::Run(mut child) => match child.wait().map(|status| status.code()) {
                Ok(Some(code)) => ended(code),
                // It was killed, and with it whoever knew.
                Ok(None) | Err(_) => ProgramEnd::Signaled(libc::SIGKILL),
            },
        }
    }

    /// Kills every process of the sandbox. One that is gone is no error, and nobody could be told.
    fn kill(&self) {
        if let Some((file, word)) = &self.request.thaw {
            let _ = fs::write(file, word);
        }
        let mut kill = self.runtime("kill");
        kill.arg(&self.request.id).arg("KILL");
        let _ = Self::run_to_end(kill);
    }

    /// Removes what the runtime and the shim made.
    fn clear(&self) {
        let mut delete = self.runtime("delete");
        delete.arg("--force");
        if let Err(failure) = self.call("delete", delete) {
            let _ = writeln!(
                io::stderr(),
                "hearth oci shim: {}: {failure:?}",
                self.request.id
            );
        }
        // The mounts go with this process; the places under them are removed without entering them.
        let _ = fs::remove_dir_all(self.directory().join("state"));
        for entry in fs::read_dir(self.directory())
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            let _ = nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH);
            if fs::remove_dir(&path).is_err() {
                let _ = fs::remove_file(&path);
            }
        }
        let _ = fs::remove_dir(self.directory());
    }
}

/// Shows a directory (or file) at `place`, which is made.
fn show(source: &Path, place: &Path, attributes: u64) -> Result<(), StepError> {
    let made = if source.is_dir() {
        fs::create_dir_all(place)
    } else {
        fs::write(place, "")
    };
    made.step(|| format!("create {}", place.display()))?;
    let tree = clone_tree(&c_string(&source.to_string_lossy())?, attributes)
        .step(|| format!("clone the tree {}", source.display()))?;
    attach_tree(tree.as_fd(), &c_string(&place.to_string_lossy())?)
        .step(|| format!("attach {}", place.display()))
}

fn read_pid(file: &Path) -> Result<Pid, StepError> {
    let text = fs::read_to_string(file).step(|| "read the pid file".to_owned())?;
    let pid = text.trim().parse().map_err(|_| StepError {
        step: format!("pid file with {text:?}"),
        errno: Errno::EINVAL as i32,
    })?;
    Ok(Pid::from_raw(pid))
}

/// An exit status as `run` ends with it; a signal is told as shells do.
fn ended(code: i32) -> ProgramEnd {
    match code {
        129..=192 => ProgramEnd::Signaled(code - 128),
        code => ProgramEnd::Exited(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses_are_read_as_shells_write_them() {
        assert_eq!(ended(7), ProgramEnd::Exited(7));
        assert_eq!(ended(128), ProgramEnd::Exited(128));
        assert_eq!(ended(139), ProgramEnd::Signaled(11));
    }
}
