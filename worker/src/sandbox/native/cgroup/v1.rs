//! Version 1: a directory per controller, with a version 2 directory beside them on hybrid hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::v2::{Group2, Hierarchy2};
use super::{
    CPU_PERIOD_US, Entrance, Group, Hierarchy, INIT_SHARES, Limits, StatNames, cpu_quota_us,
    cpu_shares, groups_in, peak_without_cache, place_of, read_field, read_number, remove_directory,
    sweep_group, unwritable, write,
};

/// The worker's directories.
#[derive(Debug)]
pub(super) struct Hierarchy1 {
    memory: PathBuf,
    cpu: PathBuf,
    pids: PathBuf,
    freezer: Freezer<PathBuf, Hierarchy2>,
}

/// What freezes: version 2 where there is one (21 us against 110), else the version 1 controller, else nothing.
#[derive(Debug)]
enum Freezer<Directory, Unified> {
    Unified(Unified),
    Controller(Directory),
    Absent,
}

impl Hierarchy1 {
    pub(super) fn open(
        mounts: &BTreeMap<String, PathBuf>,
        unified: Option<&Path>,
        below: &Path,
    ) -> Result<Self, String> {
        let base = |controller: &str| {
            let root = mounts.get(controller).ok_or_else(|| {
                format!("cgroup controller {controller} is neither in version 2 nor mounted in version 1")
            })?;
            let base = root.join(below);
            fs::create_dir_all(&base).map_err(|error| unwritable(root, &error))?;
            Ok::<_, String>(base)
        };
        let unified = unified.and_then(|root| Hierarchy2::without_limits(root, below).ok());
        Ok(Self {
            memory: base("memory")?,
            cpu: base("cpu")?,
            pids: base("pids")?,
            freezer: match unified {
                Some(unified) => Freezer::Unified(unified),
                None => base("freezer").map_or(Freezer::Absent, Freezer::Controller),
            },
        })
    }

    /// The directories without doubles: controllers may be mounted together.
    fn bases(&self) -> BTreeSet<&PathBuf> {
        let mut bases = BTreeSet::from([&self.memory, &self.cpu, &self.pids]);
        if let Freezer::Controller(directory) = &self.freezer {
            bases.insert(directory);
        }
        bases
    }
}

impl Hierarchy for Hierarchy1 {
    fn create(&self, name: &str) -> io::Result<Box<dyn Group>> {
        let group = Group1 {
            memory: self.memory.join(name),
            cpu: self.cpu.join(name),
            pids: self.pids.join(name),
            freezer: match &self.freezer {
                Freezer::Unified(unified) => Freezer::Unified(unified.create_group(name)?),
                Freezer::Controller(directory) => Freezer::Controller(directory.join(name)),
                Freezer::Absent => Freezer::Absent,
            },
        };
        for directory in group.directories() {
            if let Err(error) = fs::create_dir(directory) {
                let _ = group.remove();
                return Err(error);
            }
        }
        Ok(Box::new(group))
    }

    fn sweep(&self) -> io::Result<usize> {
        let mut swept = 0;
        if let Freezer::Unified(unified) = &self.freezer {
            // First: what is frozen there, or forks, is killed as a whole.
            unified.sweep()?;
        }
        for base in self.bases() {
            let left = groups_in(base)?;
            for path in &left {
                if path.join("freezer.state").exists() {
                    write(path, "freezer.state", "THAWED")?;
                }
                sweep_group(path, "tasks");
            }
            swept = swept.max(left.len());
        }
        Ok(swept)
    }

    fn retire(&self) {
        for base in self.bases() {
            let _ = remove_directory(base);
        }
        if let Freezer::Unified(unified) = &self.freezer {
            unified.retire();
        }
    }
}

const STAT_NAMES: StatNames = StatNames {
    cache: "cache",
    mapped: "mapped_file",
    shmem: "shmem",
    anonymous: "rss",
};

/// One sandbox's directories.
#[derive(Debug)]
struct Group1 {
    memory: PathBuf,
    cpu: PathBuf,
    pids: PathBuf,
    freezer: Freezer<PathBuf, Group2>,
}

