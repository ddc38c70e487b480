//! The native [`Driver`]: takes parts from the pools, has the spawner put them together.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::unix::pipe::Receiver;

use super::cgroup::{self, Entrance, Hierarchy, Limits};
use super::cleaner::{Cleaner, OwnedGroup, OwnedScratch};
use super::client::Client;
use super::config::{NativeConfig, Network, request};
use super::control::Sandbox;
use super::diagnosis::diagnose;
use super::netns::{self, Netns, NetnsListener};
use super::network::Egress;
use super::prefab::Prefab;
use super::processes::{Supervision, output_pipe};
use super::scratch::ScratchPool;
use super::slots::{Slot, Slots};
use super::wire::{MountRequest, StartRequest};
use crate::sandbox::driver::{
    Diagnosis, Driver, DriverError, Prepared, SandboxSpec, StartedSandbox,
};

/// Descriptors the worker or the spawner may need for one sandbox: listener, output, process, image, freezer, connections,
/// and two where there are extensions.
const DESCRIPTORS_EACH: u64 = 11;

/// Descriptors for everything else: pools of parts, code, connections of the cluster.
const DESCRIPTORS_OTHER: u64 = 512;

/// Whom a sandbox with a network asks for names.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Makes sandboxes on this host.
#[derive(Debug)]
pub struct NativeDriver {
    config: NativeConfig,
    slots: Slots,
    diagnoses: Vec<Diagnosis>,
    /// `None` after shutdown.
    parts: Mutex<Option<Arc<Parts>>>,
    /// The live spawner; replaced when it is found dead.
    client: tokio::sync::Mutex<Option<Arc<Client>>>,
    cleaner: Mutex<Option<JoinHandle<()>>>,
    /// `None` on a host without cgroups.
    hierarchy: Option<Arc<dyn Hierarchy>>,
}

/// The pools.
#[derive(Debug)]
struct Parts {
    netns: Prefab<Netns>,
    /// `None` where sandboxes have loopback alone.
    egress: Option<Egress>,
    /// `None` on a host without cgroups.
    groups: Option<Prefab<OwnedGroup>>,
    /// `None` when `/tmp` is a tmpfs.
    scratch: Option<ScratchPool>,
    cleaner: Cleaner,
}

impl Parts {
    /// A group with its limits set, and the way into it.
    async fn group(
        &self,
        spec: &SandboxSpec,
    ) -> Result<(Option<OwnedGroup>, Entrance), DriverError> {
        let Some(groups) = &self.groups else {
            return Ok((None, Entrance::default()));
        };
        let owned = groups.take().await.map_err(setup("make a cgroup"))?;
        let limits = Limits {
            memory_mib: spec.memory_mib,
            pids_max: spec.pids_max,
        };
        owned
            .group()
            .set_limits(limits)
            .map_err(setup("set limits"))?;
        let entrance = owned.group().entrance().map_err(setup("open a cgroup"))?;
        Ok((Some(owned), entrance))
    }

    /// A network namespace; with a way out the request names the servers that names are asked of.
    async fn network(
        &self,
        spec: &SandboxSpec,
        request: &mut StartRequest,
    ) -> Result<Netns, DriverError> {
        let pool = match &self.egress {
            Some(egress) if !spec.isolated => {
                // An image without the file asks whom it likes.
                if spec
                    .root
                    .join(RESOLV_CONF.trim_start_matches('/'))
                    .is_file()
                {
                    request.mounts.push(MountRequest {
                        source: egress.resolv_conf.to_string_lossy().into_owned(),
                        target: RESOLV_CONF.to_owned(),
                        writable: false,
                    });
                }
                &egress.netns
            }
            Some(_) | None => &self.netns,
        };
        let made = pool.take().await;
        made.map_err(setup("make a network namespace"))
    }

    /// A file system for `/tmp`.
    async fn scratch(
        &self,
        spec: &SandboxSpec,
        uid_base: u32,
    ) -> Result<Option<OwnedScratch>, DriverError> {
        let Some(pool) = &self.scratch else {
            return Ok(None);
        };
        let scratch = pool
            .take(spec.tmp_mib, uid_base)
            .await
            .map_err(setup("make /tmp"))?;
        Ok(Some(self.cleaner.own_scratch(scratch)))
    }
}

