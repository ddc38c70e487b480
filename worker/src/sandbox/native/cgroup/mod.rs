//! Control groups: memory, process and CPU limits, and the freezer.
//!
//! One group per sandbox below `hearth/<worker id>` of each hierarchy. A group is used once, so its counters are those
//! of one sandbox. Hosts have version 1, version 2, or both with the limits in version 1 (*hybrid*); the trait hides
//! which. Processes are never moved from outside through `cgroup.procs`: that waits for an RCU grace period (7.6 ms
//! measured); init joins version 1 by itself through inherited `tasks` files and is born in version 2.

use std::fmt::Debug;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

mod mountinfo;
mod v1;
mod v2;

use mountinfo::CgroupMounts;

/// Limits of one sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory in MiB; swap is none.
    pub memory_mib: u32,
    /// Processes and threads.
    pub pids_max: u32,
}

/// What init needs to join a group.
#[derive(Debug, Default)]
pub struct Entrance {
    /// `tasks` files of version 1, open for writing.
    pub tasks: Vec<OwnedFd>,
    /// Directory of a version 2 group.
    pub directory: Option<OwnedFd>,
}

/// Where a worker's groups are.
pub trait Hierarchy: Debug + Send + Sync {
    /// Makes an empty group.
    ///
    /// # Errors
    /// What the kernel said.
    fn create(&self, name: &str) -> io::Result<Box<dyn Group>>;

    /// Kills and removes the groups of an earlier incarnation of this worker; how many there were.
    ///
    /// # Errors
    /// What the kernel said; groups that are still busy are left for the next time.
    fn sweep(&self) -> io::Result<usize>;

    /// Removes the worker's own directories, once no group is left; what is still in use stays.
    fn retire(&self);
}

/// The groups of one sandbox.
pub trait Group: Debug + Send + Sync {
    /// Sets the limits, and the CPU share of the init phase; before init joins.
    ///
    /// # Errors
    /// What the kernel said.
    fn set_limits(&self, limits: Limits) -> io::Result<()>;
    /// The smallest share of CPU there is, until the limits are set: for what nobody waits for yet.
    ///
    /// # Errors
    /// What the kernel said.
    fn set_background(&self) -> io::Result<()>;
    /// What init needs to join.
    ///
    /// # Errors
    /// What the kernel said.
    fn entrance(&self) -> io::Result<Entrance>;
    /// Its place below the root of each hierarchy, as an OCI runtime wants it.
    fn place(&self) -> PathBuf;
    /// What to write where to thaw it; `None` without a freezer.
    fn thaw(&self) -> Option<(PathBuf, &'static str)>;
    /// Where an OCI runtime puts processes, and where it does not and somebody else must: both `cgroup.procs`.
    fn unknown_to_runtimes(&self) -> Option<(PathBuf, PathBuf)>;
    /// Sets a hard quota in thousandths of a CPU, and the share that goes with it: the init phase is over.
    ///
    /// # Errors
    /// What the kernel said.
    fn set_cpu(&self, cpu_millis: u32) -> io::Result<()>;
    /// Whether the kernel killed a process at the memory limit.
    fn was_out_of_memory(&self) -> bool;
    /// Highest memory use in bytes, without the cache of files; with it, once the limit was met.
    fn memory_peak_bytes(&self) -> Option<u64>;
    /// Freezes or thaws.
    ///
    /// # Errors
    /// What the kernel said.
    fn set_frozen(&self, frozen: bool) -> io::Result<()>;
    /// Whether a kill reaches frozen processes (version 2), or they must be thawed first (version 1).
    fn is_kill_stopped_by_freezer(&self) -> bool;
    /// Removes the empty group.
    ///
    /// # Errors
    /// `EBUSY` while a process is in it.
    fn remove(&self) -> io::Result<()>;
}

/// Finds and prepares the worker's place in the hierarchies of this host.
///
/// # Errors
/// A line for the operator: what is missing.
pub fn detect(worker_id: &str) -> Result<Box<dyn Hierarchy>, String> {
    let text = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| format!("read mountinfo: {error}"))?;
    let mounts = CgroupMounts::parse(&text);
    let below = Path::new("hearth").join(worker_id);
    let controllers = mounts
        .unified
        .as_ref()
        .map(|root| read_words(&root.join("cgroup.controllers")));
    match (mounts.unified, controllers) {
        (Some(root), Some(has))
            if ["memory", "pids", "cpu"]
                .iter()
                .all(|c| has.iter().any(|h| h == c)) =>
        {
            let hierarchy = v2::Hierarchy2::with_limits(&root, &below);
            hierarchy
                .map(|found| Box::new(found) as _)
                .map_err(|error| unwritable(&root, &error))
        }
        (unified, _) => {
            let hierarchy = v1::Hierarchy1::open(&mounts.v1, unified.as_deref(), &below)?;
            Ok(Box::new(hierarchy))
        }
    }
}

fn unwritable(root: &Path, error: &io::Error) -> String {
    format!(
        "cgroups at {} are not writable ({error}): run as root, with the cgroup tree delegated",
        root.display()
    )
}

