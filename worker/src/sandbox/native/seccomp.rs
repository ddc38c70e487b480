//! Which system calls a function may make, as a BPF program; a pure function of the tables in [`calls`].
//!
//! It is an allow-list: what is in no table, and any number beyond the tables (later kernels, and the x32 calls of x86),
//! does not exist for a function. seccompiler installs the program, but does not compile it: its linear
//! chain of comparisons costs about 150 us to load for this list, the binary tree of ranges below a fifth of that.

mod calls;
mod oci;

use std::collections::BTreeMap;

use seccompiler::sock_filter;

pub(crate) use oci::oci_profile;

use calls::{ALLOWED, ALLOWED_HERE, DENIED, DENIED_HERE, LAST_KNOWN, PRETENDED};

/// Flags of `clone` that make a namespace.
const NAMESPACE_FLAGS: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET)
    .cast_unsigned();

/// Socket families a function may use; the others (packet, vsock, crypto...) are `EAFNOSUPPORT`. Of netlink there is
/// `NETLINK_ROUTE`, with which C libraries list interfaces: the other families (netfilter, audit, crypto...) are much
/// kernel to attack, and nothing a function needs.
const FAMILIES: [libc::c_int; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const JUMP_IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7FFF_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;

/// Offsets in `struct seccomp_data`; the low half of each argument, on little-endian machines.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENT: [u32; 3] = [16, 24, 32];

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allow,
    Refuse(i32),
    /// `clone`: no namespaces.
    Clone,
    /// Says that it was done.
    Pretend,
    /// `socket` and `socketpair`: [`FAMILIES`] only, and of netlink the routing family only.
    Socket,
    /// `ioctl`: no typing into terminals.
    Ioctl,
}

fn verdict_of_each_listed_call() -> BTreeMap<u32, Verdict> {
    let mut verdicts = BTreeMap::new();
    let mut set = |call: libc::c_long, verdict| {
        verdicts.insert(
            u32::try_from(call).expect("call numbers are small and positive"),
            verdict,
        );
    };
    for call in ALLOWED.iter().chain(ALLOWED_HERE) {
        set(*call, Verdict::Allow);
    }
    for call in DENIED.iter().chain(DENIED_HERE) {
        set(*call, Verdict::Refuse(libc::EPERM));
    }
    for call in PRETENDED {
        set(*call, Verdict::Pretend);
    }
    // Its flags are behind a pointer, which BPF cannot read; C libraries fall back to `clone`.
    set(libc::SYS_clone3, Verdict::Refuse(libc::ENOSYS));
    set(libc::SYS_clone, Verdict::Clone);
    set(libc::SYS_socket, Verdict::Socket);
    set(libc::SYS_socketpair, Verdict::Socket);
    set(libc::SYS_ioctl, Verdict::Ioctl);
    verdicts
}