pub(super) fn setup(step: &str) -> impl FnOnce(io::Error) -> DriverError {
    let step = step.to_owned();
    |source| DriverError::Setup { step, source }
}

impl NativeDriver {
    /// Checks the host, removes what an earlier incarnation of this worker left, starts pools and spawner.
    ///
    /// Two workers of one host must not share a `worker_id`: each would take the other's cgroups for leftovers.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] with the first fatal diagnosis, or the step that failed.
    pub async fn open(config: NativeConfig) -> Result<Self, DriverError> {
        config.validate()?;
        let hierarchy = cgroup::detect(&config.worker_id);
        let mut diagnoses = diagnose(
            hierarchy.as_ref().err().map(String::as_str),
            config.allow_no_cgroups,
        );
        for found in &diagnoses {
            if found.fatal {
                return Err(DriverError::Unsupported(found.message.clone()));
            }
            tracing::warn!(diagnosis = found.message, "this host lacks something");
        }
        let sandboxes_max = config.sandboxes_max.min(sandboxes_with_descriptors());
        if sandboxes_max < config.sandboxes_max {
            let message = format!(
                "at most {sandboxes_max} sandboxes at a time, not {}: raise the limit of open files (LimitNOFILE, ulimit -Hn)",
                config.sandboxes_max
            );
            tracing::warn!(diagnosis = message, "this host lacks something");
            diagnoses.push(Diagnosis {
                fatal: false,
                message,
            });
        }
        let (cleaner, thread) = Cleaner::start().map_err(setup("start the cleaner"))?;
        let hierarchy: Option<Arc<dyn Hierarchy>> = hierarchy.ok().map(Arc::from);
        let groups = match &hierarchy {
            Some(hierarchy) => {
                Some(group_pool(Arc::clone(hierarchy), cleaner.clone(), config.cgroup_pool).await?)
            }
            None => None,
        };
        let scratch = scratch_pool(&config).await.unwrap_or_else(|diagnosis| {
            tracing::warn!(diagnosis = diagnosis.message, "this host lacks something");
            diagnoses.push(diagnosis);
            None
        });
        let netns =
            netns::prefab(config.netns_pool).map_err(setup("start the network namespace pool"))?;
        let egress = egress(&config, &mut diagnoses).await?;
        let client = Client::launch(&config).await?;
        Ok(Self {
            slots: Slots::new(sandboxes_max),
            config,
            diagnoses,
            parts: Mutex::new(Some(Arc::new(Parts {
                netns,
                egress,
                groups,
                scratch,
                cleaner,
            }))),
            client: tokio::sync::Mutex::new(Some(client)),
            cleaner: Mutex::new(Some(thread)),
            hierarchy,
        })
    }

    fn parts(&self) -> Option<Arc<Parts>> {
        self.parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The spawner, started anew if the last one died.
    pub(super) async fn client(&self) -> Result<Arc<Client>, DriverError> {
        let mut client = self.client.lock().await;
        if self.parts().is_none() {
            return Err(DriverError::Gone);
        }
        match &*client {
            Some(live) if !live.is_gone() => Ok(Arc::clone(live)),
            Some(_) | None => {
                let fresh = Client::launch(&self.config).await?;
                *client = Some(Arc::clone(&fresh));
                Ok(fresh)
            }
        }
    }
}

/// Raises this process's limit of open files as far as it may (the spawner inherits it), and says for how many
/// sandboxes that is enough. A spawner that runs out of descriptors ends, and all sandboxes with it.
fn sandboxes_with_descriptors() -> u32 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return u32::MAX;
    };
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    let sandboxes = limit.saturating_sub(DESCRIPTORS_OTHER) / DESCRIPTORS_EACH;
    u32::try_from(sandboxes).unwrap_or(u32::MAX).max(1)
}