fn read_words(path: &Path) -> Vec<String> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number after `key` in a file of `key number` lines.
fn read_field(path: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

/// Names below the root of a hierarchy: `hearth`, the worker's, the group's.
const DEPTH: usize = 3;

/// `/hearth/<worker id>/<group>` of a group's directory.
fn place_of(directory: &Path) -> PathBuf {
    let parts: Vec<_> = directory.iter().collect();
    let below = parts.iter().skip(parts.len().saturating_sub(DEPTH));
    std::iter::once(std::ffi::OsStr::new("/"))
        .chain(below.copied())
        .collect()
}

fn write(directory: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = directory.join(file);
    // Not `fs::write`: that would try to create what the kernel does not have.
    let write = || {
        io::Write::write_all(
            &mut fs::OpenOptions::new().write(true).open(&path)?,
            value.as_bytes(),
        )
    };
    write().map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("write {value} to {}: {error}", path.display()),
        )
    })
}

/// Names of version 1 and of version 2 in `memory.stat`.
#[derive(Debug, Clone, Copy)]
struct StatNames {
    /// Pages of files, those of tmpfs and shared memory among them.
    cache: &'static str,
    /// Of the cache: what is mapped, such as programs and libraries.
    mapped: &'static str,
    /// Of the cache: tmpfs and shared memory, which cannot be dropped.
    shmem: &'static str,
    /// Memory of processes.
    anonymous: &'static str,
}

/// What a sandbox used at most of its own: the kernel's peak counts the cache of files read and written too, which it
/// would drop for the asking and which AWS does not tell. Cache that was dropped before it was looked at still counts.
fn peak_without_cache(peak: u64, stat: &str, names: StatNames) -> u64 {
    let field = |name: &str| {
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        stat.lines().find_map(value).unwrap_or(0_u64)
    };
    let shmem = field(names.shmem);
    let cache = field(names.cache)
        .saturating_sub(shmem)
        .saturating_sub(field(names.mapped));
    let least = field(names.anonymous) + shmem;
    peak.saturating_sub(cache).max(least).min(peak)
}

/// The directories of groups in `base`.
fn groups_in(base: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(base)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Removes a group directory; one that is gone is no error.
fn remove_directory(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Kills what an earlier incarnation left in a group, and removes it if that is done at once.
fn sweep_group(path: &Path, processes: &str) {
    for pid in read_words(&path.join(processes))
        .iter()
        .filter_map(|word| word.parse().ok())
        // Zero stands for a process outside our pid namespace; as a target of `kill` it is our own process group.
        .filter(|pid: &i32| *pid > 0)
    {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
    let mut attempt = 0;
    while let Err(error) = remove_directory(path) {
        attempt += 1;
        if attempt == SWEEP_ATTEMPTS {
            tracing::warn!(path = %path.display(), %error, "leftover cgroup could not be removed");
            return;
        }
        std::thread::park_timeout(SWEEP_PAUSE);
    }
}

/// A killed process takes a moment to leave its group.
const SWEEP_ATTEMPTS: u32 = 50;
const SWEEP_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// CPU shares of a whole CPU.
const SHARES_PER_CPU: u64 = 1024;

/// CPU shares of a sandbox in its init phase, whatever its memory: small functions would otherwise start last on a busy
/// host. Theirs for as long as the init phase may take.
const INIT_SHARES: u64 = SHARES_PER_CPU;

/// CPU shares that go with a quota.
fn cpu_shares(cpu_millis: u32) -> u64 {
    (u64::from(cpu_millis) * SHARES_PER_CPU / 1000).max(2)
}

/// Period of the CPU quota in microseconds; the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// Quota in microseconds per period; the kernel takes no less than 1000.
fn cpu_quota_us(cpu_millis: u32) -> u64 {
    (u64::from(cpu_millis) * CPU_PERIOD_US / 1000).max(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leftover_of_another_pid_namespace_does_not_make_the_worker_kill_itself() {
        let group = tempfile::tempdir().unwrap();
        fs::write(group.path().join("cgroup.procs"), "0\n-1\n").unwrap();
        // The directory is not empty, so it stays, and so do we.
        sweep_group(group.path(), "cgroup.procs");
        assert!(group.path().exists());
    }

    #[test]
    fn the_cache_of_files_is_nobodys_memory() {
        let names = StatNames {
            cache: "cache",
            mapped: "mapped_file",
            shmem: "shmem",
            anonymous: "rss",
        };
        let stat = "cache 500\nrss 40\nrss_huge 7\nshmem 30\nmapped_file 20\n";
        // 500 of cache are 30 of shared memory, 20 that are mapped, and 450 that could go.
        assert_eq!(peak_without_cache(600, stat, names), 150);
        // The peak was before the cache grew: at least what is held now.
        assert_eq!(peak_without_cache(500, stat, names), 70);
        assert_eq!(peak_without_cache(50, stat, names), 50);
        assert_eq!(peak_without_cache(50, "", names), 50);
    }

    #[test]
    fn a_groups_place_is_the_same_below_every_root() {
        let expected = Path::new("/hearth/c-1/77-0");
        for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/x/y/z"] {
            let directory = Path::new(root).join("hearth/c-1/77-0");
            assert_eq!(place_of(&directory), expected);
        }
    }

    #[test]
    fn shares_and_quota_grow_alike() {
        assert_eq!(cpu_shares(1000), INIT_SHARES);
        assert_eq!(cpu_shares(73), 74);
        assert_eq!(cpu_shares(1), 2);
        assert_eq!(cpu_quota_us(1000), CPU_PERIOD_US);
        assert_eq!(cpu_quota_us(72), 7200);
        assert_eq!(cpu_quota_us(0), 1000);
    }
}