impl Group1 {
    fn directories(&self) -> BTreeSet<&PathBuf> {
        let mut directories = BTreeSet::from([&self.memory, &self.cpu, &self.pids]);
        if let Freezer::Controller(directory) = &self.freezer {
            directories.insert(directory);
        }
        directories
    }
}

impl Group for Group1 {
    fn set_limits(&self, limits: Limits) -> io::Result<()> {
        let bytes = (u64::from(limits.memory_mib) << 20).to_string();
        // Memory and swap together, never below memory alone; absent when the kernel counts no swap.
        let has_swap = self.memory.join("memory.memsw.limit_in_bytes").exists();
        let swap = || write(&self.memory, "memory.memsw.limit_in_bytes", &bytes);
        let raised = write(&self.memory, "memory.limit_in_bytes", &bytes);
        if has_swap {
            swap()?;
        }
        if raised.is_err() {
            // It was to rise above the other.
            write(&self.memory, "memory.limit_in_bytes", &bytes)?;
        }
        write(&self.pids, "pids.max", &limits.pids_max.to_string())?;
        write(&self.cpu, "cpu.shares", &INIT_SHARES.to_string())
    }

    fn set_background(&self) -> io::Result<()> {
        write(&self.cpu, "cpu.shares", "2")
    }

    fn entrance(&self) -> io::Result<Entrance> {
        let mut entrance = match &self.freezer {
            Freezer::Unified(unified) => unified.entrance()?,
            Freezer::Controller(_) | Freezer::Absent => Entrance::default(),
        };
        for directory in self.directories() {
            let tasks = fs::OpenOptions::new()
                .write(true)
                .open(directory.join("tasks"))?;
            entrance.tasks.push(tasks.into());
        }
        Ok(entrance)
    }

    fn place(&self) -> PathBuf {
        place_of(&self.memory)
    }

    fn thaw(&self) -> Option<(PathBuf, &'static str)> {
        match &self.freezer {
            Freezer::Unified(unified) => unified.thaw(),
            Freezer::Controller(directory) => Some((directory.join("freezer.state"), "THAWED")),
            Freezer::Absent => None,
        }
    }

    fn unknown_to_runtimes(&self) -> Option<(PathBuf, PathBuf)> {
        match &self.freezer {
            Freezer::Unified(unified) => Some((self.memory.join("cgroup.procs"), unified.procs())),
            Freezer::Controller(_) | Freezer::Absent => None,
        }
    }

    fn set_cpu(&self, cpu_millis: u32) -> io::Result<()> {
        write(&self.cpu, "cpu.shares", &cpu_shares(cpu_millis).to_string())?;
        write(&self.cpu, "cpu.cfs_period_us", &CPU_PERIOD_US.to_string())?;
        write(
            &self.cpu,
            "cpu.cfs_quota_us",
            &cpu_quota_us(cpu_millis).to_string(),
        )
    }

    fn was_out_of_memory(&self) -> bool {
        read_field(&self.memory.join("memory.oom_control"), "oom_kill ")
            .is_some_and(|kills| kills > 0)
    }

    fn memory_peak_bytes(&self) -> Option<u64> {
        let peak = read_number(&self.memory.join("memory.max_usage_in_bytes"))?;
        if self.was_out_of_memory() {
            return Some(peak);
        }
        let stat = fs::read_to_string(self.memory.join("memory.stat")).unwrap_or_default();
        Some(peak_without_cache(peak, &stat, STAT_NAMES))
    }

    fn set_frozen(&self, frozen: bool) -> io::Result<()> {
        match &self.freezer {
            Freezer::Unified(unified) => unified.set_frozen(frozen),
            Freezer::Controller(directory) => write(
                directory,
                "freezer.state",
                if frozen { "FROZEN" } else { "THAWED" },
            ),
            Freezer::Absent => Ok(()),
        }
    }

    fn is_kill_stopped_by_freezer(&self) -> bool {
        matches!(self.freezer, Freezer::Controller(_))
    }

    fn remove(&self) -> io::Result<()> {
        // Every one is tried; the first error is told.
        let mut results: Vec<io::Result<()>> = self
            .directories()
            .into_iter()
            .map(|d| remove_directory(d))
            .collect();
        if let Freezer::Unified(unified) = &self.freezer {
            results.push(unified.remove());
        }
        results.into_iter().collect()
    }
}
