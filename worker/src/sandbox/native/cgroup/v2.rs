//! Version 2: one directory per sandbox. On a hybrid host it has no limits, but still freezes and is killed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{
    CPU_PERIOD_US, Entrance, Group, Hierarchy, INIT_SHARES, Limits, StatNames, cpu_quota_us,
    cpu_shares, groups_in, peak_without_cache, place_of, read_field, read_number, read_words,
    remove_directory, sweep_group, write,
};

/// The worker's directory in the unified hierarchy.
#[derive(Debug)]
pub(super) struct Hierarchy2 {
    base: PathBuf,
}

impl Hierarchy2 {
    /// With the controllers handed down to the worker's directory.
    pub(super) fn with_limits(root: &Path, below: &Path) -> io::Result<Self> {
        let base = root.join(below);
        fs::create_dir_all(&base)?;
        // A controller must be handed down on every level above the groups.
        let mut level = root.to_owned();
        hand_down_from_root(root)?;
        for part in below {
            level.push(part);
            write(&level, "cgroup.subtree_control", CONTROLLERS)?;
        }
        Ok(Self { base })
    }

    /// For freezing and killing only.
    pub(super) fn without_limits(root: &Path, below: &Path) -> io::Result<Self> {
        let base = root.join(below);
        fs::create_dir_all(&base)?;
        Ok(Self { base })
    }

    pub(super) fn create_group(&self, name: &str) -> io::Result<Group2> {
        let path = self.base.join(name);
        fs::create_dir(&path)?;
        Ok(Group2 {
            path,
            freezer: OnceLock::new(),
        })
    }
}

/// What is handed down.
const CONTROLLERS: &str = "+memory +pids +cpu";

/// Where the processes of a container go that has a cgroup namespace of its own.
const OWN_PROCESSES: &str = "hearth.own";

/// Processes that start while others are moved may make another round necessary.
const MOVE_ROUNDS: usize = 16;

/// A root that is none but looks so, in a container with a cgroup namespace of its own, hands nothing down while processes
/// are in it (cgroups(7), "no internal processes"): these, ours among them, move into a group beside the sandboxes'.
fn hand_down_from_root(root: &Path) -> io::Result<()> {
    let hand_down = || write(root, "cgroup.subtree_control", CONTROLLERS);
    let mut handed = hand_down();
    for _ in 0..MOVE_ROUNDS {
        if !matches!(&handed, Err(error) if error.kind() == io::ErrorKind::ResourceBusy) {
            break;
        }
        let own = root.join(OWN_PROCESSES);
        match fs::create_dir(&own) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        for pid in read_words(&root.join("cgroup.procs")) {
            // One that is gone, or is of another pid namespace, is seen by the next attempt.
            let _ = write(&own, "cgroup.procs", &pid);
        }
        handed = hand_down();
    }
    handed
}

impl Hierarchy for Hierarchy2 {
    fn create(&self, name: &str) -> io::Result<Box<dyn Group>> {
        Ok(Box::new(self.create_group(name)?))
    }

    fn sweep(&self) -> io::Result<usize> {
        let left = groups_in(&self.base)?;
        for path in &left {
            // Since Linux 5.14; the kill by number below does for older ones.
            let _ = write(path, "cgroup.kill", "1");
            sweep_group(path, "cgroup.procs");
        }
        Ok(left.len())
    }

    fn retire(&self) {
        let _ = remove_directory(&self.base);
    }
}

const STAT_NAMES: StatNames = StatNames {
    cache: "file",
    mapped: "file_mapped",
    shmem: "shmem",
    anonymous: "anon",
};

/// The kernel's own conversion of shares (2..262144) to weights (1..10000).
fn weight(shares: u64) -> u64 {
    1 + (shares - 2) * 9999 / 262_142
}

/// One sandbox's directory.
#[derive(Debug)]
pub(super) struct Group2 {
    path: PathBuf,
    /// `cgroup.freeze`, kept open: it is written before and after each pause of a sandbox.
    freezer: OnceLock<File>,
}

impl Group2 {
    /// Where a process is written to be moved in.
    pub(super) fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }
}

impl Group for Group2 {
    fn set_limits(&self, limits: Limits) -> io::Result<()> {
        write(
            &self.path,
            "memory.max",
            &(u64::from(limits.memory_mib) << 20).to_string(),
        )?;
        // Absent when the kernel counts no swap.
        if self.path.join("memory.swap.max").exists() {
            write(&self.path, "memory.swap.max", "0")?;
        }
        write(&self.path, "pids.max", &limits.pids_max.to_string())?;
        write(&self.path, "cpu.weight", &weight(INIT_SHARES).to_string())
    }

