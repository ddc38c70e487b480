//! Options of the native driver, and the rules a specification must keep.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::network::NetworkConfig;
use super::wire::{MountRequest, StartRequest};
use crate::sandbox::driver::{DriverError, SandboxSpec};

/// How to start the spawner: a program whose `main` calls [`super::spawner::main`] first of all.
#[derive(Debug, Clone)]
pub struct SpawnerCommand {
    /// The executable; normally the worker's own.
    pub program: PathBuf,
    /// Its arguments; normally the hidden subcommand.
    pub args: Vec<OsString>,
}

/// What sandboxes reach.
#[derive(Debug, Clone)]
pub enum Network {
    /// Loopback alone.
    Isolated,
    /// The outside; without it the driver does not open.
    Egress(NetworkConfig),
    /// The outside, or loopback alone and a diagnosis.
    EgressIfPossible(NetworkConfig),
}

/// Options of the native driver.
#[derive(Debug, Clone)]
pub struct NativeConfig {
    /// How to start the spawner.
    pub spawner: SpawnerCommand,
    /// Names the worker's cgroups, so that an earlier incarnation's are found; ASCII letters, digits, `-`, `_`, `.`.
    pub worker_id: String,
    /// Directory for mount points; made if absent. Default `/run/hearth/<worker id>`.
    pub state_dir: PathBuf,
    /// First host uid and gid of the ranges given to sandboxes, 65536 each. Default 100000.
    pub uid_base: u32,
    /// Most sandboxes at a time. Default 2048.
    pub sandboxes_max: u32,
    /// Network namespaces made beforehand (one more is always in the making). Default 8.
    pub netns_pool: usize,
    /// What sandboxes reach. Default [`Network::Isolated`].
    pub network: Network,
    /// Cgroups made beforehand (one more is always in the making). Default 8.
    pub cgroup_pool: usize,
    /// Directory for the images that become `/tmp`, on a disk; not to be shared with another worker. Without it, or
    /// where images cannot be made, `/tmp` is a tmpfs, charged to the function's memory. Default
    /// `/var/lib/hearth/<worker id>/scratch`.
    pub scratch_dir: Option<PathBuf>,
    /// Images of the common size made beforehand (one more is always in the making). Default 4.
    pub scratch_pool: usize,
    /// Run without memory, process and CPU limits on a host without cgroups. Development only. Default false.
    pub allow_no_cgroups: bool,
}

impl NativeConfig {
    /// The defaults.
    #[must_use]
    pub fn new(spawner: SpawnerCommand, worker_id: &str) -> Self {
        Self {
            spawner,
            worker_id: worker_id.to_owned(),
            state_dir: Path::new("/run/hearth").join(worker_id),
            uid_base: 100_000,
            sandboxes_max: 2048,
            netns_pool: 8,
            network: Network::Isolated,
            cgroup_pool: 8,
            scratch_dir: Some(Path::new("/var/lib/hearth").join(worker_id).join("scratch")),
            scratch_pool: 4,
            allow_no_cgroups: false,
        }
    }

    /// Checks what can be checked without touching the host.
    ///
    /// # Errors
    /// [`DriverError::InvalidSpec`] naming the option.
    pub fn validate(&self) -> Result<(), DriverError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let invalid = |text: &str| Err(DriverError::InvalidSpec(text.to_owned()));
        if self.worker_id.is_empty()
            || self.worker_id.starts_with('.')
            || self.worker_id.len() > 64
            || !self.worker_id.chars().all(plain)
        {
            return invalid(
                "worker_id must be 1 to 64 of A-Z a-z 0-9 - _ . and not begin with a dot",
            );
        }
        // Host uid 0 must not be in any range, nor those of people and daemons.
        if self.uid_base < 65_536 {
            return invalid("uid_base must be at least 65536");
        }
        let ranges = u64::from(self.sandboxes_max) * u64::from(ID_RANGE);
        if self.sandboxes_max == 0 || u64::from(self.uid_base) + ranges > u64::from(u32::MAX) {
            return invalid(
                "sandboxes_max must be at least 1, and its uid ranges must stay below 2^32",
            );
        }
        if [self.netns_pool, self.cgroup_pool, self.scratch_pool].contains(&0) {
            return invalid("netns_pool, cgroup_pool and scratch_pool must be at least 1");
        }
        Ok(())
    }

    /// First host id of a slot.
    pub(crate) fn uid_base_of(&self, slot: u32) -> u32 {
        self.uid_base + slot * ID_RANGE
    }
}