/// Sweeps leftovers, then keeps groups ready.
async fn group_pool(
    hierarchy: Arc<dyn Hierarchy>,
    cleaner: Cleaner,
    size: usize,
) -> Result<Prefab<OwnedGroup>, DriverError> {
    let swept =
        tokio::task::spawn_blocking(move || hierarchy.sweep().map(|swept| (swept, hierarchy)));
    let swept = swept
        .await
        .map_err(|error| setup("sweep cgroups")(io::Error::other(error)))?;
    let (swept, hierarchy) = swept.map_err(setup("sweep cgroups"))?;
    if swept > 0 {
        tracing::warn!(swept, "killed sandboxes of an earlier incarnation");
    }
    // Unique among the groups of this and, should some be stuck, earlier processes.
    let process = std::process::id();
    let serial = AtomicU64::new(0);
    let make = move || {
        let name = format!("{process}-{}", serial.fetch_add(1, Ordering::Relaxed));
        hierarchy.create(&name).map(|group| cleaner.own(group))
    };
    Prefab::start("cgroups", size, make).map_err(setup("start the cgroup pool"))
}

/// `None` when not wanted; a diagnosis when wanted and impossible.
async fn scratch_pool(config: &NativeConfig) -> Result<Option<ScratchPool>, Diagnosis> {
    let Some(directory) = config.scratch_dir.clone() else {
        return Ok(None);
    };
    let size = config.scratch_pool;
    let started = tokio::task::spawn_blocking(move || ScratchPool::start(&directory, size)).await;
    started
        .map_err(io::Error::other)
        .flatten()
        .map(Some)
        .map_err(|error| Diagnosis {
            fatal: false,
            message: format!(
                "/tmp is a tmpfs, charged to the function's memory: no disk images here ({error})"
            ),
        })
}

/// The way out for sandboxes, if they are to have one.
async fn egress(
    config: &NativeConfig,
    diagnoses: &mut Vec<Diagnosis>,
) -> Result<Option<Egress>, DriverError> {
    let (network, is_needed) = match &config.network {
        Network::Isolated => return Ok(None),
        Network::Egress(network) => (network.clone(), true),
        Network::EgressIfPossible(network) => (network.clone(), false),
    };
    let (state_dir, size) = (config.state_dir.clone(), config.netns_pool);
    let started =
        tokio::task::spawn_blocking(move || Egress::start(&network, &state_dir, size)).await;
    match started.map_err(io::Error::other).flatten() {
        Ok(egress) => Ok(Some(egress)),
        Err(error) if is_needed => Err(setup("give functions a network")(error)),
        Err(error) => {
            let message = format!("functions have no network, only loopback: {error}");
            tracing::warn!(diagnosis = message, "this host lacks something");
            diagnoses.push(Diagnosis {
                fatal: false,
                message,
            });
            Ok(None)
        }
    }
}

/// What one sandbox is made of.
#[derive(Debug)]
pub(in crate::sandbox) struct Provided {
    pub(in crate::sandbox) request: StartRequest,
    pub(in crate::sandbox) slot: Slot,
    pub(in crate::sandbox) netns: Netns,
    /// `None` on a host without cgroups.
    pub(in crate::sandbox) group: Option<OwnedGroup>,
    pub(in crate::sandbox) entrance: Entrance,
    /// `None` when `/tmp` is a tmpfs.
    pub(in crate::sandbox) scratch: Option<OwnedScratch>,
    pub(in crate::sandbox) output: Receiver,
    /// The sandbox's end of the output.
    pub(in crate::sandbox) output_write: OwnedFd,
}

impl NativeDriver {
    /// Takes the parts of a sandbox from the pools. Its host ids begin at `uid_base`, or at those of its slot.
    pub(in crate::sandbox) async fn provide(
        &self,
        spec: &SandboxSpec,
        uid_base: Option<u32>,
    ) -> Result<Provided, DriverError> {
        self.provide_as(request(spec)?, spec, uid_base).await
    }

