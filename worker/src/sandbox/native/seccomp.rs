//! Which system calls a function may make, as a BPF program; a pure function of tables.
//!
//! Known calls are allowed unless listed in [`DENIED`]; numbers above [`LAST_KNOWN`] (later kernels, and the x32
//! calls of x86) do not exist for a function. seccompiler installs the program, but does not compile it: its linear
//! chain of comparisons costs about 150 us to load for this list, the binary tree of ranges below a fifth of that.

use std::collections::BTreeMap;

use seccompiler::sock_filter;

/// Highest call number this list was reviewed for: `mseal`, the same on every architecture.
const LAST_KNOWN: u32 = 462;

/// Refused with EPERM: whatever changes the machine, reaches into other processes, or opens much kernel to attack.
const DENIED: &[libc::c_long] = &[
    // Mounts and roots.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    STATMOUNT,
    LISTMOUNT,
    // Namespaces.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Large attack surface, of no use to functions.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_memfd_secret,
    libc::SYS_personality,
    libc::SYS_lookup_dcookie,
    libc::SYS_vhangup,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    libc::SYS_mbind,
    libc::SYS_set_mempolicy,
    SET_MEMPOLICY_HOME_NODE,
    // The machine.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_nfsservctl,
];

/// Calls only x86 has.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[libc::c_long] = &[
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[libc::c_long] = &[];

// Numbers which the libc crate does not name on every C library; the same on every architecture.
const SET_MEMPOLICY_HOME_NODE: libc::c_long = 450;
const STATMOUNT: libc::c_long = 457;
const LISTMOUNT: libc::c_long = 458;

/// Flags of `clone` that make a namespace.
const NAMESPACE_FLAGS: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET)
    .cast_unsigned();

/// Socket families a function may use; the others (packet, vsock, crypto...) are `EAFNOSUPPORT`.
const FAMILIES: [libc::c_int; 4] = [
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];

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
const ARGUMENT: [u32; 2] = [16, 24];

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allow,
    Refuse(i32),
    /// `clone`: no namespaces.
    Clone,
    /// `socket` and `socketpair`: [`FAMILIES`] only.
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
    for call in DENIED.iter().chain(DENIED_HERE) {
        set(*call, Verdict::Refuse(libc::EPERM));
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
        let verdict = if number > LAST_KNOWN {
            Verdict::Refuse(libc::ENOSYS)
        } else {
            listed.get(&number).copied().unwrap_or(Verdict::Allow)
        };
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
        Verdict::Socket => vec![
            statement(LOAD, ARGUMENT[0]),
            branch(JUMP_IF_EQUAL, FAMILIES[0].cast_unsigned(), 4, 0),
            branch(JUMP_IF_EQUAL, FAMILIES[1].cast_unsigned(), 3, 0),
            branch(JUMP_IF_EQUAL, FAMILIES[2].cast_unsigned(), 2, 0),
            branch(JUMP_IF_EQUAL, FAMILIES[3].cast_unsigned(), 1, 0),
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
    fn run(program: &[sock_filter], architecture: u32, number: u32, arguments: [u32; 2]) -> u32 {
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
                        offset => arguments[usize::from(offset == ARGUMENT[1])],
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
                _ if number > LAST_KNOWN => ERRNO | libc::ENOSYS.cast_unsigned(),
                Some(Verdict::Refuse(errno)) => ERRNO | errno.cast_unsigned(),
                // Argument 0 is 2: AF_INET, or harmless clone flags; argument 1 is no terminal request.
                Some(_) | None => ALLOW,
            };
            assert_eq!(
                run(&program, ARCHITECTURE, number, [2, 0]),
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
            call(libc::SYS_clone, [libc::CLONE_NEWUSER.cast_unsigned(), 0]),
            refused(libc::EPERM)
        );
        assert_eq!(
            call(libc::SYS_clone, [libc::CLONE_VM.cast_unsigned(), 0]),
            ALLOW
        );
        assert_eq!(
            call(libc::SYS_socket, [libc::AF_PACKET.cast_unsigned(), 0]),
            refused(libc::EAFNOSUPPORT)
        );
        assert_eq!(
            call(libc::SYS_socket, [libc::AF_UNIX.cast_unsigned(), 0]),
            ALLOW
        );
        assert_eq!(call(libc::SYS_ioctl, [0, 0x5412]), refused(libc::EPERM));
    }

    #[test]
    fn foreign_architectures_and_x32_numbers_get_nothing() {
        let program = program();
        assert_eq!(run(&program, 0x4000_0003, 1, [0, 0]), KILL_PROCESS);
        assert_eq!(
            run(&program, ARCHITECTURE, 0x4000_0001, [0, 0]),
            ERRNO | libc::ENOSYS.cast_unsigned()
        );
    }

    #[test]
    fn the_program_is_within_the_kernels_limit() {
        assert!(program().len() < 1024, "{}", program().len());
    }
}
