//! The init of a sandbox that is built before its owner is known. It keeps the privileges that it has inside its own
//! namespaces until the owner comes, as these attach the owner's code, and gives them up before anything of the owner runs.
//!
//! ```text
//! built -> [stem: a program of the runtime pack, confined, loads what all functions need] -> waits for the order
//!       -> attaches code and layers -> gives up its privileges -> executes the owner's program, or tells the stem who it is
//! ```
//!
//! What a stem is told over descriptor 3, once it has written a byte there to say that it is ready: working directory, number
//! of arguments, arguments, and the environment as `NAME=value`, each ended by a NUL.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, read, write};

use super::access::Signals;
use super::init::{
    Plan, confine, confine_user, die_with_spawner, fail, prepare_program, report, surrender, watch,
};
use super::rootfs::c_string;
use super::step::{Named, StepError};
use super::wire::{Failure, InitReport, MESSAGE_MAX, Order, OrderReport, encode};
use crate::sandbox::sys;
use crate::sandbox::sys::mount::attach_tree;

/// Where a stem finds its orders.
const CHANNEL: RawFd = 3;

/// A program that waits for its owner.
struct Stem {
    pid: Pid,
    channel: UnixStream,
}

/// The life of this init once the sandbox is built. `socket` leads to the spawner, `worker` to the worker.
pub(super) fn run(plan: &Plan, worker: OwnedFd, socket: OwnedFd) -> ! {
    let Ok([socket, worker]) = sys::process::keep_only([socket, worker]) else {
        sys::process::exit_now(1)
    };
    let stem = die_with_spawner(&socket).and_then(|()| start_stem(plan));
    let stem = match stem {
        Ok(stem) => stem,
        Err(error) => fail(&socket, error.step, error.errno),
    };
    if let Some(stem) = &stem {
        await_ready(stem);
    }
    report(&socket, &InitReport::Started);
    let (order, trees) = await_order(&worker, stem.as_ref());
    let signals = match stem {
        Some(_) => Signals::Namespace,
        None => Signals::Nobody,
    };
    let obeyed = attach(&order, trees).and_then(|()| surrender(plan, &socket, signals));
    if let Err(error) = obeyed {
        give_up(&worker, error)
    }
    confine(plan, &socket);
    match stem {
        Some(stem) => specialise(stem, &order, &worker, &socket),
        None => execute(&order, &worker, &socket),
    }
}

fn tell(worker: &OwnedFd, message: &OrderReport) {
    // A worker that is gone takes the spawner along, and that this process.
    let _ = sys::net::send(worker, &encode(message), &[]);
}

fn give_up(worker: &OwnedFd, error: StepError) -> ! {
    let StepError { step, errno } = error;
    tell(worker, &OrderReport::Failed(Failure::Setup { step, errno }));
    sys::process::exit_now(1)
}

/// Starts the program of the plan, if it has one.
fn start_stem(plan: &Plan) -> Result<Option<Stem>, StepError> {
    if plan.argv.is_empty() {
        return Ok(None);
    }
    let (channel, inside) = UnixStream::pair().step(|| "make a stem's channel".to_owned())?;
    let forked = sys::process::fork_and_hold().step(|| "fork a stem".to_owned())?;
    match forked {
        Some(pid) => Ok(Some(Stem { pid, channel })),
        None => {
            // Init sees the channel closed.
            let _ = become_stem(plan, inside.into());
            sys::process::exit_now(127)
        }
    }
}

/// Returns only if it could not.
fn become_stem(plan: &Plan, inside: OwnedFd) -> Result<(), StepError> {
    let [inside] = sys::process::keep_only([inside]).step(|| "keep a stem's channel".to_owned())?;
    if inside.as_raw_fd() != CHANNEL {
        return Ok(());
    }
    confine_user(plan, Signals::Nobody)?;
    seccompiler::apply_filter(&plan.filter).map_err(|error| StepError {
        step: format!("install the seccomp filter: {error}"),
        errno: Errno::last_raw(),
    })?;
    prepare_program(c"/").step(|| "prepare a stem".to_owned())?;
    fcntl(&inside, FcntlArg::F_SETFD(FdFlag::empty())).step(|| "hand on a channel".to_owned())?;
    sys::process::execute(&plan.argv[0], &plan.argv, &plan.env);
    Ok(())
}