    pub(super) async fn provide_as(
        &self,
        mut request: StartRequest,
        spec: &SandboxSpec,
        uid_base: Option<u32>,
    ) -> Result<Provided, DriverError> {
        let parts = self.parts().ok_or(DriverError::Gone)?;
        let slot = self
            .slots
            .take()
            .ok_or_else(|| DriverError::TooManySandboxes {
                limit: self.slots.limit(),
            })?;
        let netns = parts.network(spec, &mut request).await?;
        let (group, entrance) = parts.group(spec).await?;
        request.uid_base = uid_base.unwrap_or_else(|| self.config.uid_base_of(slot.number));
        let scratch = parts.scratch(spec, request.uid_base).await?;
        request.scratch = scratch.is_some();
        let (output, output_write) = output_pipe().map_err(setup("make the output pipe"))?;
        Ok(Provided {
            request,
            slot,
            netns,
            group,
            entrance,
            scratch,
            output,
            output_write,
        })
    }
}

#[async_trait]
impl Driver for NativeDriver {
    async fn start(&self, spec: SandboxSpec) -> Result<StartedSandbox, DriverError> {
        let client = self.client().await?;
        let Provided {
            mut request,
            slot,
            netns,
            group,
            entrance,
            scratch,
            output,
            output_write,
        } = self.provide(&spec, None).await?;
        let supervision = if spec.extensions.programs.is_empty() {
            None
        } else {
            Some(Supervision::make().map_err(setup("make the socket of a sandbox's init"))?)
        };
        let listener = tokio::net::TcpListener::from_std(netns.listener)
            .map_err(setup("watch the listener"))?;
        request.tasks = entrance.tasks.len();
        request.cgroup_dir = entrance.directory.is_some();
        // The sandbox owns the image; the message carries a descriptor of its own.
        let mount = scratch
            .as_ref()
            .map(|owned| owned.scratch().descriptor().try_clone_to_owned());
        let mount = mount.transpose().map_err(setup("duplicate a descriptor"))?;
        let mut descriptors = vec![netns.descriptor.as_fd(), output_write.as_fd()];
        descriptors.extend(
            entrance
                .tasks
                .iter()
                .chain(&entrance.directory)
                .chain(&mount)
                .map(AsFd::as_fd),
        );
        if let Some(supervision) = &supervision {
            descriptors.extend([supervision.write.as_fd(), supervision.inside.as_fd()]);
        }
        let sandbox = Sandbox::new(group, scratch);
        let control = client.start(request, &descriptors, sandbox, slot).await?;
        Ok(StartedSandbox {
            runtime_api: Box::new(NetnsListener(listener)),
            output: Box::new(output),
            control: Box::new(control),
            extensions: supervision.map(Supervision::into_started),
        })
    }

    async fn prepare(&self, spec: SandboxSpec) -> Result<Box<dyn Prepared>, DriverError> {
        self.prepare_held(&spec).await
    }

    fn can_prepare(&self) -> bool {
        true
    }

    fn diagnose(&self) -> Vec<Diagnosis> {
        self.diagnoses.clone()
    }

    async fn shutdown(&self) {
        let parts = self
            .parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let parts = parts.and_then(Arc::into_inner);
        if let Some(egress) = parts.and_then(|parts| parts.egress) {
            // What it cannot take away is warned of.
            let _ = tokio::task::spawn_blocking(move || egress.remove()).await;
        }
        let client = self.client.lock().await.take();
        if let Some(client) = client {
            client.close().await;
        }
        let cleaner = self
            .cleaner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(cleaner) = cleaner {
            // Ends by itself: it gives up on each group after a while.
            let _ = tokio::task::spawn_blocking(move || cleaner.join()).await;
        }
        if let Some(hierarchy) = &self.hierarchy {
            hierarchy.retire();
        }
        // Best effort: empty directories that the next incarnation would use again.
        for place in [
            self.config.state_dir.join("dev"),
            self.config.state_dir.join("stage"),
        ] {
            let _ = std::fs::remove_dir(place);
        }
        let _ = std::fs::remove_dir(&self.config.state_dir);
        if let Some(directory) = &self.config.scratch_dir {
            let _ = std::fs::remove_dir(directory);
        }
    }
}

impl Drop for NativeDriver {
    fn drop(&mut self) {
        if let Some(client) = self.client.get_mut() {
            client.hang_up();
        }
    }
}