/// Runs of numbers with one verdict: each entry holds from its number to the next entry's.
fn ranges() -> Vec<(u32, Verdict)> {
    let listed = verdict_of_each_listed_call();
    let mut ranges: Vec<(u32, Verdict)> = Vec::new();
    for number in 0..=LAST_KNOWN + 1 {
        let unknown = Verdict::Refuse(libc::ENOSYS);
        let verdict = listed.get(&number).copied().unwrap_or(unknown);
        if ranges.last().is_none_or(|(_, last)| *last != verdict) {
            ranges.push((number, verdict));
        }
    }
    ranges
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn refuse(errno: i32) -> sock_filter {
    statement(RETURN, ERRNO | errno.cast_unsigned())
}

fn leaf(verdict: Verdict) -> Vec<sock_filter> {
    let allow = statement(RETURN, ALLOW);
    match verdict {
        Verdict::Allow => vec![allow],
        Verdict::Refuse(errno) => vec![refuse(errno)],
        Verdict::Clone => vec![
            statement(LOAD, ARGUMENT[0]),
            branch(JUMP_IF_ANY_BIT, NAMESPACE_FLAGS, 1, 0),
            allow,
            refuse(libc::EPERM),
        ],
        Verdict::Pretend => vec![refuse(0)],
        Verdict::Socket => vec![
            statement(LOAD, ARGUMENT[0]),
            branch(JUMP_IF_EQUAL, FAMILIES[0].cast_unsigned(), 6, 0),
            branch(JUMP_IF_EQUAL, FAMILIES[1].cast_unsigned(), 5, 0),
            branch(JUMP_IF_EQUAL, FAMILIES[2].cast_unsigned(), 4, 0),
            branch(JUMP_IF_EQUAL, libc::AF_NETLINK.cast_unsigned(), 0, 2),
            statement(LOAD, ARGUMENT[2]),
            branch(JUMP_IF_EQUAL, libc::NETLINK_ROUTE.cast_unsigned(), 1, 0),
            refuse(libc::EAFNOSUPPORT),
            allow,
        ],
        Verdict::Ioctl => vec![
            statement(LOAD, ARGUMENT[1]),
            branch(JUMP_IF_EQUAL, 0x5412, 2, 0), // TIOCSTI
            branch(JUMP_IF_EQUAL, 0x541C, 1, 0), // TIOCLINUX
            allow,
            refuse(libc::EPERM),
        ],
    }
}

/// Binary search over `ranges`, which is not empty.
fn tree(ranges: &[(u32, Verdict)]) -> Vec<sock_filter> {
    if let [(_, verdict)] = ranges {
        return leaf(*verdict);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let below = tree(low);
    let distance = u32::try_from(below.len()).expect("the kernel allows 4096 instructions");
    // A conditional jump reaches 255 instructions only, so it steps over (or onto) an unconditional one.
    let mut program = vec![
        branch(JUMP_IF_AT_LEAST, high[0].0, 0, 1),
        statement(JUMP, distance),
    ];
    program.extend(below);
    program.extend(tree(high));
    program
}

/// The whole filter.
pub(crate) fn program() -> Vec<sock_filter> {
    let mut program = vec![
        statement(LOAD, ARCH),
        branch(JUMP_IF_EQUAL, ARCHITECTURE, 1, 0),
        statement(RETURN, KILL_PROCESS),
        statement(LOAD, NUMBER),
    ];
    program.extend(tree(&ranges()));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program on one call, as the kernel would.
    fn run(program: &[sock_filter], architecture: u32, number: u32, arguments: [u32; 3]) -> u32 {
        let (mut accumulator, mut at) = (0, 0);
        loop {
            let instruction = &program[at];
            at += 1;
            let mut jump = |taken: bool| {
                at += usize::from(if taken {
                    instruction.jt
                } else {
                    instruction.jf
                })
            };
            match instruction.code {
                LOAD => {
                    accumulator = match instruction.k {
                        NUMBER => number,
                        ARCH => architecture,
                        offset => arguments[ARGUMENT.iter().position(|at| *at == offset).unwrap()],
                    }
                }
                JUMP => at += instruction.k as usize,
                JUMP_IF_EQUAL => jump(accumulator == instruction.k),
                JUMP_IF_AT_LEAST => jump(accumulator >= instruction.k),
                JUMP_IF_ANY_BIT => jump(accumulator & instruction.k != 0),
                RETURN => return instruction.k,
                code => panic!("unknown code {code}"),
            }
        }
    }

    #[test]
    fn the_tree_gives_every_number_the_verdict_of_the_tables() {
        let (program, listed) = (program(), verdict_of_each_listed_call());
        for number in 0..2000 {
            let expected = match listed.get(&number) {
                None => ERRNO | libc::ENOSYS.cast_unsigned(),
                Some(Verdict::Refuse(errno)) => ERRNO | errno.cast_unsigned(),
                Some(Verdict::Pretend) => ERRNO,
                // Argument 0 is 2: AF_INET, or harmless clone flags; argument 1 is no terminal request.
                Some(_) => ALLOW,
            };
            assert_eq!(
                run(&program, ARCHITECTURE, number, [2, 0, 0]),
                expected,
                "call {number}"
            );
        }
    }

    #[test]
    fn arguments_decide_for_clone_socket_and_ioctl() {
        let program = program();
        let call = |number: libc::c_long, arguments| {
            run(
                &program,
                ARCHITECTURE,
                u32::try_from(number).unwrap(),
                arguments,
            )
        };
        let refused = |errno: i32| ERRNO | errno.cast_unsigned();
        assert_eq!(
            call(libc::SYS_clone, [libc::CLONE_NEWUSER.cast_unsigned(), 0, 0]),
            refused(libc::EPERM)
        );
        assert_eq!(
            call(libc::SYS_clone, [libc::CLONE_VM.cast_unsigned(), 0, 0]),
            ALLOW
        );
        assert_eq!(
            call(libc::SYS_socket, [libc::AF_PACKET.cast_unsigned(), 0, 0]),
            refused(libc::EAFNOSUPPORT)
        );
        assert_eq!(
            call(libc::SYS_socket, [libc::AF_UNIX.cast_unsigned(), 0, 0]),
            ALLOW
        );
        let netlink = libc::AF_NETLINK.cast_unsigned();
        let family = |family: libc::c_int| [netlink, 3, family.cast_unsigned()];
        assert_eq!(call(libc::SYS_socket, family(libc::NETLINK_ROUTE)), ALLOW);
        for other in [
            libc::NETLINK_NETFILTER,
            libc::NETLINK_AUDIT,
            libc::NETLINK_KOBJECT_UEVENT,
        ] {
            assert_eq!(
                call(libc::SYS_socket, family(other)),
                refused(libc::EAFNOSUPPORT)
            );
        }
        assert_eq!(call(libc::SYS_ioctl, [0, 0x5412, 0]), refused(libc::EPERM));
    }

    #[test]
    fn no_call_is_in_two_tables_and_none_is_beyond_the_last_known() {
        let by_argument = [
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_socket,
            libc::SYS_socketpair,
            libc::SYS_ioctl,
        ];
        let tables = [
            ALLOWED,
            ALLOWED_HERE,
            DENIED,
            DENIED_HERE,
            PRETENDED,
            &by_argument,
        ];
        let all: Vec<_> = tables.into_iter().flatten().collect();
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(all.len(), distinct.len());
        assert_eq!(verdict_of_each_listed_call().len(), all.len());
        assert!(all.into_iter().all(|call| *call <= i64::from(LAST_KNOWN)));
    }

    #[test]
    fn foreign_architectures_and_x32_numbers_get_nothing() {
        let program = program();
        assert_eq!(run(&program, 0x4000_0003, 1, [0, 0, 0]), KILL_PROCESS);
        assert_eq!(
            run(&program, ARCHITECTURE, 0x4000_0001, [0, 0, 0]),
            ERRNO | libc::ENOSYS.cast_unsigned()
        );
    }

    #[test]
    fn the_program_is_within_the_kernels_limit() {
        assert!(program().len() < 1024, "{}", program().len());
    }
}