/// One that ends instead takes the sandbox along.
fn await_ready(stem: &Stem) {
    let mut byte = [0];
    match read(&stem.channel, &mut byte) {
        Ok(1) => {}
        _ => sys::process::exit_now(1),
    }
}

/// Without an order there is nothing to live for.
fn await_order(worker: &OwnedFd, stem: Option<&Stem>) -> (Order, Vec<OwnedFd>) {
    loop {
        let mut sources = vec![PollFd::new(worker.as_fd(), PollFlags::POLLIN)];
        sources.extend(stem.map(|stem| PollFd::new(stem.channel.as_fd(), PollFlags::POLLIN)));
        match poll(&mut sources, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(_) => sys::process::exit_now(1),
        }
        // A stem has nothing more to say: it ended.
        if sources.get(1).and_then(PollFd::any).unwrap_or(false) {
            sys::process::exit_now(1);
        }
        break;
    }
    let mut buffer = vec![0; MESSAGE_MAX];
    let Ok((length, trees)) = sys::net::receive(worker, &mut buffer) else {
        sys::process::exit_now(1)
    };
    match serde_json::from_slice(&buffer[..length]) {
        Ok(order) => (order, trees),
        Err(_) => sys::process::exit_now(1),
    }
}

fn attach(order: &Order, trees: Vec<OwnedFd>) -> Result<(), StepError> {
    for (tree, target) in trees.iter().zip(&order.targets) {
        attach_tree(tree, &c_string(target)?).step(|| format!("attach at {target}"))?;
    }
    Ok(())
}

/// Tells the stem who it is.
fn specialise(stem: Stem, order: &Order, worker: &OwnedFd, socket: &OwnedFd) -> ! {
    let Stem { pid, channel } = stem;
    let mut message = Vec::new();
    let count = order.argv.len().to_string();
    let words = [&order.cwd, &count].into_iter().chain(&order.argv);
    for word in words.chain(&order.env) {
        message.extend_from_slice(word.as_bytes());
        message.push(0);
    }
    let mut rest = message.as_slice();
    while !rest.is_empty() {
        match write(&channel, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::EINTR) => {}
            Err(errno) => give_up(
                worker,
                StepError {
                    step: "tell a stem who it is".to_owned(),
                    errno: errno as i32,
                },
            ),
        }
    }
    // Its end ends the message.
    drop(channel);
    sys::process::hand_on_terminations(pid);
    tell(worker, &OrderReport::Started);
    watch(pid, socket)
}

fn execute(order: &Order, worker: &OwnedFd, socket: &OwnedFd) -> ! {
    let strings = |list: &[String]| {
        list.iter()
            .map(|text| c_string(text))
            .collect::<Result<Vec<CString>, StepError>>()
    };
    let parts = (
        strings(&order.argv),
        strings(&order.env),
        c_string(&order.cwd),
    );
    let (argv, env, cwd) = match parts {
        (Ok(argv), Ok(env), Ok(cwd)) if !argv.is_empty() => (argv, env, cwd),
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => give_up(worker, error),
        _ => sys::process::exit_now(1),
    };
    match sys::process::fork_and_hold() {
        Ok(None) => {
            let errno = match prepare_program(&cwd) {
                Ok(()) => {
                    let error = sys::process::execute(&argv[0], &argv, &env);
                    error.raw_os_error().unwrap_or(Errno::EIO as i32)
                }
                Err(errno) => errno as i32,
            };
            tell(worker, &OrderReport::Failed(Failure::Exec { errno }));
            sys::process::exit_now(127)
        }
        Ok(Some(program)) => {
            sys::process::hand_on_terminations(program);
            tell(worker, &OrderReport::Started);
            watch(program, socket)
        }
        Err(error) => give_up(
            worker,
            StepError {
                step: "fork".to_owned(),
                errno: error.raw_os_error().unwrap_or(Errno::EIO as i32),
            },
        ),
    }
}