/// Ids in a sandbox's range.
pub(crate) const ID_RANGE: u32 = 65_536;

/// Smallest memory limit in MiB a sandbox can be made in.
const MEMORY_MIN_MIB: u32 = 8;

/// Checks a specification and writes it as a request; descriptors are the caller's matter.
pub(crate) fn request(spec: &SandboxSpec) -> Result<StartRequest, DriverError> {
    if spec.argv.is_empty() {
        return Err(DriverError::InvalidSpec("argv is empty".to_owned()));
    }
    checked(spec)
}

/// As [`request`], for a sandbox that may have no program yet.
pub(crate) fn checked(spec: &SandboxSpec) -> Result<StartRequest, DriverError> {
    let invalid = |text: String| Err(DriverError::InvalidSpec(text));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if spec.id.is_empty() || spec.id.len() > 64 || !spec.id.chars().all(plain) {
        return invalid(format!("id {:?}", spec.id));
    }
    if spec
        .argv
        .first()
        .is_some_and(|program| !program.starts_with('/'))
    {
        return invalid("argv[0] must be an absolute path".to_owned());
    }
    if spec
        .env
        .iter()
        .any(|(name, _)| name.is_empty() || name.contains('='))
    {
        return invalid("an environment variable's name is empty or has a =".to_owned());
    }
    let values = spec
        .env
        .iter()
        .map(|(_, value)| value)
        .chain(&spec.argv)
        .chain(&spec.extensions.programs)
        .chain(
            spec.extensions
                .env
                .iter()
                .flat_map(|(name, value)| [name, value]),
        )
        .chain(spec.env.iter().map(|e| &e.0));
    if values
        .chain([&spec.hostname])
        .any(|text| text.contains('\0'))
    {
        return invalid("argv, env or hostname has a NUL byte".to_owned());
    }
    if spec.memory_mib < MEMORY_MIN_MIB
        || spec.pids_max < 2
        || spec.tmp_mib == 0
        || spec.hostname.len() > 64
    {
        return invalid("memory_mib, pids_max, tmp_mib or hostname is out of range".to_owned());
    }
    let mounts = spec.mounts.iter().map(|mount| {
        Ok(MountRequest {
            source: absolute(&mount.source)?,
            target: absolute(&mount.target)?,
            writable: mount.writable,
        })
    });
    Ok(StartRequest {
        key: 0,
        root: absolute(&spec.root)?,
        mounts: mounts.collect::<Result<_, DriverError>>()?,
        argv: spec.argv.clone(),
        env: assignments(&spec.env),
        cwd: absolute(&spec.cwd)?,
        hostname: spec.hostname.clone(),
        tmp_mib: spec.tmp_mib,
        uid_base: 0,
        tasks: 0,
        cgroup_dir: false,
        scratch: false,
        extensions: spec.extensions.programs.clone(),
        extension_env: assignments(&spec.extensions.env),
        held: false,
    })
}

fn assignments(env: &[(String, String)]) -> Vec<String> {
    env.iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

fn absolute(path: &Path) -> Result<String, DriverError> {
    match path.to_str() {
        Some(text) if path.is_absolute() && !text.contains('\0') => Ok(text.to_owned()),
        Some(_) | None => Err(DriverError::InvalidSpec(format!(
            "{} is not an absolute UTF-8 path",
            path.display()
        ))),
    }
}