    fn set_background(&self) -> io::Result<()> {
        write(&self.path, "cpu.weight", "1")
    }

    fn entrance(&self) -> io::Result<Entrance> {
        Ok(Entrance {
            tasks: Vec::new(),
            directory: Some(File::open(&self.path)?.into()),
        })
    }

    fn place(&self) -> PathBuf {
        place_of(&self.path)
    }

    fn thaw(&self) -> Option<(PathBuf, &'static str)> {
        Some((self.path.join("cgroup.freeze"), "0"))
    }

    fn unknown_to_runtimes(&self) -> Option<(PathBuf, PathBuf)> {
        None
    }

    fn set_cpu(&self, cpu_millis: u32) -> io::Result<()> {
        let weight = weight(cpu_shares(cpu_millis));
        write(&self.path, "cpu.weight", &weight.to_string())?;
        write(
            &self.path,
            "cpu.max",
            &format!("{} {CPU_PERIOD_US}", cpu_quota_us(cpu_millis)),
        )
    }

    fn was_out_of_memory(&self) -> bool {
        read_field(&self.path.join("memory.events"), "oom_kill ").is_some_and(|kills| kills > 0)
    }

    fn memory_peak_bytes(&self) -> Option<u64> {
        // Before Linux 5.19 there is what is used now alone.
        let peak = read_number(&self.path.join("memory.peak"))
            .or_else(|| read_number(&self.path.join("memory.current")))?;
        if self.was_out_of_memory() {
            return Some(peak);
        }
        let stat = fs::read_to_string(self.path.join("memory.stat")).unwrap_or_default();
        Some(peak_without_cache(peak, &stat, STAT_NAMES))
    }

    fn set_frozen(&self, frozen: bool) -> io::Result<()> {
        let value: &[u8] = if frozen { b"1" } else { b"0" };
        let freezer = match self.freezer.get() {
            Some(open) => open,
            None => {
                let path = self.path.join("cgroup.freeze");
                let opened = fs::OpenOptions::new().write(true).open(path)?;
                self.freezer.get_or_init(|| opened)
            }
        };
        freezer.write_all_at(value, 0)
    }

    fn is_kill_stopped_by_freezer(&self) -> bool {
        false
    }

    fn remove(&self) -> io::Result<()> {
        remove_directory(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a directory that plays the kernel: which value goes into which file.
    #[test]
    fn limits_quota_and_freezer_are_written_as_the_kernel_reads_them() {
        let root = tempfile::tempdir().unwrap();
        let below = Path::new("hearth/w1");
        let kernel = |path: &Path, files: &[&str]| {
            fs::create_dir_all(path).unwrap();
            for file in files {
                fs::write(path.join(file), "").unwrap();
            }
        };
        for level in ["", "hearth", "hearth/w1"] {
            kernel(&root.path().join(level), &["cgroup.subtree_control"]);
        }
        let hierarchy = Hierarchy2::with_limits(root.path(), below).unwrap();
        let group = hierarchy.create_group("g").unwrap();
        let path = root.path().join("hearth/w1/g");
        let files = [
            "memory.max",
            "memory.swap.max",
            "pids.max",
            "cpu.weight",
            "cpu.max",
            "cgroup.freeze",
        ];
        kernel(&path, &files);
        group
            .set_limits(Limits {
                memory_mib: 1769,
                pids_max: 9,
            })
            .unwrap();
        group.set_cpu(500).unwrap();
        group.set_frozen(true).unwrap();
        let written = files.map(|file| fs::read_to_string(path.join(file)).unwrap());
        assert_eq!(written, ["1854930944", "0", "9", "20", "50000 100000", "1"]);
        let handed_down = fs::read_to_string(root.path().join("hearth/w1/cgroup.subtree_control"));
        assert_eq!(handed_down.unwrap(), "+memory +pids +cpu");
        assert!(group.entrance().unwrap().directory.is_some());

        assert!(!group.was_out_of_memory());
        fs::write(
            path.join("memory.events"),
            "oom 1\noom_kill 1\noom_group_kill 0\n",
        )
        .unwrap();
        fs::write(path.join("memory.current"), "2048\n").unwrap();
        assert_eq!(group.memory_peak_bytes(), Some(2048), "an old kernel");
        fs::write(path.join("memory.peak"), "4096\n").unwrap();
        assert!(group.was_out_of_memory());
        assert_eq!(group.memory_peak_bytes(), Some(4096));
    }
}
