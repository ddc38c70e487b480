//! Version 2: one directory per sandbox. On a hybrid host it has no limits, but still freezes and is killed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{
    CPU_PERIOD_US, Entrance, Group, Hierarchy, Limits, cpu_quota_us, cpu_shares, groups_in,
    read_field, read_number, remove_directory, sweep_group, write,
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
        write(&level, "cgroup.subtree_control", "+memory +pids +cpu")?;
        for part in below {
            level.push(part);
            write(&level, "cgroup.subtree_control", "+memory +pids +cpu")?;
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
        Ok(Group2 { path })
    }
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

/// One sandbox's directory.
#[derive(Debug)]
pub(super) struct Group2 {
    path: PathBuf,
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
        // The kernel's own conversion of shares (2..262144) to weights (1..10000).
        let weight = 1 + (cpu_shares(limits.memory_mib) - 2) * 9999 / 262_142;
        write(&self.path, "cpu.weight", &weight.to_string())
    }

    fn entrance(&self) -> io::Result<Entrance> {
        Ok(Entrance {
            tasks: Vec::new(),
            directory: Some(File::open(&self.path)?.into()),
        })
    }

    fn set_cpu(&self, cpu_millis: u32) -> io::Result<()> {
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
        read_number(&self.path.join("memory.peak"))
    }

    fn set_frozen(&self, frozen: bool) -> io::Result<()> {
        write(&self.path, "cgroup.freeze", if frozen { "1" } else { "0" })
    }

    fn is_kill_stopped_by_freezer(&self) -> bool {
        false
    }

    fn remove(&self) -> io::Result<()> {
        remove_directory(&self.path)
    }
}
